"""Batches for a model that is measured, and scores as JSON has them."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from m3et_ros.data.sample import Sample
from m3et_ros.evaluation.batches import (
    cluster_of,
    in_batches,
    interval_json,
    measured,
    rounded,
    scored,
    shown_inputs,
    spread,
)
from m3et_ros.evaluation.metrics.intervals import SHARE, Interval, mean_rows, ratio


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
    seeds = ((12, 'seed 12 tick 0'), (12, 'seed 12 tick 7'), (3, 'seed 3 tick 0'), (None, 'photo.png'))
    kitchens = [cluster_of(replace(sample(None), seed=seed, key=key)) for seed, key in seeds]
    assert kitchens == ['seed 12', 'seed 12', 'seed 3', 'photo.png']
    few = scored(mean_rows([1, 0, 0, 0]), ratio, kitchens)
    assert few == {'value': 0.25, 'low': None, 'high': None, 'kitchens': 3}
    found = scored(mean_rows([1, 0, 0, 0, 1, 0, 0, 0]), ratio, [*kitchens, *'abcd'])
    assert found['value'] == 0.25 and found['kitchens'] == 7 and 0 <= found['low'] < 0.25 < found['high'] <= 1
    score = lambda sums: sums[..., 0] / sums[..., 1]  # noqa: E731 - a statistic of unknown bounds
    rows = mean_rows([1, 1, 1, 1, 0])
    assert scored(rows, score, list('abcde'))['high'] > 1 > scored(rows, score, list('abcde'), SHARE)['high']
    assert rounded(1 / 3) == 0.333333 and rounded(float('nan')) is None and rounded(None) is None


def test_an_interval_names_its_clusters_or_leaves_them_out():
    interval = Interval(1 / 3, None, 0.5, 7)
    assert interval_json(interval, 'videos') == {'value': 0.333333, 'low': None, 'high': 0.5, 'videos': 7}
    assert interval_json(interval, None) == {'value': 0.333333, 'low': None, 'high': 0.5}


def test_positions_are_evenly_spaced():
    assert spread(10, 4) == [0, 3, 6, 9] and spread(3, 8) == [0, 1, 2] and spread(1, 8) == [0]


def test_a_batch_of_one_is_allowed():
    assert [[i for i, _ in group] for group in in_batches(enumerate([sample(1), sample(2)]), 1)] == [[0], [1]]


def test_only_the_shown_inputs_of_a_batch_remain():
    inputs = {name: torch.zeros(1) for name in ('rgb', 'depth', 'text', 'text_mask')}
    assert set(shown_inputs(SimpleNamespace(inputs=inputs), ('rgb', 'text'), torch.device('cpu'))) == {
        'rgb',
        'text',
        'text_mask',
    }
