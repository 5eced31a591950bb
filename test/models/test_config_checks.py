"""Checks of config fields: values that pass, the sentence for others, and every field of every config class."""

from dataclasses import fields
from types import SimpleNamespace

import pytest

from m3et_ros.models.actions.history import HistoryConfig
from m3et_ros.models.actions.mambavl import MambaVLConfig
from m3et_ros.models.actions.ngram import NGramSettings
from m3et_ros.models.config_checks import (
    check_above,
    check_choice,
    check_divides,
    check_number,
    check_share,
    check_switch,
    check_texts,
    check_whole,
    check_whole_items,
    check_whole_rows,
)
from m3et_ros.models.episode.model import EpisodeConfig
from m3et_ros.models.m3et.config import M3ETConfig

EPISODE = {
    'd_patch': 24,
    'd_in': 12,
    'grid': 3,
    'vocabulary': 40,
    'length': 12,
    'verbs': 3,
    'nouns': 4,
    'classes': ((5,), (6, 7)),
    'answers': ('yes', 'no'),
    'answer_pieces': ((10,), (11,)),
    'categories': ('state',),
    'facts': (2,),
    'lasting': 1,
    'fact_answers': (0, 1),
}
CONFIGS = [(M3ETConfig, {}), (MambaVLConfig, {}), (HistoryConfig, {}), (NGramSettings, {}), (EpisodeConfig, EPISODE)]
FIELDS = [(cls, given, field.name) for cls, given in CONFIGS for field in fields(cls)]
OTHER_TYPES = [None, True, 2, 1.5, float('nan'), 'a', [None], {}, {1, 2}, (None,), ((None,),), object()]

GOOD = SimpleNamespace(n=3, x=0.5, word='a', on=False, texts=('a', ''), items=(0, 3), rows=((0,), (), (3, 1)))


def may_be_valid(value, default):
    """Return True where a value may be valid for a field with this default."""
    if isinstance(default, float):
        return type(value) in (int, float) and value == value
    return type(value) is type(default) and not isinstance(value, tuple)


@pytest.mark.parametrize(('cls', 'given', 'name'), FIELDS, ids=[f'{cls.__name__}.{name}' for cls, _, name in FIELDS])
def test_a_field_of_another_type_is_refused_in_a_sentence_that_names_it(cls, given, name):
    default = getattr(cls(**given), name)
    for value in OTHER_TYPES:
        if may_be_valid(value, default):
            continue
        with pytest.raises(ValueError, match=name):
            cls(**given | {name: value})


def test_good_fields_pass():
    check_whole(GOOD, {'n': (3, 3)})
    check_number(GOOD, {'x': (0.5, 0.5), 'n': (0, 3)})
    check_above(GOOD, {'x': (0.49, 0.5), 'n': (2, 3)})
    check_share(GOOD, 'x')
    check_share(SimpleNamespace(v=0), 'v')
    check_choice(GOOD, {'word': ('a', 'b')})
    check_switch(GOOD, 'on')
    check_texts(GOOD, 'texts')
    check_whole_items(GOOD, {'items': (0, 3)})
    check_whole_rows(GOOD, {'rows': (0, 3)})
    check_divides(GOOD, 'n', 9, 'nine')
    check_divides(GOOD, 'n', 8, 'eight', value=4)


@pytest.mark.parametrize(
    ('value', 'check', 'words'),
    [
        (4, lambda c: check_whole(c, {'v': (0, 3)}), 'v is 4; give a whole number from 0 to 3'),
        (-1, lambda c: check_whole(c, {'v': (0, 3)}), 'v is -1; give a whole number from 0 to 3'),
        (True, lambda c: check_whole(c, {'v': (0, 3)}), 'v is True; give a whole number'),
        (1.0, lambda c: check_whole(c, {'v': (0, 3)}), 'v is 1.0; give a whole number'),
        (float('nan'), lambda c: check_number(c, {'v': (0, 1e6)}), r'v is nan; give a number from 0 to 1e\+06'),
        ('1', lambda c: check_number(c, {'v': (0, 3)}), "v is '1'; give a number"),
        (True, lambda c: check_number(c, {'v': (0, 3)}), 'v is True; give a number'),
        (0, lambda c: check_above(c, {'v': (0, 3)}), 'v is 0; give a number above 0 and at most 3'),
        (3.1, lambda c: check_above(c, {'v': (0, 3)}), 'v is 3.1; give a number above 0 and at most 3'),
        (1, lambda c: check_share(c, 'v'), 'v is 1; give a number from 0 to less than 1'),
        (-0.1, lambda c: check_share(c, 'v'), 'v is -0.1; give a number from 0 to less than 1'),
        ('c', lambda c: check_choice(c, {'v': ('a', 'b')}), "v is 'c'; give one of a, b"),
        (0, lambda c: check_switch(c, 'v'), 'v is 0; give true or false'),
        (['a'], lambda c: check_texts(c, 'v'), r"v is \['a'\]; give a tuple of texts"),
        (('a', 1), lambda c: check_texts(c, 'v'), 'give a tuple of texts'),
        ((0, 4), lambda c: check_whole_items(c, {'v': (0, 3)}), 'give a tuple of whole numbers from 0 to 3'),
        ((False,), lambda c: check_whole_items(c, {'v': (0, 3)}), 'give a tuple of whole numbers from 0 to 3'),
        (((0,), (4,)), lambda c: check_whole_rows(c, {'v': (0, 3)}), 'give a tuple of tuples of whole numbers'),
        (((0,), 1), lambda c: check_whole_rows(c, {'v': (0, 3)}), 'give a tuple of tuples of whole numbers'),
        (3, lambda c: check_divides(c, 'v', 8, 'd'), 'v is 3; give a divisor of d = 8'),
    ],
)
def test_other_fields_are_refused_by_name(value, check, words):
    with pytest.raises(ValueError, match=words):
        check(SimpleNamespace(v=value))
