"""Views squeezed into squares."""

import numpy as np

from m3et_ros.data.squeeze import squeeze_depth, squeeze_labels, squeeze_rgb


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
