"""Holes where a depth camera fails for a reason: shining, dark, thin and glossy things; and large blobs anywhere.

Every function returns the pixels that are lost, (H, W) bool, and takes the sample's own generator.
"""

from collections.abc import Sequence

import cv2
import numpy as np

PATCHES = 6
"""Cells along the longer side of the smooth random field that cuts a surface into lost and measured patches."""


def large_blobs(
    shape: tuple[int, int], share: float, sizes: tuple[float, float], rng: np.random.Generator
) -> np.ndarray:
    """Draw ellipses until their areas add up to a share of the picture; where they overlap, less is lost.

    Args:
        shape: (H, W).
        share: largest share, 0 to 1; the share of this picture is drawn evenly from 0 to it.
        sizes: smallest and largest half axis as shares of the width, above 0; drawn evenly on a logarithmic scale, so
            that there are many small blobs, while most of the lost area is in large ones.
        rng: generator of the sample.
    """
    lost = np.zeros(shape, np.uint8)
    left = rng.uniform(0, share) * lost.size
    while left > 0:
        axes = np.exp(rng.uniform(*np.log(sizes))) * rng.uniform(0.5, 1, 2) * shape[1]
        left -= np.pi * axes[0] * axes[1]
        if left > 0 or not lost.any():
            centre = (rng.random(2) * shape[::-1]).astype(int).tolist()
            cv2.ellipse(lost, centre, axes.round().astype(int).tolist(), rng.uniform(0, 180), 0, 360, 1, -1)
    return lost > 0


def patches(shape: tuple[int, int], share: float, rng: np.random.Generator) -> np.ndarray:
    """Cut a picture into smooth random patches, about this share (0 to 1) of them lost."""
    cells = rng.random((PATCHES, PATCHES), np.float32)
    return cv2.resize(cells, shape[::-1], interpolation=cv2.INTER_CUBIC) < np.quantile(cells, share)


def glare(rgb: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Lose highlights: the brightest half to four per cent of the pixels, and a pixel around them."""
    light = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    rank = np.bincount(light.ravel(), minlength=256).cumsum()
    bright = light > max(int(np.searchsorted(rank, (1 - rng.uniform(0.005, 0.04)) * light.size)), 180)
    return cv2.dilate(bright.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0


def dark(rgb: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Lose patches of dark things, which return too little of the camera's own light: grey levels up to 20 to 60."""
    return (cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY) < rng.uniform(20, 60)) & patches(
        rgb.shape[:2], rng.uniform(0.3, 1), rng
    )


def thin(depth: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Lose things narrower than 1 to 3 % of the width that stand before something farther."""
    width = 2 * max(1, round(rng.uniform(0.005, 0.015) * depth.shape[1])) + 1
    far = np.nan_to_num(depth, nan=np.inf).astype(np.float32)
    closed = cv2.morphologyEx(far, cv2.MORPH_CLOSE, np.ones((width, width), np.uint8))
    return closed > far * 1.05 + 0.02


def glossy(labels: np.ndarray, classes: Sequence[int], shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Lose patches of glass, steel and still water.

    Args:
        labels: class ids (h, w) uint8, stretched over the same view.
        classes: ids of glossy classes; each is lost with a probability of a half, by 30 to 100 % of its surface.
        shape: (H, W).
        rng: generator of the sample.
    """
    lost = np.zeros(shape, bool)
    ids = cv2.resize(labels, shape[::-1], interpolation=cv2.INTER_NEAREST)
    for number in classes:
        surface = ids == number
        if surface.any() and rng.random() < 0.5:
            lost |= surface & patches(shape, rng.uniform(0.3, 1), rng)
    return lost


def shifted(depth: np.ndarray, most: float, rng: np.random.Generator) -> np.ndarray:
    """Shift depth (H, W) against the colours by up to `most` pixels along each axis; what enters is unknown, NaN."""
    right, down = np.rint(rng.uniform(-most, most, 2)).astype(int).tolist()
    found = np.full_like(depth, np.nan)
    height, width = depth.shape
    found[max(down, 0) : height + min(down, 0), max(right, 0) : width + min(right, 0)] = depth[
        max(-down, 0) : height + min(-down, 0), max(-right, 0) : width + min(-right, 0)
    ]
    return found
