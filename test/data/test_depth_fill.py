"""Holes of depth filled by surfaces, by predictions and by the better of both."""

import numpy as np
import pytest

from m3et_ros.data.depth_fill import (
    CHANGE,
    EVERY,
    FEWEST,
    FillBlend,
    beyond_reach,
    carry,
    enlarged,
    halved_depth,
    hide,
    inpaint,
    push_pull,
    smooth,
)

SIDE = 48


def wall(side=SIDE):
    """A slanting wall, 1 m on the left and 3 m on the right."""
    return np.tile(np.linspace(1, 3, side, dtype=np.float32), (side, 1))


def holed(depth, top=18, bottom=30, left=12, right=20):
    found = depth.copy()
    found[top:bottom, left:right] = np.nan
    return found


@pytest.mark.parametrize('shape', [(1, 1), (1, 7), (5, 8), (33, 47)])
def test_a_pyramid_keeps_what_is_known_and_carries_a_constant_everywhere(shape):
    rng = np.random.default_rng(sum(shape))
    known = rng.random(shape) < 0.1
    known[0, 0] = True
    values = rng.random(shape).astype(np.float32)
    filled = push_pull(values, known)
    np.testing.assert_allclose(filled[known], values[known], atol=1e-6)
    assert filled.min() >= values[known].min() - 1e-5 and filled.max() <= values[known].max() + 1e-5
    np.testing.assert_allclose(push_pull(np.full(shape, 2.5), known), 2.5, atol=1e-5)


def test_a_pyramid_without_anything_known_is_zero_and_is_linear():
    assert (push_pull(np.ones((8, 8)), np.zeros((8, 8), bool)) == 0).all()
    known = np.random.default_rng(0).random((20, 30)) < 0.3
    one, two = np.random.default_rng(1).random((2, 20, 30)).astype(np.float32)
    np.testing.assert_allclose(
        push_pull(one + 2 * two, known), push_pull(one, known) + 2 * push_pull(two, known), atol=1e-5
    )


def test_half_of_depth_is_the_mean_of_what_is_known():
    nan = np.nan
    depth = np.array([[1, 3, nan, nan], [nan, nan, nan, nan], [1, 1, 2, nan], [1, 5, nan, 4]], np.float32)
    np.testing.assert_array_equal(halved_depth(depth), [[2, nan], [2, 3]])
    assert halved_depth(depth[:3, :3]).shape == (2, 2)


def test_near_values_weigh_more_than_far_ones():
    values = np.full((32, 64), np.nan)
    values[:, :8], values[:, 56:] = 1, 2
    filled = push_pull(values, np.isfinite(values))
    assert filled[16, 10] < 1.2 < 1.8 < filled[16, 53] and 1.3 < filled[16, 32] < 1.7


def test_a_surface_continues_what_surrounds_it_and_needs_something_known():
    true = wall()
    filled = smooth(holed(true), holed(true))
    assert np.abs(filled - true).max() < 0.08
    assert np.isnan(smooth(np.full((9, 9), np.nan, np.float32), np.full((9, 9), np.nan, np.float32))).all()


def test_a_surface_has_the_size_of_the_camera():
    true = wall(96)
    filled = smooth(holed(true, 30, 60, 30, 50), holed(wall(24), 7, 15, 7, 13))
    assert filled.shape == (96, 96) and np.abs(filled - true).max() < 0.12


def test_inpainting_is_in_metres_to_the_millimetre():
    flat = np.full((20, 20), 1.7335, np.float32)
    filled = inpaint(flat, np.isfinite(holed(flat, 5, 12, 5, 12)))
    assert filled.dtype == np.float32 and np.abs(filled - 1.7335).max() < 2e-3


def test_a_prediction_is_shifted_to_what_was_measured():
    true = wall()
    joined = carry(true - np.float32(0.4), holed(true))
    np.testing.assert_allclose(joined, true, atol=1e-5)
    base = wall()
    assert carry(base, np.full_like(base, np.nan)) is base


def test_a_small_picture_is_enlarged_and_one_of_the_size_is_not_touched():
    small = np.array([[0.0, 1.0]], np.float32)
    assert enlarged(small, (1, 2)) is small
    assert enlarged(small, (2, 4)).tolist() == [[0, 0.25, 0.75, 1]] * 2


def test_depth_beyond_the_reach_is_nearer_or_farther_than_nearly_all_that_was_measured():
    measured = np.append(np.linspace(1, 2, 999, dtype=np.float32), np.nan)
    assert beyond_reach(np.array([0.9, 1.01, 1.99, 2.1]), measured).tolist() == [True, False, False, True]


@pytest.mark.parametrize(('turn', 'axes'), [(0, (1,)), (1, (0,)), (2, (0, 1)), (3, (1,))])
def test_measured_pixels_are_hidden_in_the_shape_of_the_holes(turn, axes):
    depth = holed(wall() + np.linspace(0, 0.01, SIDE, dtype=np.float32)[:, None], 10, 20)
    placed, ends = hide(depth, turn)
    mirrored = np.flip(np.isnan(depth), axes)
    assert (placed == (mirrored & np.isfinite(depth))).all() and placed.any()
    hidden = depth[ends]
    assert ends.sum() / np.isfinite(depth).sum() == pytest.approx(0.04, abs=0.003)
    assert not ((hidden > 1.2) & (hidden < 2.8)).any()


def checked(predicted, depth, checks=4):
    blend, given = FillBlend(), []

    def predict(more):
        given.append(more)
        return predicted

    for _ in range(checks):
        blend.check(depth, predict)
    return blend, given


def rough(seed=0):
    """Steps of a metre that no surface can guess from their surroundings."""
    return (
        np.random.default_rng(seed).uniform(1, 3, (SIDE // 8, SIDE // 8)).repeat(8, 0).repeat(8, 1).astype(np.float32)
    )


def test_the_model_is_taken_where_it_is_right_about_hidden_pixels():
    true = rough()
    depth = holed(true, 8, 40, 4, 16)
    blend, _ = checked(true, depth)
    filled = blend.fill(true, depth, depth)
    assert blend.weights[0] > 0.5 and np.isfinite(filled).all()
    better, worse = (np.square(one - true).mean() for one in (filled, smooth(depth, depth)))
    assert better < 0.5 * worse


def test_the_surface_is_taken_where_the_model_errs():
    true = wall()
    depth = holed(true)
    blend, given = checked(np.random.default_rng(0).uniform(1, 3, true.shape).astype(np.float32), depth)
    assert blend.weights[0] == 0
    # Hidden pixels are unknown to both; nothing else is.
    assert np.isnan(given[0]).sum() > np.isnan(depth).sum() and (np.isfinite(given[0]) <= np.isfinite(depth)).all()
    assert blend.describe().startswith('smooth')


def test_a_blend_without_a_check_and_with_too_few_pixels_is_the_surface():
    depth = holed(wall())
    blend = FillBlend()
    np.testing.assert_array_equal(blend.fill(wall() + 1, depth, depth), smooth(depth, depth))
    assert blend.describe() == 'smooth (not enough measured pixels to compare)'
    lone = np.full((SIDE, SIDE), np.nan, np.float32)
    lone.reshape(-1)[:FEWEST] = 1
    for few in (lone, np.full_like(lone, np.nan)):
        blend.check(few, lambda given: pytest.fail('nothing to compare'))
    assert blend.checks == 2 and blend.weights.tolist() == [0, 0]


def test_what_a_sensor_cannot_reach_is_weighed_apart():
    """The model alone knows of a hand that is nearer than anything measured; on the wall it errs."""
    true = wall()
    predicted = true + np.random.default_rng(0).choice([-0.4, 0.4], true.shape).astype(np.float32) * (true > 1.2)
    predicted[predicted < 1] = 1.1
    predicted[18:30, 12:20] = 0.3
    predicted[:, :3] = true[:, :3]
    depth = holed(true)
    blend, _ = checked(predicted, depth, checks=8)
    blend.sums[1] = (0.0, 1.0, 0.0, 100.0)
    within, beyond = blend.weights
    assert within < 0.2 and beyond > 0.8
    filled = blend.fill(predicted, depth, depth)
    assert filled[24, 16] < 1.2 < smooth(depth, depth)[24, 16]


def test_weights_change_slowly():
    true, depth = rough(), holed(rough(), 8, 40, 4, 16)
    blend, _ = checked(true, depth, checks=8)
    before = blend.weights[0]
    blend.check(depth, lambda given: 4 - true)
    assert 0.3 < blend.weights[0] / before < 1


def test_holes_that_mirror_onto_themselves_are_mirrored_otherwise_next_time():
    true = rough()
    depth = holed(true, 8, 40, 4, 16)  # the middle rows
    blend = FillBlend()
    pixels = []
    for _ in range(3):
        blend.check(depth, lambda given: true)
        pixels.append(blend.sums[0, 3])
    assert pixels[0] == 0 and pixels[1] == 32 * 12 and pixels[2] > pixels[1]


def test_a_check_is_due_at_first_then_rarely_or_after_a_change():
    blend = FillBlend()
    assert blend.due(0.2)
    blend.check(holed(wall(), 0, 24, 0, 20), lambda given: wall())
    share = blend.share
    assert share == pytest.approx(24 * 20 / SIDE**2)
    assert [blend.due(share) for _ in range(EVERY)] == [False] * (EVERY - 1) + [True]
    blend.check(holed(wall(), 0, 24, 0, 20), lambda given: wall())
    assert not blend.due(share + CHANGE * 0.9) and blend.due(share + CHANGE * 1.1)


def test_a_mixture_is_described_with_both_errors():
    blend = FillBlend(sums=np.array([[4.0, 1.0, 0.0, 1e6], [0.0, 9.0, 0.0, 1e6]]), area=1000)
    within = blend.weights[0]
    assert within == pytest.approx(0.2, abs=1e-3) and blend.weights[1] == 1
    assert blend.describe() == (
        '20% model, 80% smooth; beyond reach model (model 0.00 m, smooth 0.00 m on 2000000 hidden pixels)'
    )
