"""Wordings and answers of questions about a frame."""

import json
import string
from pathlib import Path

import pytest

import m3et_ros
from m3et_ros.data.kitchen.questions.frame_wordings import (
    ABSENT,
    ANSWERS,
    CLOSED,
    FARTHEST,
    FIRST_ANSWERS,
    FURTHER_PHRASINGS,
    KINDS,
    MOST,
    NOT_IN_VIEW,
    PHRASINGS,
    SIDES,
    STEP,
    action,
    coloured,
    example_fields,
    metres,
    phrasings,
    yes_or_no,
)
from m3et_ros.data.kitchen.sim.vocabulary import AFFORDS, CLASSES, COLOURS, NOUNS, PLACES, spoken


def test_the_answers_are_those_of_the_shipped_checkpoint_in_their_order():
    labels = json.loads((Path(m3et_ros.__file__).parent / 'weights' / 'm3et_kitchen' / 'labels.json').read_text())
    assert labels['answers'] == list(FIRST_ANSWERS) and labels['classes'] == list(CLASSES)
    assert (*FIRST_ANSWERS, NOT_IN_VIEW) == ANSWERS and len(ANSWERS) == 354


def test_numbers_and_distances_end_at_their_limits():
    assert {str(MOST), metres(int(FARTHEST / STEP)), '0', metres(1)} <= set(ANSWERS)
    assert not {str(MOST + 1), metres(int(FARTHEST / STEP) + 1), metres(0)} & set(ANSWERS)
    assert (metres(1), metres(3), metres(10)) == ('0.5 m', '1.5 m', '5.0 m')


def test_every_action_place_colour_and_class_is_an_answer():
    actions = {action(verb, noun) for verb, nouns in AFFORDS.items() for noun in nouns}
    assert actions | set(PLACES) | set(COLOURS) | set(CLASSES) | {'nothing', 'turn on'} <= set(ANSWERS)
    assert (action('turn-off', 'tap'), coloured('red', 'board:chopping')) == ('turn off tap', 'red chopping board')
    assert (yes_or_no(True), yes_or_no(False)) == ('yes', 'no')


def test_version_2_adds_wordings_and_kinds_after_those_of_version_1():
    assert phrasings('colour', 1) == ('What colour is the {a}?', 'Which colour does the {a} have?')
    assert phrasings('colour', 2)[:2] == phrasings('colour', 1) and 'What color is the {a}?' in phrasings('colour', 2)
    assert set(FURTHER_PHRASINGS) == set(KINDS) > set(PHRASINGS)
    assert all(2 <= len(own) <= 4 for own in FURTHER_PHRASINGS.values())
    with pytest.raises(KeyError):
        phrasings('colour_at', 1)


def test_open_and_absent_kinds_are_listed():
    assert {'is_colour', 'left_of', 'used'} <= CLOSED < set(KINDS) > set(ABSENT)
    assert not CLOSED & {'colour', 'closer', 'region', 'held', 'colour_at', 'what_at'}


def test_further_wordings_say_left_and_right_only_of_sides():
    """A mirrored picture exchanges these words in its question."""
    words = {kind: {word for one in own for word in one[:-1].split()} for kind, own in FURTHER_PHRASINGS.items()}
    assert {kind for kind, own in words.items() if {'left', 'right'} & own} == {'region', 'left_of', 'right_of'}


@pytest.mark.parametrize('kind', KINDS)
def test_the_wordings_of_a_kind_are_questions_with_the_same_fields(kind):
    wordings = phrasings(kind, 2)
    fields = [{name for _, name, _, _ in string.Formatter().parse(wording) if name} for wording in wordings]
    assert all(wording.endswith('?') and wording[0].isupper() for wording in wordings)
    assert all(own <= set(example_fields(0)) for own in fields)
    noun_fields = [{'a' if name == 'article' else name for name in own} for own in fields]
    assert all(own == noun_fields[0] for own in noun_fields), 'article and a are the same noun'


def test_no_wording_belongs_to_two_kinds():
    wordings = [wording for kind in KINDS for wording in phrasings(kind, 2)]
    assert len(set(wordings)) == len(wordings)


def test_example_fields_hold_every_noun_and_fill_every_wording():
    fields = [example_fields(index) for index in range(len(NOUNS))]
    assert [own['a'] for own in fields] == [spoken(noun) for noun in NOUNS]
    assert {own['b'] for own in fields} == {own['a'] for own in fields} and all(own['a'] != own['b'] for own in fields)
    assert {own['colour'] for own in fields} == set(COLOURS) and {own['place'] for own in fields} == set(PLACES)
    assert {own['side'] for own in fields} == set(SIDES.values())
    for own in fields:
        assert not any('{' in wording.format(**own) for kind in KINDS for wording in phrasings(kind, 2))
