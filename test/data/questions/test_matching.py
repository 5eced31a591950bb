import pytest

from m3et_ros.data.kitchen.questions.taught import kitchen_taught
from m3et_ros.data.questions.lexicon import Lexicon, key
from m3et_ros.data.questions.matching import SMALL, distance, fit, like, patterns, same_gist, values_in_order

TAUGHT = kitchen_taught(version=1)
LEXICON = Lexicon(TAUGHT, TAUGHT.frame.values())
PATTERNS = {one.wording: one for one in patterns(TAUGHT.frame, {'is_open': ('Is there an open {a}?',)}, LEXICON)}


def tokens(said):
    return LEXICON.tokens(key(said).split())


@pytest.mark.parametrize(
    ('said', 'values', 'unknown', 'untaught'),
    (
        ('is cup red', {'a': 'cup', 'colour': 'red'}, (), ()),
        ('is orange orange', {'a': 'orange', 'colour': 'orange'}, (), ()),
        ('is dragon red', {'colour': 'red'}, ('dragon',), ()),
        ('is tin dragon red', {'colour': 'red'}, ('can dragon',), ()),
        ('is tap red', {'a': 'tap', 'colour': 'red'}, (), (('a', 'tap'),)),
    ),
)
def test_only_the_words_of_fields_may_differ(said, values, unknown, untaught):
    found = fit(PATTERNS['Is the {a} {colour}?'], tokens(said))
    assert (dict(found.values), found.unknown, found.untaught) == (values, unknown, untaught)


@pytest.mark.parametrize('said', ('is cup red blue', 'why is cup red', 'is cup', 'is it red', 'is not red'))
def test_other_words_do_not_fit(said):
    assert fit(PATTERNS['Is the {a} {colour}?'], tokens(said)) is None


def test_an_unknown_place_begins_with_a_preposition():
    place = PATTERNS['Is the {a} {place}?']
    assert fit(place, tokens('is cup under table')).unknown == ('under table',)
    assert fit(place, tokens('is cup happily sleeping')) is None


def test_small_words_cost_little_and_others_one():
    one = PATTERNS['Where is the {a}?']
    assert distance(one, tokens('where is cup')) == 0
    assert distance(one, tokens('where is it cup')) == pytest.approx(SMALL)
    assert distance(one, tokens('where sleeps cup')) == pytest.approx(1)
    assert distance(one, tokens('where is')) == pytest.approx(2)


def test_the_words_of_fields_are_taken_in_order():
    one = PATTERNS['Is the {a} left of the {b}?']
    assert values_in_order(one, tokens('is cup left of tap')) == {'a': 'cup', 'b': 'tap'}
    assert values_in_order(one, tokens('is tap left of cup')) is None  # a tap is no object
    assert values_in_order(one, tokens('is cup left of')) is None


def test_the_gist_ignores_order_and_small_words():
    assert same_gist(PATTERNS['How many {plural} can you see?'], tokens('how many cups can be seen'))
    assert not same_gist(PATTERNS['How many {plural} can you see?'], tokens('how many cups can not be seen'))
    assert not same_gist(PATTERNS['How many {plural} can you see?'], tokens('how many walls can be seen'))


def test_a_paraphrase_is_used_with_the_taught_wording_of_its_fields():
    assert like(TAUGHT.frame['is_open'], 'Is there an open {a}?') == 'Do you see an open {a}?'
    assert like(TAUGHT.frame['is_open'], 'Is it {colour}?') is None
    assert not PATTERNS['Is there an open {a}?'].taught
