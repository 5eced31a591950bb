"""Batches for a model that is measured, and scores as JSON has them."""

import numpy as np
import pytest
import torch

from m3et_ros.data.sample import Sample
from m3et_ros.evaluation.batches import in_batches, kitchen_of, measured, rounded, scored
from m3et_ros.evaluation.metrics.intervals import mean_rows, ratio


def sample(depth):
    return Sample(np.zeros((4, 4, 3), np.uint8), None if depth is None else np.full((4, 4), depth, np.float32))


def test_no_sample_loses_its_depth_to_a_neighbour():
    samples = [sample(depth) for depth in (1, None, 2, np.nan, 3, 4, None)]
    groups = [[i for i, _ in group] for group in in_batches(enumerate(samples), 2)]
    assert groups == [[0, 2], [1, 3], [4, 5], [6]]
    with pytest.raises(ValueError, match='batch is 0'):
        list(in_batches(enumerate(samples), 0))


@pytest.mark.parametrize('training', [True, False])
def test_a_model_is_measured_in_evaluation_mode_and_put_back(training):
    model = torch.nn.Linear(2, 1).train(training)
    with pytest.raises(RuntimeError, match='stop'), measured(model) as device:
        assert not model.training and device.type == 'cpu' and not model(torch.ones(1, 2)).requires_grad
        raise RuntimeError('stop')
    assert model.training is training


def test_scores_are_rounded_and_resampled_by_kitchen():
    kitchens = [kitchen_of(key) for key in ('seed 12 tick 0', 'seed 12 tick 7', 'seed 3 tick 0', 'photo.png')]
    assert kitchens == ['seed 12', 'seed 12', 'seed 3', 'photo.png']
    told = scored(mean_rows([1, 0, 0, 0]), ratio, kitchens)
    assert told['value'] == 0.25 and told['kitchens'] == 3 and 0 <= told['low'] < 0.25 < told['high'] <= 1
    assert rounded(1 / 3) == 0.333333 and rounded(float('nan')) is None and rounded(None) is None
