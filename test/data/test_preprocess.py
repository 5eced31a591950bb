"""Frames become model inputs and outputs become camera images, without inventing or losing depth."""

import numpy as np
import pytest
import torch

from m3et_ros.data import preprocess
from m3et_ros.data.frame import UNLABELLED, Frame
from m3et_ros.data.preprocess import DepthScale
from m3et_ros.models.m3et.sizes import SIZES

KITCHEN, BASE = SIZES['kitchen'], SIZES['base']


def frame(depth=None, height=60, width=80):
    rgb = np.random.default_rng(0).integers(0, 255, (height, width, 3), np.uint8)
    return Frame(rgb, depth)


def test_colours_are_standardised_and_come_back():
    rgb = np.full((60, 80, 3), (10, 120, 250), np.uint8)
    tensor = preprocess.rgb_input(rgb, 32)
    assert tensor.shape == (1, 3, 32, 32) and tensor.dtype == torch.float32
    assert (preprocess.rgb_output(tensor) == rgb[:32, :32]).all()


def test_holes_in_depth_do_not_bleed():
    depth = np.full((64, 64), 2.0, np.float32)
    depth[::2] = np.nan
    tensor = preprocess.depth_input(depth, 16, DepthScale(1.0, 0.5))
    assert torch.allclose(tensor, torch.full((1, 1, 16, 16), 2.0))
    depth[:8] = np.nan
    assert (preprocess.depth_input(depth, 16, DepthScale(1.0, 0.5))[0, 0, :2] == 0).all()


def test_depth_without_a_known_pixel_is_a_missing_modality():
    inputs, _ = preprocess.image_inputs(frame(np.full((60, 80), np.nan, np.float32)), KITCHEN)
    assert set(inputs) == {'rgb'}
    inputs, _ = preprocess.image_inputs(frame(np.ones((60, 80), np.float32)), KITCHEN)
    assert set(inputs) == {'rgb', 'depth'}


def test_per_image_scale_needs_measured_depth():
    assert preprocess.depth_scale(None, BASE) is None
    assert preprocess.depth_scale(None, KITCHEN) == DepthScale(KITCHEN.depth_mean, KITCHEN.depth_std)
    ramp = np.linspace(1, 3, 60 * 80, dtype=np.float32).reshape(60, 80)
    scale = preprocess.depth_scale(ramp, BASE)
    assert scale.mean == pytest.approx(2, abs=0.01) and scale.std == pytest.approx(1.6 / 12**0.5, rel=0.02)


@pytest.mark.parametrize('fill', [True, False])
def test_measured_depth_is_kept_and_holes_are_filled_only_when_wanted(fill):
    measured = np.full((60, 80), 1.25, np.float32)
    measured[:, 10:] = np.nan
    depth = preprocess.depth_output(torch.full((1, 1, 16, 16), 1.0), DepthScale(2.0, 0.5), measured, (60, 80), fill)
    assert depth.dtype == np.float32 and depth.shape == (60, 80)
    assert (depth[:, :10] == 1.25).all()
    if not fill:
        assert np.isnan(depth[:, 10:]).all()
        return
    # At the rim the prediction of 2.5 m meets what was measured; far inside it stands.
    assert depth[30, 11] < 1.6 and (np.diff(depth[30, 10:]) > -1e-5).all()
    np.testing.assert_allclose(depth[:, 50:], 2.5, atol=1e-3)


def test_a_prediction_meets_what_was_measured():
    predicted, measured = np.full((32, 32), 2, np.float32), np.full((32, 32), 2.3, np.float32)
    np.testing.assert_array_equal(preprocess.align_to_measured(predicted, None), predicted)
    np.testing.assert_array_equal(
        preprocess.align_to_measured(predicted, np.full((32, 32), np.nan, np.float32)), predicted
    )
    measured[14:18, 14:18] = np.nan
    np.testing.assert_allclose(preprocess.align_to_measured(predicted, measured), 2.3, atol=0.02)


def test_without_metres_nothing_is_filled():
    depth = preprocess.depth_output(torch.ones(1, 1, 16, 16), None, None, (60, 80), True)
    assert np.isnan(depth).all()


def test_predicted_depth_behind_the_camera_is_unknown():
    depth = preprocess.depth_output(torch.full((1, 1, 16, 16), -9.0), DepthScale(2.0, 0.5), None, (60, 80), True)
    assert np.isnan(depth).all()


def test_masks_are_aligned_with_the_camera_image():
    logits = torch.zeros(1, 3, 8, 8)
    logits[:, 2, :, 4:] = 5
    logits[:, 1, :, :4] = 5
    mask = preprocess.mask_output(logits, 32, (60, 80))
    assert mask.shape == (60, 80) and mask.dtype == np.uint8
    assert (mask[:, :36] == 1).all() and (mask[:, 44:] == 2).all()
    logits[0, :, 0, 0] = torch.nan
    assert preprocess.mask_output(logits, 32, (60, 80))[0, 0] == UNLABELLED


def test_overlay_leaves_unlabelled_pixels_alone():
    rgb = np.full((2, 2, 3), 100, np.uint8)
    colors = np.zeros((256, 3), np.uint8)
    colors[1] = 200
    mask = np.array([[1, UNLABELLED], [1, UNLABELLED]], np.uint8)
    mixed = preprocess.overlay(rgb, mask, colors, 0.5)
    assert (mixed[:, 0] == 150).all() and (mixed[:, 1] == 100).all()
