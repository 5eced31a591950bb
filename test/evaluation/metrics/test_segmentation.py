"""mIoU and pixel accuracy from confusion matrices."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from m3et_ros.evaluation.metrics.segmentation import confusion, mean_iou, segmentation_scores

SEEDS = st.integers(0, 99)


def maps(seed, classes=5):
    rng = np.random.default_rng(seed)
    target = rng.integers(0, classes, (3, 6, 6))
    prediction = np.where(rng.random(target.shape) < 0.5, target, rng.integers(0, classes, target.shape))
    target[rng.random(target.shape) < 0.1] = 255
    return prediction, target


def test_scores_by_hand():
    prediction, target = np.array([[0, 0, 1, 2, 2]]), np.array([[0, 1, 1, 0, 255]])
    matrix = confusion(prediction, target, 4)
    assert matrix[0, :3, :3].tolist() == [[1, 0, 1], [1, 1, 0], [0, 0, 0]]
    scores = segmentation_scores(matrix)
    # Class 0: 1 of {0, 1, 3}; class 1: 1 of {1, 2}; class 2 is predicted but not in the truth.
    assert scores.iou[:2] == pytest.approx([1 / 3, 1 / 2]) and np.isnan(scores.iou[2:]).all()
    assert scores.miou == pytest.approx(5 / 12) and scores.pixel_accuracy == 0.5 and scores.pixels == 4
    assert segmentation_scores(matrix, among=[1, 3]).miou == 0.5


def test_uint8_masks_and_tensors_are_read():
    target = torch.tensor([[0, 200, 255]], dtype=torch.uint8)
    assert segmentation_scores(confusion(target.clamp(max=200), target, 201)).miou == 1


def test_nothing_to_score_is_nan():
    scores = segmentation_scores(confusion([[0]], [[255]], 2))
    assert scores.pixels == 0 and np.isnan(scores.miou) and np.isnan(scores.pixel_accuracy)


def test_ids_out_of_range_are_refused():
    with pytest.raises(ValueError, match='prediction has ids from 0 to 7'):
        confusion([[0, 7]], [[0, 1]], 3)
    with pytest.raises(ValueError, match='truth has ids'):
        confusion([[0, 1]], [[0, -1]], 3)
    with pytest.raises(ValueError, match='alike'):
        confusion([[0, 1]], [[0]], 3)


@given(SEEDS)
def test_matrices_add_up(seed):
    prediction, target = maps(seed)
    each = confusion(prediction, target, 5)
    whole = confusion(prediction.reshape(1, -1), target.reshape(1, -1), 5)
    assert (each.sum(0) == whole[0]).all() and each.sum() == np.count_nonzero(target != 255)
    assert 0 <= mean_iou(whole)[0] <= 1


@given(SEEDS)
def test_renaming_classes_changes_nothing_and_perfect_is_one(seed):
    prediction, target = maps(seed)
    rename = np.append(np.random.default_rng(seed).permutation(5), [0] * 251)
    rename[255] = 255
    before = segmentation_scores(confusion(prediction, target, 5))
    after = segmentation_scores(confusion(rename[prediction], rename[target], 5))
    assert after.miou == pytest.approx(before.miou) and after.pixel_accuracy == before.pixel_accuracy
    perfect = segmentation_scores(confusion(target, target, 5))
    assert perfect.miou == perfect.pixel_accuracy == 1


@given(SEEDS)
def test_against_scikit_learn(seed):
    metrics = pytest.importorskip('sklearn.metrics')
    prediction, target = maps(seed)
    known = target != 255
    expected = metrics.jaccard_score(target[known], prediction[known], average='macro', labels=np.unique(target[known]))
    assert segmentation_scores(confusion(prediction, target, 5)).miou == pytest.approx(expected)
