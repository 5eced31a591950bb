"""The parts that candidate answers have in common: 'red bowl' and 'red' share red, 'cut carrot' and 'cut bread' cut.

A model that adds up the scores of parts (models.m3et.answers) can give an answer that training never showed.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from m3et_ros.data.frame import Labels
from m3et_ros.data.kitchen.sim.vocabulary import COLOURS, spoken_verb

COLOUR, COLOURED, ACTION = 'a colour', 'a coloured thing', 'an action'
"""Parts that all answers of one sort share, so that a question of another sort can exclude them at once."""


class AnswerParts(NamedTuple):
    """Parts of the answers of a label set.

    matrix: (A, P) float32, 1 where an answer has a part and 0 elsewhere.
    names: the parts in words, P.
    colours: number of colours; they are the last parts.
    """

    matrix: Tensor
    names: tuple[str, ...]
    colours: int


def answer_parts(labels: Labels) -> AnswerParts:
    """Cut the answers of a label set into parts, by the words for colours, classes and verbs.

    A colour is COLOUR and the colour; a colour with a class is COLOURED, the noun and the colour; a verb with a class
    is ACTION, the verb and the noun. Any other answer is a part of its own, and so is a colour that is also a class:
    an orange. A noun in a pair is another part than the answer that is the noun alone.
    """
    nouns, verbs = set(labels.classes), {spoken_verb(verb) for verb in labels.verbs}
    found = [_parts(answer, nouns, verbs) for answer in labels.answers]
    used = dict.fromkeys(part for parts in found for part in parts)
    colours = [part for part in used if part in COLOURS]
    names = [*(part for part in used if part not in COLOURS), *colours]
    numbers, matrix = {part: number for number, part in enumerate(names)}, torch.zeros(len(found), len(names))
    for row, parts in zip(matrix, found, strict=True):
        row[[numbers[part] for part in parts]] = 1
    return AnswerParts(matrix, tuple(names), len(colours))


def _parts(answer: str, nouns: set[str], verbs: set[str]) -> tuple[str, ...]:
    """Return the names of an answer's parts; a colour is called by its word."""
    if answer in COLOURS:
        return (COLOUR, answer, *([f'answer {answer}'] if answer in nouns else []))
    words = answer.split(' ')
    for cut in range(1, len(words)):
        first, noun = ' '.join(words[:cut]), ' '.join(words[cut:])
        if noun in nouns and first in COLOURS:
            return COLOURED, f'noun {noun}', first
        if noun in nouns and first in verbs:
            return ACTION, f'verb {first}', f'noun {noun}'
    return (f'answer {answer}',)
