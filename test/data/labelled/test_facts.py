"""The tables that people correct: written, read back, corrected, and refused line by line."""

import math

import pytest

from m3et_ros.data.errors import InputError
from m3et_ros.data.labelled.facts import AnsweredFact, ObjectFact, names_of, read_facts, write_facts

CUP = ObjectFact(0, 1, 'cup', 'thing', 0.75, 'red@1', 0.1, 0.2, 0.3, 0.4, 0.2, 0.04, 1.25, 'red', 'on the table')
MAYBE = ObjectFact(1, 0, 'book', 'unsure', 0.3, 'red@1', 0.0, 0.0, 0.5, 0.5, 0.25, 0.25)


def corrected(path, *words):
    """Write the two facts, put words into the column correct, and read them."""
    write_facts(path, [CUP, MAYBE], ObjectFact)
    head, *lines = path.read_text().splitlines()
    path.write_text('\n'.join([head, *(line + word for line, word in zip(lines, words, strict=True))]))
    return read_facts(path, ObjectFact, 2)


def test_facts_are_read_as_they_were_written(tmp_path):
    first, second = corrected(tmp_path / 'objects.csv', '', '')
    assert first == CUP
    assert math.isnan(second.distance) and (second.name, second.part, second.colour) == ('book', 'unsure', '')


def test_a_corrected_row_takes_the_right_name_and_is_sure(tmp_path):
    first, second = corrected(tmp_path / 'objects.csv', 'glass', 'book')
    assert (first.name, first.part, first.confidence) == ('glass', 'thing', 1.0)
    assert (second.name, second.part, second.confidence) == ('book', 'thing', 1.0)


def test_a_dash_leaves_a_row_out(tmp_path):
    assert [fact.name for fact in corrected(tmp_path / 'objects.csv', '-', '')] == ['book']


def test_answers_are_corrected_likewise(tmp_path):
    path = tmp_path / 'questions.csv'
    write_facts(path, [AnsweredFact(0, 'What room, exactly?', 'bath', 0.5, 'vlm@1')], AnsweredFact)
    path.write_text(path.read_text().rstrip() + 'kitchen\n')
    (fact,) = read_facts(path, AnsweredFact, 1)
    assert (fact.question, fact.answer, fact.confidence) == ('What room, exactly?', 'kitchen', 1.0)


@pytest.mark.parametrize(
    ('before', 'after', 'said'),
    [
        ('thing', 'thingy', 'part'),
        ('0,1,cup', '7,1,cup', 'frame is 7'),
        ('0,1,cup', '0,255,cup', 'number is 255'),
        ('0.75', '1.75', 'confidence is 1.75'),
        ('0.75', 'much', 'much'),
    ],
    ids=['part', 'frame', 'number', 'confidence', 'no number'],
)
def test_a_spoilt_row_is_refused_with_its_line(tmp_path, before, after, said):
    path = tmp_path / 'objects.csv'
    write_facts(path, [CUP], ObjectFact)
    path.write_text(path.read_text().replace(before, after))
    with pytest.raises(InputError, match=f'line 2 of .*{said}.*correct') as refused:
        read_facts(path, ObjectFact, 2)
    assert refused.value.reason == 'labels_table'


def test_a_missing_table_is_refused(tmp_path):
    with pytest.raises(InputError, match='label the recording again'):
        read_facts(tmp_path / 'objects.csv', ObjectFact, 2)


def test_names_come_by_how_often_they_occur():
    assert names_of([MAYBE, CUP, MAYBE]) == ['book', 'cup']
    assert names_of([MAYBE, CUP, MAYBE], ('thing',)) == ['cup']
