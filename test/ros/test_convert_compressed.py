"""Compressed messages carry the header of the image and what the codec reads back."""

import numpy as np
import pytest
from std_msgs.msg import Header

from m3et_ros.data.images.compressed import depth_from_compressed, rgb_from_compressed
from m3et_ros.ros.convert import compress_depth, compress_rgb

HEADER = Header(frame_id='camera')
RGB = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
DEPTH = np.linspace(0.5, 4, 24, dtype=np.float32).reshape(4, 6)


def test_colour_round_trip():
    msg = compress_rgb(RGB, HEADER, kind='png')
    assert (msg.header, msg.format) == (HEADER, 'rgb8; png compressed bgr8')
    assert np.array_equal(rgb_from_compressed(msg), RGB)


def test_the_quality_of_jpeg_decides_its_size():
    assert len(compress_rgb(RGB, HEADER, quality=95).data) > len(compress_rgb(RGB, HEADER, quality=5).data)


@pytest.mark.parametrize('encoding,error', [('16UC1', 0.00051), ('32FC1', 0.001)])
def test_depth_round_trip(encoding, error):
    msg = compress_depth(DEPTH, HEADER, encoding=encoding)
    assert (msg.header, msg.format) == (HEADER, f'{encoding}; compressedDepth png')
    np.testing.assert_allclose(depth_from_compressed(msg), DEPTH, atol=error)
