"""Lines of a model that does not look."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from m3et_ros.evaluation.metrics.blind_baselines import blind_lines, majority, nearest_question, prior_by_key

QUESTIONS = [
    'what colour is the mug',
    'what colour is the mug',
    'what colour is the plate',
    'is there a mug',
    'is there a plate',
    'how many mugs',
]
TYPES = ['colour', 'colour', 'colour', 'existence', 'existence', 'count']
ANSWERS = ['red', 'red', 'blue', 'yes', 'no', '2']
WORDS = st.lists(st.sampled_from(['is', 'mug', 'plate', 'red', 'left']), min_size=1, max_size=4).map(' '.join)


def test_the_majority_breaks_ties_by_the_alphabet():
    assert majority(['yes', 'no', 'yes']) == 'yes'
    assert majority(['yes', 'no']) == 'no'
    with pytest.raises(ValueError, match='no samples'):
        majority([])


def test_lines_by_hand():
    lines = blind_lines(
        QUESTIONS,
        TYPES,
        ANSWERS,
        ['what colour is the plate', 'Is the plate there?', 'who?'],
        ['colour', 'existence', 'person'],
    )
    assert lines == {
        'majority': ['red'] * 3,
        'type': ['red', 'no', 'red'],
        'question': ['blue', 'no', 'red'],
        'nearest': ['blue', 'no', 'red'],
    }


def test_rare_words_weigh_more_than_common_ones():
    train = ['is the mug full', 'is the pan hot', 'is the pan cold', 'is the jar shut']
    assert nearest_question(train, ['a', 'b', 'c', 'd'], ['is the mug hot', 'the mug'])[1] == 'a'


def test_equally_near_questions_go_to_the_more_frequent():
    train = ['mug left', 'mug right', 'mug right']
    assert nearest_question(train, ['a', 'b', 'b'], ['mug']) == ['b']


def test_lengths_must_agree():
    with pytest.raises(ValueError, match='lengths'):
        prior_by_key(['colour'], ['red', 'blue'], [])
    with pytest.raises(ValueError, match='one each'):
        prior_by_key(['colour'], ['red'], ['colour'], [])


def test_questions_without_words_are_answered_too():
    assert nearest_question(['?'], ['yes'], ['?', 'mug']) == ['yes', 'yes']


@given(st.lists(st.tuples(WORDS, st.sampled_from('xyz')), min_size=1, max_size=12), st.randoms())
def test_the_order_of_training_does_not_matter(train, random):
    asked = [question for question, _ in train]
    before = blind_lines(asked, asked, [answer for _, answer in train], asked, asked)
    random.shuffle(train)
    shuffled, answers = zip(*train)
    assert blind_lines(shuffled, shuffled, answers, asked, asked) == before
