"""Bootstrap intervals."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from m3et_ros.evaluation.metrics.depth import depth_rates, depth_sums
from m3et_ros.evaluation.metrics.intervals import bootstrap, bootstrap_mean, mean_rows, paired_difference
from m3et_ros.evaluation.metrics.segmentation import confusion, mean_iou

RNG = np.random.default_rng(7)


def test_the_width_is_that_of_the_normal_approximation():
    scores = np.tile([0.0, 1.0], 200)
    interval = bootstrap_mean(scores)
    half = 1.96 * 0.5 / np.sqrt(400)
    assert interval.value == 0.5 and interval.clusters == 400
    assert (interval.low, interval.high) == pytest.approx((0.5 - half, 0.5 + half), abs=0.005)


def test_samples_of_one_scene_are_drawn_together():
    scores = np.repeat(RNG.integers(0, 2, 20), 30)
    scenes = np.repeat(np.arange(20), 30)
    alone, together = bootstrap_mean(scores), bootstrap_mean(scores, scenes)
    assert together.value == alone.value and together.clusters == 20
    assert together.high - together.low > 3 * (alone.high - alone.low)


def test_the_same_seed_gives_the_same_interval():
    scores, scenes = RNG.random(60), RNG.integers(0, 12, 60)
    assert bootstrap_mean(scores, scenes, seed=3) == bootstrap_mean(scores, scenes, seed=3)
    assert bootstrap_mean(scores, scenes, seed=3) != bootstrap_mean(scores, scenes, seed=4)


def test_the_order_of_samples_does_not_matter_within_clusters():
    scores, scenes = RNG.integers(0, 2, 60), RNG.integers(0, 12, 60)
    order = RNG.permutation(60)
    assert bootstrap_mean(scores, scenes) == bootstrap_mean(scores[order], scenes[order])


def test_pairs_cancel_what_both_share():
    hard = RNG.random(100)
    first, second = mean_rows(hard + 0.1), mean_rows(hard)
    difference = paired_difference(first, second)
    assert (difference.value, difference.low, difference.high) == pytest.approx((0.1, 0.1, 0.1))
    assert bootstrap(first).high - bootstrap(first).low > 0.05
    with pytest.raises(ValueError, match='same samples'):
        paired_difference(first, second[:5])


def test_statistics_of_sums():
    target = RNG.integers(0, 3, (12, 5, 5))
    matrices = confusion(np.where(RNG.random(target.shape) < 0.7, target, 0), target, 3)

    def miou(sums):
        return mean_iou(sums.reshape(*sums.shape[:-1], 3, 3))

    interval = bootstrap(matrices.reshape(12, 9), miou, np.arange(12) // 2)
    assert interval.low < interval.value < interval.high
    assert interval.value == pytest.approx(float(mean_iou(matrices.sum(0))))
    depth = RNG.uniform(1, 3, (2, 12, 4, 4))
    rmse = bootstrap(depth_sums(*depth), lambda sums: depth_rates(sums)[..., 0])
    assert rmse.low < rmse.value < rmse.high
    assert rmse.value == pytest.approx(np.sqrt(np.mean((depth[0] - depth[1]) ** 2)))


def test_a_single_scene_has_no_interval():
    interval = bootstrap_mean([0, 1, 1], ['scene'] * 3)
    assert interval.value == pytest.approx(2 / 3) and interval.low is interval.high is None


def test_settings_out_of_range_are_refused():
    with pytest.raises(ValueError, match='resamples is 0'):
        bootstrap_mean([0, 1], resamples=0)
    with pytest.raises(ValueError, match='not finite'):
        bootstrap_mean([0, np.nan])
    with pytest.raises(ValueError, match='lengths'):
        bootstrap_mean([0, 1], ['scene'])
    with pytest.raises(ValueError, match='no samples'):
        bootstrap_mean([])


@settings(max_examples=30)
@given(st.lists(st.floats(0, 1, allow_subnormal=False), min_size=2, max_size=20))
def test_bounds(scores):
    interval = bootstrap_mean(scores, resamples=200)
    assert -1e-9 <= interval.low <= interval.high <= 1 + 1e-9
    assert min(scores) - 1e-9 <= interval.value <= max(scores) + 1e-9
