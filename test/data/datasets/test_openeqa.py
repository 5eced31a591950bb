"""OpenEQA's schema: what is written is read back, and what is wrong is named by its record."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from shared_data import SHARED

from m3et_ros.data.datasets.openeqa import (
    CATEGORIES,
    EqaQuestion,
    episode_name,
    read_question_files,
    read_questions,
    read_results,
    write_questions,
    write_results,
)
from m3et_ros.data.errors import InputError

GOOD = {
    'question': 'Where is the mirror?',
    'answer': 'by the stairs',
    'category': 'object localization',
    'question_id': 'a1',
    'episode_history': 'hm3d-v0/001-hm3d-TPhiubUHKcP',
}
OFFICIAL = SHARED / 'openeqa/open-eqa-v0.json'


def written(path, document):
    path.write_text(json.dumps(document))
    return path


def test_questions_are_read_back_as_written(tmp_path):
    questions = [
        EqaQuestion(**GOOD, extra_answers=('near the door', 'på trappen')),
        EqaQuestion(**GOOD | {'question_id': 'a2', 'episode_history': 'kitchens/20000.mcap'}),
        EqaQuestion(**GOOD | {'question_id': 'a3'}, time=12.3456789, answers=('yes', 'no', '', 'yes')),
    ]
    write_questions(tmp_path / 'q.json', questions)
    assert read_questions(tmp_path / 'q.json') == questions
    assert questions[0].references == ('by the stairs', 'near the door', 'på trappen')
    assert [question.episode for question in questions[:2]] == ['001-hm3d-TPhiubUHKcP', '20000']
    assert json.loads((tmp_path / 'q.json').read_text())[1].keys() == GOOD.keys()


def test_times_and_answers_of_people_are_read_as_they_come(tmp_path):
    vqav2 = [{'answer': 'down', 'answer_confidence': 'yes', 'answer_id': 1}] * 10
    more = ({'time': 0}, {'time': 7, 'answers': vqav2}, {'time': None, 'answers': None}, {'answers': []})
    path = written(tmp_path / 'q.json', [GOOD | {'question_id': str(n)} | own for n, own in enumerate(more)])
    assert [(question.time, question.answers) for question in read_questions(path)] == [
        (0, ()),
        (7, ('down',) * 10),
        (None, ()),
        (None, ()),
    ]


def test_a_bag_and_its_file_have_one_name():
    assert {episode_name(name) for name in ('a/b', 'b/', Path('x/b.mcap'), 'b.db3', 'b.mcap.zstd', 'x/b.db3.zst')} == {
        'b'
    }
    assert episode_name('take.2') == 'take.2' and episode_name('take.zstd') == 'take.zstd'


@pytest.mark.parametrize(
    ('document', 'words'),
    [
        ({'questions': []}, ['holds a dict', 'list of objects']),
        ([], ['an empty list']),
        ([GOOD, 'text'], ['record 2', "'text'"]),
        ([GOOD, GOOD | {'question_id': 'b', 'answer': 5}], ['record 2', "question_id 'b'", "'answer' is '5'"]),
        ([GOOD | {'question': '  '}], ['record 1', "'question'", 'not empty']),
        ([{name: GOOD[name] for name in GOOD if name != 'category'}], ['record 1', "no 'category'", 'episode_history']),
        ([GOOD | {'extra_answers': 'one'}], ['record 1', "'extra_answers'", 'a list']),
        ([GOOD | {'extra_answers': ['one', 2]}], ['record 1', "'extra_answers'"]),
        *(
            ([GOOD, GOOD | {'question_id': 'b', 'time': time}], ['record 2', "question_id 'b'", "'time'", '0 or more'])
            for time in (-0.1, 'now', True, [1], float('nan'), float('inf'), 10**400)
        ),
        *(
            ([GOOD | {'answers': answers}], ['record 1', "'answers'", '4 or more'])
            for answers in ('yes', ['yes'] * 3, ['yes'] * 9 + [1], [{'said': 'yes'}] * 10, {'answer': 'yes'}, 0)
        ),
        ([GOOD, GOOD], ["'a1'", 'several records']),
    ],
)
def test_a_wrong_schema_names_the_record(tmp_path, document, words):
    path = written(tmp_path / 'q.json', document)
    with pytest.raises(InputError) as refused:
        read_questions(path)
    assert refused.value.reason == 'eqa_schema'
    assert all(word in str(refused.value) for word in ('q.json', *words)), refused.value


def test_a_file_that_is_cut_off_or_missing_is_a_sentence(tmp_path):
    path = written(tmp_path / 'q.json', [GOOD])
    path.write_text(path.read_text()[:40])
    for file, reason in ((path, 'data_format'), (tmp_path / 'none.json', 'data_missing')):
        with pytest.raises(InputError, match=file.name) as refused:
            read_questions(file)
        assert refused.value.reason == reason


def test_two_files_may_not_share_a_question(tmp_path):
    one = written(tmp_path / 'one.json', [GOOD])
    other = written(tmp_path / 'other.json', [GOOD | {'question_id': 'b'}])
    assert [question.question_id for question in read_question_files([one, other])] == ['a1', 'b']
    with pytest.raises(InputError, match='one.json and .*one.json.*a1'):
        read_question_files([one, one])


def test_results_are_read_back_as_written(tmp_path):
    write_results(tmp_path / 'r.json', {'b': 'yes', 'a': None})
    assert json.loads((tmp_path / 'r.json').read_text()) == [
        {'question_id': 'a', 'answer': None},
        {'question_id': 'b', 'answer': 'yes'},
    ]
    assert read_results(tmp_path / 'r.json') == {'a': None, 'b': 'yes'}
    for document, words in (
        ([{'answer': 'x'}], 'record 1 has no'),
        ([{'question_id': 'a', 'answer': 3}], 'null'),
        ([{'question_id': 'a', 'answer': 'x'}] * 2, 'record 2.*before'),
    ):
        with pytest.raises(InputError, match=words):
            read_results(written(tmp_path / 'wrong.json', document))


def test_no_room_is_a_sentence(tmp_path):
    with pytest.raises(InputError, match='cannot be written') as refused:
        write_questions(tmp_path / 'none' / 'q.json', [EqaQuestion(**GOOD)])
    assert refused.value.reason == 'out_unwritable'


@pytest.mark.skipif(not OFFICIAL.exists(), reason="OpenEQA's own file is not beside the checkout")
def test_the_official_file_is_read_whole():
    questions = read_questions(OFFICIAL)
    assert len(questions) == 1636 and {question.category for question in questions} == set(CATEGORIES)
    assert sum(bool(question.extra_answers) for question in questions) == 263
    assert len({question.episode_history for question in questions}) == 152
    assert all(answer.strip() for question in questions for answer in question.references)


def test_optional_fields_are_written_only_where_there_are_any_and_second_0_is_one(tmp_path):
    bare = EqaQuestion('What is it?', 'cup', 'object recognition', 'a', 'bag')
    full = replace(bare, question_id='b', extra_answers=('mug',), time=0.0, answers=('cup', 'cup', 'mug', 'bowl'))
    write_questions(tmp_path / 'q.json', [bare, full])
    assert read_questions(tmp_path / 'q.json') == [bare, full]
    first, second = json.loads((tmp_path / 'q.json').read_text())
    assert set(second) - set(first) == {'extra_answers', 'time', 'answers'} and second['time'] == 0
