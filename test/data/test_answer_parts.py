"""Parts of answers: those of the kitchen, words with two meanings, and sums that distinguish every answer."""

import torch

from m3et_ros.data.answer_parts import ACTION, COLOUR, COLOURED, answer_parts
from m3et_ros.data.frame import Labels
from m3et_ros.data.kitchen.labels import kitchen_labels
from m3et_ros.models.m3et.sizes import SIZES


def parts_of(found, number):
    return {name for name, has in zip(found.names, found.matrix[number].tolist(), strict=True) if has}


def test_pairs_of_the_kitchen_share_colours_verbs_and_nouns():
    labels = kitchen_labels()
    found = answer_parts(labels)
    parts = {answer: parts_of(found, number) for number, answer in enumerate(labels.answers)}
    assert parts['red'] == {COLOUR, 'red'}
    assert parts['red bowl'] == {COLOURED, 'noun bowl', 'red'}
    assert parts['cut carrot'] == {ACTION, 'verb cut', 'noun carrot'}
    assert parts['turn on tap'] == {ACTION, 'verb turn on', 'noun tap'}
    assert parts['take chopping board'] == {ACTION, 'verb take', 'noun chopping board'}
    assert parts['bowl'] == {'answer bowl'} and parts['turn on'] == {'answer turn on'}
    assert parts['not in view'] == {'answer not in view'} and parts['on the table'] == {'answer on the table'}
    # An orange is a colour and a class.
    assert parts['orange'] == {COLOUR, 'orange', 'answer orange'}
    assert parts['orange orange'] == {COLOURED, 'noun orange', 'orange'}
    assert parts['cut orange'] == {ACTION, 'verb cut', 'noun orange'}
    assert len({frozenset(names) for names in parts.values()}) == len(labels.answers)


def test_colours_are_the_last_parts_and_every_part_is_used():
    found = answer_parts(kitchen_labels())
    assert found.colours == 11 and found.names[-11] == 'red' and found.names[-1] == 'black'
    assert found.matrix.shape == (len(kitchen_labels().answers), len(found.names)) and found.matrix.any(0).all()
    size = SIZES['kitchen2']
    assert (size.answers, size.answer_parts, size.look_parts) == (*found.matrix.shape, found.colours)
    assert set(found.matrix.unique().tolist()) == {0, 1} and found.matrix.dtype == torch.float32


def test_answers_without_pairs_are_parts_of_their_own():
    found = answer_parts(Labels(('cup',), ((0, 0, 0),), ('yes', 'red plate', 'cup', 'cut cup'), (), ()))
    # A plate is no class here, and there is no verb.
    assert found.names == ('answer yes', 'answer red plate', 'answer cup', 'answer cut cup') and found.colours == 0
    assert torch.equal(found.matrix, torch.eye(4))
    assert answer_parts(Labels((), (), (), (), ())).matrix.shape == (0, 0)
