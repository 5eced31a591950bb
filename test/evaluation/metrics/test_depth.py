"""Depth errors inside a mask."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from m3et_ros.evaluation.metrics.depth import depth_rates, depth_sums


def test_errors_by_hand():
    target = np.array([[[1.0, 2.0, np.nan, 4.0]]])
    prediction = np.array([[[1.0, 2.4, 9.0, 8.0]]])
    sums = depth_sums(prediction, target)
    assert sums[0, 0] == 3
    assert depth_rates(sums)[0] == pytest.approx([np.sqrt((0.16 + 16) / 3), 4.4 / 3, 2 / 3])


def test_only_the_mask_counts_and_zero_is_unknown():
    target = np.array([[[1.0, 0.0, 4.0]]])
    prediction = np.array([[[1.0, 7.0, np.nan]]])
    sums = depth_sums(prediction, target, [[[True, True, False]]])
    assert sums[0, 0] == 1 and depth_rates(sums)[0].tolist() == [0, 0, 1]


def test_the_ratio_is_strict_and_negative_depth_is_never_within():
    sums = depth_sums([[[1.25, 1.24, -1.0, 0.0]]], [[[1.0, 1.0, 1.0, 1.0]]])
    assert sums[0, 3] == 1


def test_no_pixel_gives_nan_and_a_bad_prediction_is_refused():
    assert np.isnan(depth_rates(depth_sums([[[1.0]]], [[[np.nan]]]))).all()
    with pytest.raises(ValueError, match='not finite where it is scored'):
        depth_sums([[[np.nan]]], [[[1.0]]])
    with pytest.raises(ValueError, match='differ'):
        depth_sums([[[1.0, 1.0]]], [[[1.0]]])


@given(seed=st.integers(0, 99))
def test_sums_add_up_and_stay_in_bounds(seed):
    rng = np.random.default_rng(seed)
    prediction, target = rng.uniform(0.3, 5, (2, 3, 4, 4))
    sums = depth_sums(prediction, target)
    whole = depth_sums(prediction.reshape(1, 12, 4), target.reshape(1, 12, 4))
    assert sums.sum(0) == pytest.approx(whole[0])
    rates = depth_rates(sums)
    assert (rates[:, 0] >= rates[:, 1] - 1e-9).all() and ((rates[:, 2] >= 0) & (rates[:, 2] <= 1)).all()
    assert depth_rates(depth_sums(target, target)).tolist() == [[0, 0, 1]] * 3
