"""Top-k scores from ranks."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from m3et_ros.evaluation.metrics.ranking import both_in_topk, label_ranks, listed_ranks, mean_topk_recall, topk_accuracy


def sample(seed, n=30, classes=12):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 6, (n, classes)).astype(float), rng.integers(0, classes, n)


def test_ranks_by_hand():
    scores = [[0.1, 0.5, 0.3], [0.2, 0.2, 0.2], [3, 2, 1]]
    assert label_ranks(scores, [2, 1, 7]).tolist() == [1, 1, 3]
    assert listed_ranks([[8, 3], [5, 6]], [3, 7]).tolist() == [1, 2]


def test_the_class_mean_weighs_classes_alike():
    # Class 4: three of four found; class 9: none of one.
    ranks, labels = [0, 2, 4, 5, 8], [4, 4, 4, 4, 9]
    assert mean_topk_recall(ranks, labels) == pytest.approx(0.375)
    assert topk_accuracy(ranks, 5) == 0.6


def test_both_in_topk_is_not_the_official_action():
    assert both_in_topk([0, 0, 6], [4, 5, 0], 5) == pytest.approx(1 / 3)


def test_bad_scores_are_refused():
    with pytest.raises(ValueError, match='not finite'):
        label_ranks([[np.nan, 1]], [0])
    with pytest.raises(ValueError, match='lengths'):
        label_ranks([[0.0, 1]], [0, 1])


@given(st.integers(0, 99))
def test_ranks_agree_with_a_stable_sort(seed):
    scores, labels = sample(seed)
    order = np.argsort(-scores, axis=1, kind='stable')
    assert (label_ranks(scores, labels) == (order == labels[:, None]).argmax(1)).all()


@given(seed=st.integers(0, 99), k=st.integers(1, 12))
def test_bounds_permutation_and_perfection(seed, k):
    scores, labels = sample(seed)
    ranks = label_ranks(scores, labels)
    recall = mean_topk_recall(ranks, labels, k)
    assert 0 <= recall <= 1 and topk_accuracy(ranks, k) <= topk_accuracy(ranks, k + 1)
    order = np.random.default_rng(seed).permutation(len(labels))
    assert mean_topk_recall(ranks[order], labels[order], k) == pytest.approx(recall)
    perfect = label_ranks(np.eye(12)[labels], labels)
    assert mean_topk_recall(perfect, labels, k) == topk_accuracy(perfect, k) == 1


@given(seed=st.integers(0, 99))
def test_against_scikit_learn(seed):
    metrics = pytest.importorskip('sklearn.metrics')
    rng = np.random.default_rng(seed)
    scores, labels = rng.random((30, 12)), rng.integers(0, 12, 30)
    expected = metrics.top_k_accuracy_score(labels, scores, k=5, labels=np.arange(12))
    assert topk_accuracy(label_ranks(scores, labels), 5) == pytest.approx(expected)


def test_against_torchmetrics():
    metric = pytest.importorskip('torchmetrics.classification').MulticlassRecall(12, average='macro', top_k=5)
    generator = torch.Generator().manual_seed(0)
    scores, labels = torch.rand(200, 12, generator=generator), torch.randint(0, 12, (200,), generator=generator)
    assert mean_topk_recall(label_ranks(scores, labels), labels) == pytest.approx(float(metric(scores, labels)))
