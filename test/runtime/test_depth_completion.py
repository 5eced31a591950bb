"""Completed depth of a stream of frames in every mode."""

import numpy as np
import pytest

from m3et_ros.data.depth_fill import EVERY, FILLS, carry, enlarged, smooth
from m3et_ros.data.frame import Frame
from m3et_ros.data.preprocess import DepthScale
from m3et_ros.runtime.depth_completion import DepthCompletion
from m3et_ros.runtime.view import View

SIDE = 32
RGB = np.zeros((SIDE, SIDE, 3), np.uint8)
TRUE = np.random.default_rng(0).uniform(1, 3, (4, 4)).repeat(8, 0).repeat(8, 1).astype(np.float32)
DEPTH = TRUE.copy()
DEPTH[:20, :10] = np.nan

INVERTED = np.float32(3.8) - np.float32(0.9) * TRUE


def view(depth=DEPTH):
    return View(Frame(RGB, depth), {}, DepthScale(0.0, 1.0, depth))


class Model:
    def __init__(self, predicted=TRUE):
        self.predicted, self.given = predicted, []

    def __call__(self, view, measured):
        self.given.append(measured)
        return self.predicted


def completion(model, *, trained=True, from_depth=False):
    return DepthCompletion(model, size=SIDE, trained=trained, from_depth=from_depth)


@pytest.mark.parametrize('fill', FILLS)
@pytest.mark.parametrize('trained', [False, True])
def test_measured_pixels_stay_to_the_bit(fill, trained):
    completed = completion(Model(), trained=trained).complete(view(), fill)
    known = np.isfinite(DEPTH)
    assert completed.dtype == np.float32 and (completed[known] == DEPTH[known]).all()
    assert np.isfinite(completed[~known]).all() != (fill == 'never')


def test_each_mode_fills_in_its_way():
    model, hole = Model(TRUE - np.float32(0.5)), np.isnan(DEPTH)
    fills = completion(model)
    assert np.isnan(fills.complete(view(), 'never')[hole]).all() and fills.described == 'never: measured depth alone'
    np.testing.assert_array_equal(fills.complete(view(), 'smooth')[hole], smooth(DEPTH, DEPTH)[hole])
    assert fills.described == 'smooth' and not model.given
    np.testing.assert_array_equal(fills.complete(view(), 'always')[hole], carry(model.predicted, DEPTH)[hole])
    assert fills.described == 'always: model' and model.given == [None]
    with pytest.raises(ValueError, match="fill is 'maybe'; give auto, smooth, always, never"):
        fills.complete(view(), 'maybe')


@pytest.mark.parametrize('times', [2, 4])
@pytest.mark.parametrize('fill', ['smooth', 'always', 'auto'])
def test_a_large_picture_is_halved_before_it_is_filled(fill, times):
    larger = np.ones((times, times))
    depth = np.kron(DEPTH, larger).astype(np.float32)
    depth[::7, ::7] = np.nan
    large = View(Frame(np.zeros((*depth.shape, 3), np.uint8), depth), {}, DepthScale(0.0, 1.0, DEPTH))
    filled, known = completion(Model()).complete(large, fill), np.isfinite(depth)
    coarse = completion(Model()).complete(view(), fill)
    assert (filled[known] == depth[known]).all()
    hole = np.kron(np.isnan(DEPTH), larger) > 0
    np.testing.assert_allclose(filled[hole], enlarged(coarse, depth.shape)[hole], rtol=1e-6)


def test_auto_takes_the_model_that_is_right_and_leaves_one_that_errs():
    hole = np.isnan(DEPTH)
    right, wrong = completion(Model()), completion(Model(INVERTED))
    for _ in range(5 * EVERY):
        found, surface = right.complete(view(), 'auto'), wrong.complete(view(), 'auto')
    worse = smooth(DEPTH, DEPTH)
    assert np.square(found - TRUE)[hole].mean() < 0.5 * np.square(worse - TRUE)[hole].mean()
    assert 'model 0.00 m' in right.described and right.described.startswith('auto: ')
    np.testing.assert_allclose(surface[hole], worse[hole], atol=0.05)


def test_untrained_weights_are_never_asked_by_auto():
    model = Model()
    fills = completion(model, trained=False)
    np.testing.assert_array_equal(
        fills.complete(view(), 'auto')[np.isnan(DEPTH)], smooth(DEPTH, DEPTH)[np.isnan(DEPTH)]
    )
    assert np.isnan(fills.complete(view(None), 'auto')).all() and not model.given
    assert fills.described == 'auto: no measured depth to fill from'
    fills.complete(view(), 'auto')
    assert fills.described == 'auto: smooth, because the weights are untrained'


@pytest.mark.parametrize(('fill', 'filled'), [('auto', True), ('always', True), ('smooth', False), ('never', False)])
def test_without_a_depth_camera_the_model_stands_alone(fill, filled):
    for depth in (None, np.full((SIDE, SIDE), np.nan, np.float32)):
        completed = completion(Model()).complete(view(depth), fill)
        assert (completed == TRUE).all() if filled else np.isnan(completed).all()


def test_the_model_is_asked_again_only_for_a_check_and_only_if_it_reads_depth():
    """One that errs is asked at a check alone; the check of one that reads depth hides pixels from it."""
    for from_depth in (False, True):
        model = Model(INVERTED)
        fills = completion(model, from_depth=from_depth)
        for _ in range(EVERY + 1):
            fills.complete(view(), 'auto')
        hidden = [given for given in model.given if given is not None]
        assert len(model.given) - len(hidden) == 2 and len(hidden) == (2 if from_depth else 0)
        for given in hidden:
            assert np.isnan(given).sum() > np.isnan(DEPTH).sum()


def test_without_metres_always_leaves_holes_and_auto_is_smooth():
    hole = np.isnan(DEPTH)
    fills = completion(Model(None))
    assert np.isnan(fills.complete(view(), 'always')[hole]).all()
    np.testing.assert_array_equal(fills.complete(view(), 'auto')[hole], smooth(DEPTH, DEPTH)[hole])
    assert np.isnan(fills.complete(view(None), 'auto')).all()


def test_depth_without_holes_is_returned_and_depth_behind_the_camera_is_unknown():
    model = Model(np.full_like(TRUE, -9))
    fills = completion(model)
    completed = fills.complete(view(TRUE), 'auto')
    assert (completed == TRUE).all() and completed is not TRUE and not model.given
    assert fills.described == 'auto: no holes'
    assert np.isnan(fills.complete(view(None), 'always')).all()


def test_a_new_episode_is_weighed_anew():
    fills = completion(Model())
    for _ in range(EVERY):
        fills.complete(view(), 'auto')
    fills.reset()
    assert fills.described == 'nothing filled yet' and fills._blend.checks == 0
