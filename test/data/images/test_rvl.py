"""RVL depth against a slow encoder after the paper, and the refusal of damaged bytes."""

import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stored_images import encode_rvl

from m3et_ros.data.errors import InputError
from m3et_ros.data.images.rvl import decode_rvl


def test_a_picture_with_holes_round_trips():
    rng = np.random.default_rng(0)
    depth = (800 + 3 * np.add.outer(np.arange(48), np.arange(64)) + rng.integers(-4, 5, (48, 64))).astype(np.uint16)
    depth[10:20, 5:30] = 0
    depth[rng.random(depth.shape) < 0.1] = 0
    assert np.array_equal(decode_rvl(encode_rvl(depth)), depth)


def test_the_bytes_of_the_paper_are_read_word_by_word():
    """One zero, two pixels, +1000 (zigzag 2000 = 0, 2, 7, 3 in threes of bits) and -1 (zigzag 1)."""
    data = struct.pack('<III', 3, 1, 0x12_8AF3_10)
    assert decode_rvl(data).tolist() == [[0, 1000, 999]]


@given(st.lists(st.sampled_from([0, 0, 0, 1, 7, 8, 500, 65535]) | st.integers(0, 65535), min_size=1, max_size=60))
@settings(max_examples=60, deadline=None)
def test_any_values_round_trip(values):
    depth = np.array([values], np.uint16)
    assert np.array_equal(decode_rvl(encode_rvl(depth)), depth)


@pytest.mark.parametrize(
    'data,reason',
    [
        (b'', 'compressed_damaged'),
        (struct.pack('<II', 0, 4), 'empty_image'),
        (struct.pack('<III', 2**31, 2**31, 0), 'too_large'),
        (struct.pack('<II', 3, 1), 'compressed_damaged'),
        (struct.pack('<III', 3, 1, 0x7700_0000), 'compressed_damaged'),  # 14 pixels for 3
        (struct.pack('<III', 3, 1, 0x0000_0000), 'compressed_damaged'),  # runs without a pixel
        (struct.pack('<III', 3, 1, 0xFFFF_FFFF), 'compressed_damaged'),  # a number without an end
        (struct.pack('<IIII', 3, 1, 0xFFFF_FFFF, 0xFFFF_0000), 'compressed_damaged'),  # a number of 13 nibbles
        (encode_rvl(np.full((8, 8), 900, np.uint16))[:-8], 'compressed_damaged'),
    ],
)
def test_damaged_bytes_are_refused(data, reason):
    with pytest.raises(InputError) as refused:
        decode_rvl(data)
    assert refused.value.reason == reason


def test_all_zeros_are_a_picture_without_depth():
    assert not decode_rvl(encode_rvl(np.zeros((4, 5), np.uint16))).any()
