"""POPE: two harnesses, kept apart."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from m3et_ros.evaluation.metrics.pope import YesNo, pope_a, pope_b, says_yes, yes_no_scores

ANSWERS = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=40)


def test_scores_by_hand():
    # Two right yes, one wrong yes, one missed yes, one right no.
    scores = yes_no_scores([1, 1, 1, 0, 0], [1, 1, 0, 1, 0])
    assert scores == YesNo(
        accuracy=0.6,
        precision=pytest.approx(2 / 3),
        recall=pytest.approx(2 / 3),
        f1=pytest.approx(2 / 3),
        yes_ratio=0.6,
    )


def test_shares_of_nothing_are_zero():
    assert yes_no_scores([0, 0], [1, 0]) == YesNo(0.5, 0.0, 0.0, 0.0, 0.0)


@pytest.mark.parametrize(
    'answer, yes',
    [
        ('Yes, there is a mug.', True),
        ('No, there is not.', False),
        ('no', False),
        ('There is not a mug', False),
        ('NO', True),
        ('Nothing', True),
        ('Yes. No.', True),
        ('', True),
    ],
)
def test_harness_b_reads_the_first_sentence(answer, yes):
    assert says_yes(answer) is yes


def test_headlines_differ():
    truth = [True, True, False, False]
    a = pope_a(
        {'random': ([0.9, 0.2, 0.1, 0.6], [0.1, 0.8, 0.9, 0.4], truth), 'popular': ([1, 1, 0, 0], [0, 0, 1, 1], truth)}
    )
    assert a.harness == 'A' and a.splits['random'].accuracy == 0.5 and a.headline == 0.75
    b = pope_b({'random': (['yes', 'yes', 'yes', 'no'], truth)})
    assert b.harness == 'B' and b.headline == b.splits['random'].f1 == pytest.approx(0.8)
    with pytest.raises(ValueError, match='no POPE split'):
        pope_b({})


@given(ANSWERS)
def test_bounds_and_perfect_answers(pairs):
    said, truth = map(np.array, zip(*pairs))
    scores = yes_no_scores(said, truth)
    assert all(0 <= value <= 1 for value in vars(scores).values())
    assert yes_no_scores(truth, truth).accuracy == 1
    assert yes_no_scores(said[::-1], truth[::-1]) == scores


@given(ANSWERS)
def test_against_scikit_learn(pairs):
    metrics = pytest.importorskip('sklearn.metrics')
    said, truth = zip(*pairs)
    scores = yes_no_scores(said, truth)
    expected = metrics.precision_recall_fscore_support(truth, said, average='binary', zero_division=0)[:3]
    assert (scores.precision, scores.recall, scores.f1) == pytest.approx(expected)
