"""Seeded textures made with NumPy and packed as PNG.

From a seed to a question: after sim/shapes.py, before sim/parts.py.
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


def plain(rng: np.random.Generator) -> np.ndarray:
    """Draw an almost even coat of paint."""
    return 0.93 + 0.07 * noise(rng, 30, 30)


BRIGHTNESS = {f.__name__: f for f in (wood, planks, tiles, checker, marble, speckle, plain)}
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
