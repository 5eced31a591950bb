"""Intervals by a bootstrap over clusters: their coverage, ends and bounds."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from m3et_ros.evaluation.metrics.depth import depth_rates, depth_sums
from m3et_ros.evaluation.metrics.intervals import (
    POSITIVE,
    SHARE,
    bootstrap,
    bootstrap_mean,
    mean_rows,
    paired_difference,
    ratio,
    student_t,
)
from m3et_ros.evaluation.metrics.segmentation import confusion, mean_iou

RNG = np.random.default_rng(7)


def test_the_width_is_that_of_the_normal_approximation():
    scores = np.tile([0.0, 1.0], 200)
    interval = bootstrap_mean(scores)
    half = 1.96 * 0.5 / np.sqrt(400)
    assert interval.value == 0.5 and interval.clusters == 400
    assert (interval.low, interval.high) == pytest.approx((0.5 - half, 0.5 + half), abs=0.005)


@pytest.mark.parametrize('spread', [0, 8], ids=['independent answers', 'bags that differ'])
@pytest.mark.parametrize('bags', [2, 3, 4, 5, 6, 10, 20, 50])
def test_95_of_100_intervals_cover_the_truth_or_none_is_given(bags, spread):
    rng, covered = np.random.default_rng(bags), []
    for _ in range(500):
        share = rng.beta(0.75 * spread, 0.25 * spread, bags) if spread else np.full(bags, 0.75)
        rows = np.stack([rng.binomial(18, share), np.full(bags, 18)], 1)
        found = bootstrap(rows, resamples=200)
        covered.append(None if found.low is None else found.low <= 0.75 <= found.high)
    if bags < 5:
        assert set(covered) == {None}
    else:
        assert 0.93 <= np.mean(covered) <= 0.97


@pytest.mark.parametrize('bags', [5, 15, 40])
def test_intervals_of_differences_and_of_skewed_errors_cover_the_truth(bags):
    rng, change, error = np.random.default_rng(bags), [], []
    for _ in range(500):
        hard = rng.normal(0, 0.2, bags)
        sides = (mean_rows(hard + rng.normal(mean, 0.1, bags)) for mean in (0.1, 0))
        found = paired_difference(*sides, resamples=200)
        change.append(found.low <= 0.1 <= found.high)
        found = bootstrap_mean(3 * rng.lognormal(0, 0.4, bags), resamples=200)
        error.append(found.low <= 3 * np.exp(0.08) <= found.high)
    assert 0.93 <= np.mean(change) <= 0.97
    assert 0.92 <= np.mean(error) <= 0.97


@pytest.mark.parametrize(
    ('level', 'degrees', 'wanted'),
    [
        (0.95, 1, 12.7062),
        (0.95, 2, 4.3027),
        (0.95, 3, 3.1824),
        (0.95, 4, 2.7764),
        (0.95, 9, 2.2622),
        (0.95, 49, 2.0096),
        (0.99, 1, 63.6567),
        (0.99, 10, 3.1693),
        (0.95, 10**7, 1.9602),
    ],
)
def test_the_factors_are_those_of_the_tables(level, degrees, wanted):
    assert student_t(level, degrees) == pytest.approx(wanted, abs=6e-5)


def test_the_ends_follow_from_the_spread_of_the_draws_and_students_t():
    # Shares 0.6 to 1 of ten samples: the mean is 0.8 and its standard error sqrt(0.025 / 5); t of 4 degrees is 2.776.
    rows = np.array([[6, 10], [7, 10], [8, 10], [9, 10], [10, 10]])
    half = 2.7764 * np.sqrt(0.025 / 5)
    plain = bootstrap(rows, lambda sums: sums[..., 0] / sums[..., 1], resamples=100_000)
    assert (plain.low, plain.value, plain.high) == pytest.approx((0.8 - half, 0.8, 0.8 + half), abs=2e-3)
    # On the logit scale, log(0.8 / 0.2) plus and minus half / (0.8 * 0.2).
    share = bootstrap(rows, resamples=100_000)
    ends = [1 / (1 + np.exp(-(np.log(4) + sign * half / 0.16))) for sign in (-1, 1)]
    assert (share.low, share.high) == pytest.approx(ends, abs=2e-3)
    # On the log scale, for scores without an upper bound.
    error = bootstrap(rows * [10, 1], resamples=100_000)
    ends = [8 * np.exp(sign * half / 0.8) for sign in (-1, 1)]
    assert (error.low, error.high) == pytest.approx(ends, rel=4e-3)


def test_bounds_of_other_statistics_are_given():
    rows = np.array([[0, 10], [9, 10], [10, 10], [10, 10], [10, 10]])

    def own(sums):
        return sums[..., 0] / sums[..., 1]

    assert bootstrap(rows, own).high > 1
    assert bootstrap(rows, own, bounds=SHARE) == bootstrap(rows, ratio)
    assert bootstrap(rows * [0.1, 1], own, bounds=POSITIVE).low > 0


def test_scores_that_are_all_alike_have_no_interval():
    # Nothing wrong in 30 answers does not show that nothing can go wrong.
    perfect, equal = bootstrap_mean([1] * 30), bootstrap([[8, 10]] * 6)
    assert (perfect.value, perfect.low, perfect.high, perfect.clusters) == (1, None, None, 30)
    assert (equal.value, equal.low, equal.high) == (0.8, None, None)
    same = paired_difference(mean_rows([0, 1, 1, 0, 1]), mean_rows([0, 1, 1, 0, 1]))
    assert (same.value, same.low, same.high) == (0, 0, 0)


def test_clusters_without_samples_of_a_score_do_not_count():
    rows = np.array([[3, 10], [5, 10], [8, 10], [6, 10], [4, 10]])
    empty = np.zeros((45, 2))
    assert bootstrap(np.concatenate([rows, empty])) == bootstrap(rows)
    assert bootstrap(np.concatenate([rows[:4], empty])).low is None

    def gap(sums):
        return ratio(sums[..., :2]) - ratio(sums[..., 2:])

    # One side of a difference in two of ten clusters only: a tenth of the draws lacks it.
    sides = np.concatenate([np.tile(rows, (2, 1)), np.tile(rows, (2, 1)) * (np.arange(10) < 2)[:, None]], 1)
    assert bootstrap(sides, gap).low is None
    sides[:, 2:] = np.tile(rows, (2, 1))
    assert bootstrap(sides, gap).low is not None


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
    with pytest.raises(ValueError, match='resamples is 1'):
        bootstrap_mean([0, 1], resamples=1)
    with pytest.raises(ValueError, match='not finite'):
        bootstrap_mean([0, np.nan])
    with pytest.raises(ValueError, match='lengths'):
        bootstrap_mean([0, 1], ['scene'])
    with pytest.raises(ValueError, match='no samples'):
        bootstrap_mean([])


@settings(max_examples=30)
@given(st.lists(st.floats(0, 1, allow_subnormal=False), min_size=5, max_size=20))
def test_bounds(scores):
    interval = bootstrap_mean(scores, resamples=200)
    assert interval.low is interval.high is None or 0 <= interval.low <= interval.value <= interval.high <= 1
    assert min(scores) - 1e-9 <= interval.value <= max(scores) + 1e-9
