"""Questions about segments, from a file or without hints."""

import json

import pytest

from m3et_ros.data.action_questions import NEXT, masked_questions
from m3et_ros.data.epic.annotations import Segment
from m3et_ros.data.epic.questions import questions_of
from m3et_ros.data.errors import InputError

SEGMENTS = [Segment(f'P01_01_{i}', 'P01_01', 'P01', i, i + 1, 0, 0) for i in range(2)]


def test_questions_of_a_file_have_the_mask_of_the_tokenizer(tmp_path):
    own = {s.narration_id: {'noun': f' What is <mask> {s.start_s:g}?', 'verb': 'What is done?'} for s in SEGMENTS}
    (tmp_path / 'q.json').write_text(json.dumps(own | {'other': 3}))
    assert questions_of(SEGMENTS, 'recognition', tmp_path / 'q.json') == {
        'P01_01_0': ('What is [MASK] 0?', 'What is done?'),
        'P01_01_1': ('What is [MASK] 1?', 'What is done?'),
    }


@pytest.mark.parametrize(
    'document',
    [[], {'P01_01_0': {'noun': 'a', 'verb': 'b'}}, {'P01_01_0': {'noun': 'a', 'verb': 'b'}, 'P01_01_1': {'noun': ''}}],
    ids=['a list', 'one segment', 'an empty question'],
)
def test_a_file_that_lacks_questions_is_refused(tmp_path, document):
    (tmp_path / 'q.json').write_text(json.dumps(document))
    missing = 2 if document == [] else 1
    with pytest.raises(InputError, match=f'lacks the questions of {missing} segments'):
        questions_of(SEGMENTS, 'recognition', tmp_path / 'q.json')


def test_questions_without_a_file_hold_no_label():
    assert questions_of(SEGMENTS, 'anticipation', None) == {s.narration_id: NEXT for s in SEGMENTS}
    found = questions_of(SEGMENTS, 'recognition', None)
    assert found == {s.narration_id: masked_questions(s.narration_id) for s in SEGMENTS}
