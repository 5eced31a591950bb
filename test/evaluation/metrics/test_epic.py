"""The action ranking and EPIC's tables."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from m3et_ros.evaluation.metrics.epic import action_id, anticipation_scores, rank_actions, recognition_scores, subsets


def softmax(x):
    p = np.exp(x - x.max(1, keepdims=True))
    return p / p.sum(1, keepdims=True)


@given(seed=st.integers(0, 50), verbs=st.integers(1, 12), nouns=st.integers(1, 15), best=st.integers(1, 20))
def test_the_ranking_is_that_of_the_whole_product(seed, verbs, nouns, best):
    rng = np.random.default_rng(seed)
    v, n = rng.normal(size=(3, verbs)), rng.normal(size=(3, nouns))
    ids, scores = rank_actions(v, n, best)
    # The plain way: softmax over the best of each, every product, sort.
    v = np.where(v >= np.sort(v, 1)[:, -min(best, verbs)][:, None], v, -np.inf)
    n = np.where(n >= np.sort(n, 1)[:, -min(best, nouns)][:, None], n, -np.inf)
    product = (softmax(v)[:, :, None] * softmax(n)[:, None]).reshape(3, -1)
    order = np.argsort(-product, 1)[:, :best]
    assert ids.shape == (3, min(best, verbs * nouns))
    assert (ids == action_id(order // nouns, order % nouns)).all()
    assert scores == pytest.approx(np.take_along_axis(product, order, 1))


@given(seed=st.integers(0, 200), verbs=st.integers(1, 12), nouns=st.integers(1, 15), best=st.integers(1, 20))
def test_of_equal_scores_the_lower_id_comes_first(seed, verbs, nouns, best):
    rng = np.random.default_rng(seed)
    # Powers of two keep the products of tied probabilities exactly equal.
    v, n = (np.log(2.0 ** rng.integers(0, 3, (2, size))) for size in (verbs, nouns))
    ids, scores = rank_actions(v, n, best)
    for row in range(2):
        keep = [np.argsort(-one[row], kind='stable')[:best] for one in (v, n)]
        total = [sum(np.exp(one[row][k])) for one, k in zip((v, n), keep, strict=True)]
        pairs = [
            (-np.exp(v[row][a]) / total[0] * np.exp(n[row][b]) / total[1], action_id(a, b))
            for a in keep[0]
            for b in keep[1]
        ]
        wanted = sorted((round(score, 12), int(number)) for score, number in pairs)[:best]
        assert [(round(-score, 12), int(number)) for score, number in zip(scores[row], ids[row])] == wanted


def test_ids_are_official():
    assert action_id([0, 8, 96], [1, 0, 299]).tolist() == [1, 8000, 96299]


LABELS = {'verb': [0, 1, 1, 0], 'noun': [0, 1, 2, 2]}
PEOPLE = ['P01', 'P01', 'P18', 'P18']
ROWS = subsets(LABELS, PEOPLE, unseen=['P18', 'P32'], tail_verbs=[1], tail_nouns=[0])
RANKS = {'verb': np.array([0, 0, 1, 0]), 'noun': np.array([0, 0, 0, 3]), 'action': np.array([0, 0, 1, 7])}


def test_an_action_is_tail_if_its_verb_or_its_noun_is():
    assert ROWS['unseen']['noun'].tolist() == [False, False, True, True]
    assert ROWS['tail']['verb'].tolist() == [False, True, True, False]
    assert ROWS['tail']['action'].tolist() == [True, True, True, False]


def test_recognition_by_hand():
    table = recognition_scores(RANKS, ROWS)
    assert table['all'] == {'verb': 0.75, 'noun': 0.75, 'action': 0.5}
    assert table['unseen'] == {'verb': 0.5, 'noun': 0.5, 'action': 0}
    assert table['tail'] == {'verb': 0.5, 'noun': 1, 'action': pytest.approx(2 / 3)}
    assert table['all_top5']['verb'] == 1


def test_anticipation_takes_class_means_within_the_row():
    ranks = {'verb': np.array([0, 0, 9, 0]), 'noun': np.array([0, 9, 0, 9]), 'action': np.array([0, 9, 9, 0])}
    table = anticipation_scores(ranks, LABELS, ROWS)
    assert table['all']['verb'] == pytest.approx((1 + 0.5) / 2)
    assert table['all']['noun'] == pytest.approx((1 + 0 + 0.5) / 3)
    assert table['unseen']['verb'] == pytest.approx((0 + 1) / 2)
    assert table['tail'] == {'verb': 0.5, 'noun': 1, 'action': pytest.approx(1 / 3)}


def test_a_row_without_segments_is_none():
    rows = subsets(LABELS, PEOPLE, unseen=[], tail_verbs=[], tail_nouns=[])
    table = recognition_scores(RANKS, rows)
    assert table['unseen']['action'] is None and table['tail']['verb'] is None and table['all']['noun'] == 0.75
