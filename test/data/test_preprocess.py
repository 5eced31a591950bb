"""Frames become model inputs and outputs become camera images, without inventing or losing depth."""

import cv2
import numpy as np
import pytest
import torch
from transformers import SiglipImageProcessorPil

from m3et_ros.data import preprocess
from m3et_ros.data.frame import UNLABELLED, Frame
from m3et_ros.data.preprocess import DepthScale, bicubic_square, halved, squeeze_depth, squeeze_labels, squeeze_rgb
from m3et_ros.models.m3et.sizes import SIZES

KITCHEN, BASE = SIZES['kitchen'], SIZES['base']


def frame(depth=None, height=60, width=80):
    rgb = np.random.default_rng(0).integers(0, 255, (height, width, 3), np.uint8)
    return Frame(rgb, depth)


def test_colours_are_standardised_with_the_mean_and_deviation_of_imagenet():
    rgb = np.full((60, 80, 3), (10, 120, 250), np.uint8)
    tensor = preprocess.rgb_input(rgb, 32)
    assert tensor.shape == (1, 3, 32, 32) and tensor.dtype == torch.float32
    wanted = (np.array([10, 120, 250]) / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    np.testing.assert_allclose(tensor[0, :, 5, 7], wanted, rtol=1e-5)
    assert (tensor == tensor[:, :, :1, :1]).all()


@pytest.mark.parametrize('pad', [True, False], ids=['pad', 'squeeze'])
def test_a_bicubic_square_is_that_of_siglip_in_transformers(pad):
    rgb = np.random.default_rng(0).integers(0, 255, (30, 47, 3), np.uint8)
    square = rgb
    if pad:
        square = np.full((47, 47, 3), 127, np.uint8)
        square[8:38] = rgb
    size = {'height': 28, 'width': 28}
    wanted = SiglipImageProcessorPil(size=size)(square, return_tensors='np')['pixel_values'][0]
    found = bicubic_square(rgb, 28, pad=pad)
    assert found.dtype == np.float32 and np.abs(found - wanted).max() < 1e-6


def test_holes_in_depth_do_not_bleed():
    depth = np.full((64, 64), 2.0, np.float32)
    depth[::2] = np.nan
    tensor = preprocess.depth_input(depth, 16, DepthScale(1.0, 0.5))
    assert torch.allclose(tensor, torch.full((1, 1, 16, 16), 2.0))
    depth[:8] = np.nan
    assert (preprocess.depth_input(depth, 16, DepthScale(1.0, 0.5))[0, 0, :2] == 0).all()


def test_validity_is_one_where_a_pixel_is_known():
    depth = np.full((64, 64), 2.0, np.float32)
    depth[:32, :32] = np.nan
    depth[40, 40] = np.nan  # of four camera pixels three are known
    found = preprocess.depth_input(depth, 32, DepthScale(1.0, 0.5), validity=True)
    known = torch.ones(32, 32)
    known[:16, :16] = 0
    assert found.shape == (1, 2, 32, 32) and found.dtype == torch.float32
    assert torch.equal(found[0, 1], known) and torch.equal(found[0, 0], 2 * known)
    assert torch.equal(found[:, :1], preprocess.depth_input(depth, 32, DepthScale(1.0, 0.5)))


@pytest.mark.parametrize(('config', 'channels'), [(KITCHEN, 1), (SIZES['kitchen2'], 2)])
def test_the_config_chooses_the_channels_of_depth(config, channels):
    inputs, _ = preprocess.image_inputs(frame(np.ones((60, 80), np.float32)), config)
    assert inputs['depth'].shape == (1, channels, config.image_size, config.image_size)


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


def test_colours_are_means_over_areas():
    rgb = np.zeros((4, 8, 3), np.uint8)
    rgb[:, ::2] = 200
    assert (squeeze_rgb(rgb, 2) == 100).all()


def test_holes_do_not_bleed_and_full_holes_stay():
    depth = np.full((8, 8), 2, np.float32)
    depth[:4, :4] = np.nan  # all of one small pixel
    depth[4, 4] = np.nan  # a part of another
    small = squeeze_depth(depth, 2)
    assert np.isnan(small[0, 0]) and np.isfinite(small).sum() == 3
    np.testing.assert_allclose(small[np.isfinite(small)], 2)


def test_a_cell_takes_its_commonest_label():
    labels = np.full((8, 8), 3, np.uint8)
    labels[:3, :4] = 255  # twelve of the first cell's sixteen votes
    labels[4:, 4] = 7  # four of the last cell's
    assert squeeze_labels(labels, 2).tolist() == [[255, 3], [3, 3]]


def test_labels_are_never_mixed_into_new_ones():
    labels = np.random.default_rng(0).choice(np.array([1, 9, 255], np.uint8), (33, 47))
    assert set(np.unique(squeeze_labels(labels, 7))) <= {1, 9, 255}


def test_a_view_of_exactly_four_times_the_size_is_halved():
    view = np.zeros((40, 40, 3), np.uint8)
    assert halved(view, 10).shape == (20, 20, 3) and halved(view, 11) is view and halved(view[:39], 9).shape[0] == 39


def test_a_view_of_the_right_size_is_returned_as_it_is():
    rgb, depth = np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8), np.float32)
    assert squeeze_rgb(rgb, 8) is rgb and squeeze_depth(depth, 8) is depth


def test_a_large_view_is_halved_first_and_comes_out_nearly_the_same():
    rng = np.random.default_rng(0)
    rgb = cv2.resize(rng.integers(0, 256, (60, 80, 3), np.uint8), (640, 480))
    assert halved(rgb, 112).shape == (240, 320, 3) and halved(rgb, 100).shape == (240, 320, 3)
    assert halved(rgb[:479], 112).shape == (479, 640, 3) and halved(rgb, 130).shape == rgb.shape
    direct = cv2.resize(rgb, (112, 112), interpolation=cv2.INTER_AREA)
    assert np.abs(squeeze_rgb(rgb, 112).astype(int) - direct).mean() < 1


def test_depth_of_a_large_view_is_the_mean_of_what_is_known():
    depth = np.full((480, 640), np.nan, np.float32)
    depth[:, :320] = np.linspace(1, 3, 480, dtype=np.float32)[:, None]
    small = squeeze_depth(depth, 112)
    assert np.isnan(small[:, 57:]).all() and np.isfinite(small[:, :56]).all()
    np.testing.assert_allclose(small[:, 10], np.linspace(1, 3, 112), atol=0.02)
