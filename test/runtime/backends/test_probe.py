"""The probe frame: fixed, of any size, with all that a depth camera's frame can have."""

import numpy as np
import pytest

from m3et_ros.runtime.backends.probe import probe_frame


@pytest.mark.parametrize(('height', 'width'), [(48, 64), (30, 50)])
def test_the_frame_has_colours_depth_an_edge_and_a_hole(height, width):
    frame = probe_frame(height, width)
    assert frame.rgb.shape == (height, width, 3) and frame.rgb.dtype == np.uint8
    assert frame.depth.shape == (height, width) and frame.depth.dtype == np.float32
    hole = frame.depth[: height // 2, : width // 2]
    assert np.isnan(hole).all() and np.isnan(frame.depth).sum() == hole.size == height * width // 4
    assert len(np.unique(frame.rgb.reshape(-1, 3), axis=0)) > 100
    assert np.nanmax(np.diff(frame.depth[:, -1])) == pytest.approx(1)


def test_the_frame_never_changes():
    one, other = probe_frame(), probe_frame()
    np.testing.assert_array_equal(one.rgb, other.rgb)
    np.testing.assert_array_equal(one.depth, other.depth)
    assert [int(value) for value in one.rgb[10, 20]] == [80, 50, 60] and one.depth[10, 32] == 1.5
