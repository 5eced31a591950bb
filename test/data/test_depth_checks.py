"""Depth of another camera, another clock and another unit, each at both edges."""

import numpy as np
import pytest

from m3et_ros.data.depth_checks import check_frame_id, implausible, median_m, offset_words
from m3et_ros.data.errors import InputError


@pytest.mark.parametrize('rgb,depth', [('colour', 'colour'), ('/colour', 'colour'), ('', 'depth'), ('colour', '')])
def test_one_frame_or_an_unknown_one_is_accepted(rgb, depth):
    check_frame_id(rgb, depth)


def test_another_frame_is_refused_with_both_names_and_the_fix():
    with pytest.raises(InputError) as refused:
        check_frame_id('camera_color_optical_frame', 'camera_depth_optical_frame')
    assert refused.value.reason == 'depth_frame'
    words = ('camera_color_optical_frame', 'camera_depth_optical_frame', 'align_depth.enable', 'depth_image_proc')
    assert all(word in str(refused.value) for word in words)


@pytest.mark.parametrize(
    'median,words',
    [
        (0.003, 'below 0.05 m, its median is 0.003 m'),
        (0.0499, 'below'),
        (0.05, ''),
        (1.5, ''),
        (10, ''),
        (10.1, 'beyond 10 m'),
        (3000, 'its median is 3000 m'),
        (float('nan'), ''),
    ],
)
def test_a_median_is_judged_at_both_edges(median, words):
    sentence = implausible(median)
    assert (words in sentence and 'REP 118' in sentence) if words else sentence == ''


def test_the_median_is_that_of_the_known_pixels():
    depth = np.full((64, 64), np.nan, np.float32)
    assert np.isnan(median_m(depth))
    depth[::8, ::8] = 2.0
    depth[0, :8] = 9.0
    assert median_m(depth) == 2.0


@pytest.mark.parametrize(
    'offset,words',
    [
        (60e6, '60 ms after'),
        (-0.5e6, '0.5 ms before'),
        (0.9996e9, '1e+03 ms after'),
        (1.5e9, '1.5 s after'),
        (-599e9, '599 s before'),
        (10_800e9, '3 h after'),
    ],
)
def test_an_offset_is_put_into_words(offset, words):
    assert offset_words(offset) == f'depth is stamped {words} colour'
