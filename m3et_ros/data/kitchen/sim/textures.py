"""Seeded textures made with NumPy and packed as PNG.

From a seed to a question: after sim/shapes.py, before sim/tones.py.
"""

import struct
import zlib

import numpy as np

from m3et_ros.data.kitchen.sim.vocabulary import COLOURS

SIZE = 256
"""Height and width of a texture in pixels."""

U, V = np.meshgrid(np.linspace(0, 1, SIZE, endpoint=False), np.linspace(0, 1, SIZE, endpoint=False))


def png(image: np.ndarray) -> bytes:
    """Encode an (H, W, 3) uint8 image as PNG."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))

    height, width, _ = image.shape
    rows = b''.join(b'\0' + row.tobytes() for row in image)
    header = struct.pack('>IIBBBBB', width, height, 8, 2, 0, 0, 0)
    return b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', header) + chunk(b'IDAT', zlib.compress(rows, 1)) + chunk(b'IEND', b'')


def noise(rng: np.random.Generator, across: int, down: int) -> np.ndarray:
    """Draw smooth noise (SIZE, SIZE) in 0..1 from a grid of across + 1 by down + 1 random values."""
    grid = rng.random((down + 1, across + 1))
    steps = np.linspace(0, 1, SIZE)
    rows = np.stack([np.interp(steps, np.linspace(0, 1, across + 1), row) for row in grid])
    return np.stack([np.interp(steps, np.linspace(0, 1, down + 1), column) for column in rows.T], axis=1)


def wood(rng: np.random.Generator) -> np.ndarray:
    """Draw grain that runs down the picture."""
    rings = np.sin(2 * np.pi * (U * rng.uniform(5, 9) + 1.2 * noise(rng, 5, 2)))
    return 0.78 + 0.11 * rings + 0.10 * noise(rng, 120, 4)


def planks(rng: np.random.Generator) -> np.ndarray:
    """Draw six boards side by side with dark joints."""
    boards = 6
    light = 0.75 + 0.2 * rng.random(boards)[(U * boards).astype(int)] + 0.12 * noise(rng, 90, 5)
    return np.where((U * boards) % 1 < 0.03, 0.35, light)


def tiles(rng: np.random.Generator) -> np.ndarray:
    """Draw square tiles with grey joints."""
    count = int(rng.integers(3, 6))
    joints = ((U * count) % 1 < 0.03) | ((V * count) % 1 < 0.03)
    return np.where(joints, 0.55, 0.88 + 0.12 * noise(rng, count, count))


def checker(rng: np.random.Generator) -> np.ndarray:
    """Draw four by four squares."""
    squares = (np.floor(U * 4) + np.floor(V * 4)) % 2
    return np.where(squares > 0, 1, 0.55) + 0.04 * noise(rng, 60, 60)


def marble(rng: np.random.Generator) -> np.ndarray:
    """Draw veins."""
    return 0.8 + 0.2 * np.abs(np.sin(6 * np.pi * (U + 0.35 * noise(rng, 6, 6) + 0.2 * noise(rng, 14, 14))))


def speckle(rng: np.random.Generator) -> np.ndarray:
    """Draw fine grain, for stone and steel."""
    return 0.85 + 0.3 * (noise(rng, 110, 110) - 0.5)


def brick(rng: np.random.Generator) -> np.ndarray:
    """Draw courses of bricks with pale or dark joints."""
    courses = int(rng.integers(5, 9))
    row = np.floor(V * courses)
    across = (U * courses / 2 + 0.5 * (row % 2)) % 1
    joints = (across < 0.05) | ((V * courses) % 1 < 0.1)
    light = 0.7 + 0.3 * rng.random((courses, courses))[row.astype(int), (U * courses / 2 + 0.5 * (row % 2)).astype(int)]
    return np.where(joints, rng.uniform(0.4, 1.15), light)


def stripes(rng: np.random.Generator) -> np.ndarray:
    """Draw upright stripes."""
    count, share = int(rng.integers(4, 15)), rng.uniform(0.3, 0.7)
    return np.where((U * count) % 1 < share, 1.0, rng.uniform(0.6, 0.85)) + 0.03 * noise(rng, 40, 40)


def gingham(rng: np.random.Generator) -> np.ndarray:
    """Draw a woven check."""
    count = int(rng.integers(4, 10))
    return 0.6 + 0.2 * ((U * count) % 1 < 0.5) + 0.2 * ((V * count) % 1 < 0.5) + 0.04 * noise(rng, 100, 100)


def terrazzo(rng: np.random.Generator) -> np.ndarray:
    """Draw chips of stone in a ground."""
    chips = noise(rng, 34, 34)
    return np.where(chips > 0.68, 1.1, np.where(chips < 0.3, 0.55, 0.85)) + 0.05 * noise(rng, 100, 100)


def stone(rng: np.random.Generator) -> np.ndarray:
    """Draw clouded slate."""
    return 0.6 + 0.3 * noise(rng, 5, 5) + 0.15 * noise(rng, 20, 14) + 0.1 * noise(rng, 120, 120)


def dots(rng: np.random.Generator) -> np.ndarray:
    """Draw rows of dots."""
    count, radius = int(rng.integers(4, 10)), rng.uniform(0.15, 0.33)
    inside = ((U * count) % 1 - 0.5) ** 2 + ((V * count) % 1 - 0.5) ** 2 < radius**2
    return np.where(inside, rng.uniform(0.5, 0.8), 1.0) + 0.03 * noise(rng, 30, 30)


def plain(rng: np.random.Generator) -> np.ndarray:
    """Draw an almost even coat of paint."""
    return 0.93 + 0.07 * noise(rng, 30, 30)


BRIGHTNESS = {f.__name__: f for f in (wood, planks, tiles, checker, marble, speckle, plain)}
BRIGHTNESS |= {f.__name__: f for f in (brick, stripes, gingham, terrazzo, stone, dots)}
"""Patterns that scale the brightness of one colour; each maps a random generator to (SIZE, SIZE)."""


def texture(rng: np.random.Generator, pattern: str, colour) -> np.ndarray:
    """Draw a pattern of BRIGHTNESS in a colour, R G B in 0..1; returns (SIZE, SIZE, 3) uint8."""
    shaded = np.asarray(colour) * BRIGHTNESS[pattern](rng)[..., None]
    return (255 * np.clip(shaded, 0, 1)).astype(np.uint8)


def label(rng: np.random.Generator, colour) -> np.ndarray:
    """Draw a print: a band and three discs on a ground of R G B in 0..1; returns (SIZE, SIZE, 3) uint8."""
    inks = np.array(list(COLOURS.values()))
    image = np.ones((SIZE, SIZE, 3)) * np.asarray(colour)
    image[int(0.4 * SIZE) : int(0.56 * SIZE)] = inks[rng.integers(len(inks))]
    for _ in range(3):
        x, y, radius = rng.uniform(0.2, 0.8), rng.uniform(0.35, 0.6), rng.uniform(0.04, 0.1)
        image[(U - x) ** 2 + (V - y) ** 2 < radius**2] = inks[rng.integers(len(inks))]
    return (255 * image).astype(np.uint8)
