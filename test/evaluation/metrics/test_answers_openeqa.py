"""LLM-match from given marks."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from m3et_ros.evaluation.metrics.answers import llm_match, llm_match_by_category, mark_scores, unanswered_share


def test_both_scales_by_hand():
    score = llm_match([5, 3, 1, None])
    assert (score.count, score.percent, score.mean_mark, score.unanswered) == (4, 37.5, 2.5, 0.25)


def test_chance_over_seven_categories_read_as_a_mark():
    # 14.29 % as LLM-match would be a mean mark of 1.57 (docs/papers.md 2.6).
    assert llm_match([1] * 6 + [5]).percent == pytest.approx(100 / 7)
    assert llm_match([1] * 6 + [5]).mean_mark == pytest.approx(1.57, abs=0.005)


def test_marks_outside_the_scale_are_clipped_and_nan_refused():
    assert mark_scores([0, 7]).tolist() == [0, 1]
    with pytest.raises(ValueError, match='not finite'):
        llm_match([float('nan')])
    with pytest.raises(ValueError, match='no marks'):
        llm_match([])


def test_categories_are_scored_apart():
    scores = llm_match_by_category([5, 1, None], ['spatial', 'attribute', 'spatial'])
    assert list(scores) == ['attribute', 'spatial']
    assert scores['spatial'].percent == 50 and scores['spatial'].unanswered == 0.5
    with pytest.raises(ValueError, match='one each'):
        llm_match_by_category([5], [])


def test_blank_answers_are_unanswered():
    assert unanswered_share(['mug', ' ', None, '']) == 0.75


@given(st.lists(st.none() | st.integers(1, 5), min_size=1))
def test_bounds_and_order(marks):
    score = llm_match(marks)
    assert 0 <= score.percent <= 100 and 1 <= score.mean_mark <= 5
    assert llm_match(sorted(marks, key=str)).percent == pytest.approx(score.percent)
