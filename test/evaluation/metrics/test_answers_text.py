"""Exact match, token F1 and GQA's rule."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from m3et_ros.evaluation.metrics.answers import best_f1, exact_match, gqa_match, token_f1

PHRASES = st.lists(st.sampled_from(['mug', 'plate', 'red', 'left', 'of', 'sink']), max_size=6).map(' '.join)


def test_exact_match_normalises_both_sides():
    assert exact_match('Two mugs.', '2 mugs') == 1
    assert exact_match('on the table', ['in the sink', 'on table']) == 1
    assert exact_match('mug', 'mugs') == 0


def test_token_f1_by_hand():
    # Three words said, two asked, two in common: precision 2/3, recall 1.
    assert token_f1('red mug left', 'the red mug') == pytest.approx(0.8)
    # A word counts as often as both sides have it.
    assert token_f1('mug mug', 'mug') == pytest.approx(2 / 3)
    assert token_f1('', 'the') == 1
    assert token_f1('', 'mug') == 0


def test_the_best_reference_counts():
    assert best_f1('red mug', ['blue plate', 'mug']) == pytest.approx(2 / 3)
    with pytest.raises(ValueError, match='at least one'):
        best_f1('red mug', [])


def test_gqa_takes_off_a_full_stop_and_nothing_else():
    assert gqa_match('Yes.', 'yes') == 1
    assert gqa_match('the mug', 'mug') == 0
    assert gqa_match('mug!', 'mug') == 0


@given(said=PHRASES, asked=PHRASES)
def test_token_f1_is_symmetric_bounded_and_blind_to_order(said, asked):
    score = token_f1(said, asked)
    assert 0 <= score <= 1
    assert score == token_f1(asked, said) == token_f1(' '.join(reversed(said.split())), asked)
    assert token_f1(said, said) == exact_match(said, said) == 1
    assert score >= exact_match(said, asked)
