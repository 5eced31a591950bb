"""Words of verbs and nouns in the terms of a model, and files that are read again as they were written."""

import csv

import pytest

from m3et_ros.data.epic.annotations import NO_CLASS, Segment, read_segments
from m3et_ros.data.epic.labels import COLUMNS, Labelled, labelled, write_segments
from m3et_ros.data.errors import InputError
from m3et_ros.data.frame import Labels

LABELS = Labels((), (), (), ('take', 'turn-on'), ('tap', 'board:chopping'), verb_ids=(0, 6), noun_ids=(1, 40))


def segment(verb, noun, ids=(NO_CLASS, NO_CLASS), number=0):
    return Segment(f'k_{number}', 'k', 'P', 1.25, 3662.5, *ids, f'{verb} {noun}', verb, noun)


@pytest.mark.parametrize(
    ('verb', 'noun', 'ids', 'found'),
    [
        ('turn-on', 'board:chopping', (0, 0), (1, 1)),
        ('Turn on', ' chopping board', (NO_CLASS, NO_CLASS), (1, 1)),
        ('turn_on', 'Chopping-Board', (NO_CLASS, NO_CLASS), (1, 1)),
        ('', '', (6, 40), (1, 1)),
        ('take', '', (6, 1), (0, 0)),
    ],
)
def test_a_word_counts_in_any_form_and_before_the_id(verb, noun, ids, found):
    one = segment(verb, noun, ids)
    assert labelled([one], LABELS)[0] == [Labelled(one, *found)]


def test_without_published_ids_a_class_is_a_place():
    labels = Labels((), (), (), LABELS.verbs, LABELS.nouns)
    assert [
        (one.verb, one.noun) for one in labelled([segment('', '', (1, 0)), segment('', '', (2, 0))], labels)[0]
    ] == [(1, 0)]


def test_unknown_words_are_counted():
    known, unknown = labelled(
        [segment('take', 'tap'), segment('fly', 'kite'), segment('take', 'kite'), segment('', 'tap', (5, NO_CLASS))],
        LABELS,
    )
    assert len(known) == 1 and unknown.segments == 3
    assert unknown.verbs == {'fly': 1, 'class 5': 1} and unknown.nouns == {'kite': 2}


def test_a_file_is_read_as_it_was_written(tmp_path):
    path = tmp_path / 'segments.csv'
    written = [segment('turn-on', 'tap', (6, 1)), segment('take', 'a, "b"', number=1)]
    write_segments(path, written, fps=10)
    assert path.read_text().splitlines()[0] == ','.join(COLUMNS)
    assert '00:00:01.250,01:01:02.500,13,36626,' in path.read_text()
    read = read_segments(path, None).segments
    assert [(s.narration_id, s.start_s, s.stop_s, s.verb_word, s.noun_word) for s in read] == [
        (s.narration_id, s.start_s, s.stop_s, s.verb_word, s.noun_word) for s in written
    ]
    with pytest.raises(InputError, match='cannot be written'):
        write_segments(tmp_path / 'none' / 'segments.csv', written, fps=10)


def test_every_column_is_written(tmp_path):
    """Columns by name: their order is checked above."""
    one = Segment('k_0', 'k', 'P', 1.25, 3.5, 7, 0, 'turns on the tap', 'turn-on', 'tap')
    write_segments(tmp_path / 'a.csv', [one], fps=10)
    with (tmp_path / 'a.csv').open(newline='') as file:
        (row,) = csv.DictReader(file)
    assert row == {
        'narration_id': 'k_0',
        'participant_id': 'P',
        'video_id': 'k',
        'narration_timestamp': '00:00:01.250',
        'start_timestamp': '00:00:01.250',
        'stop_timestamp': '00:00:03.500',
        'start_frame': '13',
        'stop_frame': '36',
        'narration': 'turns on the tap',
        'verb': 'turn-on',
        'verb_class': '7',
        'noun': 'tap',
        'noun_class': '0',
        'all_nouns': "['tap']",
        'all_noun_classes': '[0]',
    }
