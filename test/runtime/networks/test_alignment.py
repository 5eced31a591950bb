"""Aligned depth is metres where the prediction is right up to scale, or scale and shift of disparity."""

import numpy as np
import pytest

from m3et_ros.data.errors import InputError
from m3et_ros.runtime.networks.alignment import FARTHEST_M, SAMPLES, align_depth

RNG = np.random.default_rng(1)
TRUE = np.linspace(0.5, 6, 60 * 80, dtype=np.float32).reshape(60, 80)


def measured(share=0.5, wrong=0.0):
    """Return true depth with holes, and this share of what is left wrong."""
    depth = TRUE.copy()
    depth[RNG.random(TRUE.shape) > share] = np.nan
    return np.where(RNG.random(TRUE.shape) < wrong, depth * 3 + 1, depth)


def test_metres_are_scaled():
    np.testing.assert_allclose(align_depth(TRUE / 1.3, measured(), True), TRUE, rtol=1e-5)


def test_disparity_is_scaled_and_shifted():
    predicted = (5 / TRUE - 2).astype(np.float32)
    aligned = align_depth(predicted, measured(), False)
    assert aligned.dtype == np.float32
    np.testing.assert_allclose(aligned, TRUE, rtol=1e-4)


@pytest.mark.parametrize('metric', [True, False], ids=['metres', 'disparity'])
def test_a_fifth_of_wrong_pixels_changes_nothing(metric):
    predicted = TRUE / 1.3 if metric else 5 / TRUE - 2
    noise = RNG.normal(1, 0.01, TRUE.shape)
    aligned = align_depth(predicted.astype(np.float32), measured(wrong=0.2) * noise, metric)
    assert np.nanmax(np.abs(aligned / TRUE - 1)) < 0.03


def test_more_pixels_than_a_fit_uses_are_drawn_from_all_of_them():
    deep = np.linspace(0.5, 6, 4 * SAMPLES, dtype=np.float32).reshape(200, -1)
    np.testing.assert_allclose(align_depth(5 / deep - 2, deep, False), deep, rtol=1e-4)


def test_what_is_too_far_for_disparity_is_unknown():
    predicted = (1 / TRUE).astype(np.float32)
    predicted[0] = 0.5 / FARTHEST_M
    predicted[1] = -1
    known = TRUE.copy()
    known[:2] = np.nan
    aligned = align_depth(predicted, known, False)
    assert np.isnan(aligned[:2]).all()
    np.testing.assert_allclose(aligned[2:], TRUE[2:], rtol=1e-4)


def test_fifty_pixels_are_enough_and_fewer_are_refused():
    few = np.full(TRUE.shape, np.nan, np.float32)
    few.flat[:: TRUE.size // 50] = TRUE.flat[:: TRUE.size // 50]
    few.flat[np.flatnonzero(np.isfinite(few))[50:]] = np.nan
    np.testing.assert_allclose(align_depth(2 * TRUE, few, True), TRUE, rtol=1e-5)
    few.flat[np.flatnonzero(np.isfinite(few))[49:]] = np.nan
    with pytest.raises(InputError, match='only 49 pixels are measured') as caught:
        align_depth(2 * TRUE, few, True)
    assert caught.value.reason == 'depth_alignment'


def test_a_prediction_that_contradicts_the_camera_is_refused():
    for predicted in (TRUE, np.ones_like(TRUE)):
        with pytest.raises(InputError, match='measures no nearer') as caught:
            align_depth(predicted, measured(), False)
        assert caught.value.reason == 'depth_alignment'


def test_shapes_that_differ_are_refused():
    with pytest.raises(ValueError, match='give the same size'):
        align_depth(TRUE, TRUE[1:], True)
