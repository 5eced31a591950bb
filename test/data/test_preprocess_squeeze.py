"""Views squeezed into squares."""

import cv2
import numpy as np

from m3et_ros.data.preprocess import halved, squeeze_depth, squeeze_labels, squeeze_rgb


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
