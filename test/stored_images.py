"""Images as cameras and drivers store them: mosaics of colours, and depth in RVL."""

import struct

import numpy as np

# Colour of the pixel in each corner of a 2x2 cell, by channel of R G B.
CELLS = {'rggb': (0, 1, 1, 2), 'bggr': (2, 1, 1, 0), 'gbrg': (1, 2, 0, 1), 'grbg': (1, 0, 2, 1)}


def mosaic_of(rgb, order):
    """A mosaic (H, W) with the one colour of each pixel."""
    mosaic = np.empty(rgb.shape[:2], rgb.dtype)
    for place, channel in enumerate(CELLS[order]):
        mosaic[place // 2 :: 2, place % 2 :: 2] = rgb[place // 2 :: 2, place % 2 :: 2, channel]
    return mosaic


def encode_rvl(depth):
    """Encode depth (H, W) uint16, number by number as in the appendix of the paper."""
    nibbles, values = [], depth.ravel().tolist()

    def number(value):
        while True:
            more = value > 7
            nibbles.append(value & 7 | (8 if more else 0))
            value >>= 3
            if not more:
                return

    at = previous = 0
    while at < len(values):
        start = at
        while at < len(values) and values[at] == 0:
            at += 1
        number(at - start)
        start = at
        while at < len(values) and values[at]:
            at += 1
        number(at - start)
        for value in values[start:at]:
            difference = value - previous
            number(2 * difference if difference >= 0 else -2 * difference - 1)
            previous = value
    nibbles += [0] * (-len(nibbles) % 8)
    words = [int(''.join(f'{n:x}' for n in nibbles[i : i + 8]), 16) for i in range(0, len(nibbles), 8)]
    height, width = depth.shape
    return struct.pack('<II', width, height) + struct.pack(f'<{len(words)}I', *words)
