"""Decode RVL, the lossless depth format of the compressedDepth transport.

Source: Wilson, Fast Lossless Depth Image Compression, ISS 2017. Depth is a list of runs: a number of zeros, a number
of other pixels and for each of these the zigzag difference from the one before. Every number is written in nibbles of
three bits and a flag for 'more', lowest bits first; eight nibbles make a 32-bit word, the first one on top.
"""

import struct

import numpy as np

from m3et_ros.data.errors import InputError
from m3et_ros.data.images.messages import check_pixels

RVL_SIZE = struct.Struct('<II')
LONGEST = 11
"""Most nibbles of a number: eleven of three bits hold 32 bits."""


def decode_rvl(data: bytes) -> np.ndarray:
    """Decode what compressedDepth stores behind its header: width, height and the runs.

    Args:
        data: two little-endian uint32 and the words, likewise.

    Returns:
        (H, W) uint16, as stored.

    Raises:
        InputError: empty_image, too_large, compressed_damaged.
    """
    if len(data) < RVL_SIZE.size:
        raise _damaged(f'it has {len(data)} bytes')
    width, height = RVL_SIZE.unpack_from(data)
    if not width or not height:
        raise InputError(
            'empty_image', f'compressed depth is {width}x{height} and holds no pixel; check that the camera is running'
        )
    check_pixels(width, height, 'compressed depth')
    numbers = _numbers(np.frombuffer(data, '<u4', (len(data) - RVL_SIZE.size) // 4, RVL_SIZE.size))
    zeros, others, places = _runs(numbers, width * height)
    depth = np.zeros(width * height, np.uint16)
    # In the order of the list, a pixel that is not zero is the sum of all differences up to its own.
    zigzag = numbers[np.repeat(places, others) + _counted(others)]
    differences = (zigzag >> 1) ^ -(zigzag & 1)
    starts = np.cumsum(zeros + others) - others
    depth[np.repeat(starts, others) + _counted(others)] = (np.cumsum(differences) & 0xFFFF).astype(np.uint16)
    return depth.reshape(height, width)


def _numbers(words: np.ndarray) -> np.ndarray:
    """Return the numbers (N,) int64 of the words (M,) uint32; padding at the end reads as zeros."""
    nibbles = (words[:, None] >> np.arange(28, -4, -4, dtype=np.uint32)).astype(np.uint8).ravel() & 15
    ends = np.flatnonzero(nibbles < 8)
    if not ends.size:
        raise _damaged('it is cut off')
    starts = np.concatenate([[0], ends[:-1] + 1])
    lengths = ends - starts + 1
    if lengths.max() > LONGEST:
        raise _damaged('a number is too long')
    nibbles = nibbles[: ends[-1] + 1]
    place = np.arange(nibbles.size) - np.repeat(starts, lengths)
    return np.add.reduceat((nibbles & 7).astype(np.int64) << (3 * place), starts)


def _runs(numbers: np.ndarray, pixels: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return for each run its zeros, its other pixels and the position of its first difference among the numbers."""
    runs, position, left = [], 0, pixels
    values = numbers.tolist()
    while left > 0:
        if position + 2 > len(values):
            raise _damaged('it is cut off')
        zeros, others = values[position : position + 2]
        position += 2
        left -= zeros + others
        if left < 0 or position + others > len(values) or not zeros + others:
            raise _damaged('its runs do not fit its size')
        runs.append((zeros, others, position))
        position += others
    columns = np.array(runs, np.int64)
    return columns[:, 0], columns[:, 1], columns[:, 2]


def _counted(lengths: np.ndarray) -> np.ndarray:
    """Return 0, 1, ... for each length, one list after the other."""
    return np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)


def _damaged(why: str) -> InputError:
    return InputError(
        'compressed_damaged',
        f'compressed depth in RVL cannot be decoded: {why}; correct the publisher or the recording',
    )
