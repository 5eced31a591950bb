"""Filling holes of depth without a model, the lines that a model has to beat.

Every function takes depth (H, W) in metres with NaN, infinite, zero or negative for unknown, and gives float32 (H, W)
in which known pixels are unchanged.
"""

import cv2
import numpy as np
from numpy.typing import ArrayLike

from m3et_ros.evaluation.metrics.arrays import to_numpy

MILLIMETRES = 1000
"""OpenCV's Telea errs by about one grey level whatever the type: a millimetre here, in metres far too much."""

RADIUS = 3.0
"""Neighbourhood of cv2.inpaint in pixels, the value of OpenCV's own example."""


def known_mask(depth: ArrayLike) -> np.ndarray:
    """Where depth is known, bool of the same shape."""
    depth = to_numpy(depth)
    return np.isfinite(depth) & (depth > 0)


def fill_nearest(depth: ArrayLike) -> np.ndarray:
    """Give each hole the depth of the nearest known pixel (distances as cv2.distanceTransform has them).

    Raises:
        ValueError: not one picture, or no pixel is known.
    """
    depth, known = _read(depth)
    _, labels = cv2.distanceTransformWithLabels(
        (~known).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
    )
    values = np.zeros(labels.max() + 1, np.float32)
    values[labels[known]] = depth[known]
    return np.where(known, depth, values[labels])


def fill_telea(depth: ArrayLike) -> np.ndarray:
    """Fill by fast marching (Telea 2004; cv2.INPAINT_TELEA).

    Raises:
        ValueError: as fill_nearest.
    """
    return _inpaint(depth, cv2.INPAINT_TELEA)


def fill_navier_stokes(depth: ArrayLike) -> np.ndarray:
    """Fill along lines of equal depth (Bertalmio et al. 2001; cv2.INPAINT_NS).

    Raises:
        ValueError: as fill_nearest.
    """
    return _inpaint(depth, cv2.INPAINT_NS)


FILLERS = {'nearest': fill_nearest, 'telea': fill_telea, 'navier_stokes': fill_navier_stokes}
"""The fillers by the names under which reports list them."""


def _inpaint(depth: ArrayLike, method: int) -> np.ndarray:
    depth, known = _read(depth)
    millimetres = np.where(known, depth * MILLIMETRES, 0).astype(np.float32)
    filled = cv2.inpaint(millimetres, (~known).astype(np.uint8), RADIUS, method) / MILLIMETRES
    return np.where(known, depth, filled).astype(np.float32)


def _read(depth: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    depth = to_numpy(depth).astype(np.float32)
    known = known_mask(depth)
    if depth.ndim != 2 or not known.any():
        raise ValueError(
            f'depth is {depth.shape} with {np.count_nonzero(known)} known pixels; '
            'give one picture (H, W) with at least one'
        )
    return depth, known
