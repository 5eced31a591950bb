"""Fill holes of depth without a model: the baselines that a model has to beat.

Every filler takes depth (H, W) in metres, in which NaN, infinite, zero and negative values are unknown, and returns
float32 (H, W) with the known pixels unchanged.
"""

import cv2
import numpy as np
from numpy.typing import ArrayLike

from m3et_ros.data.depth_fill import inpaint
from m3et_ros.evaluation.metrics.arrays import to_numpy


def known_mask(depth: ArrayLike) -> np.ndarray:
    """Return a bool mask of the pixels with known depth, same shape."""
    depth = to_numpy(depth)
    return np.isfinite(depth) & (depth > 0)


def fill_nearest(depth: ArrayLike) -> np.ndarray:
    """Fill each hole with the depth of the nearest known pixel, by the distances of cv2.distanceTransform.

    Raises:
        ValueError: depth is not one image, or no pixel is known.
    """
    depth, known = _read(depth)
    _, labels = cv2.distanceTransformWithLabels(
        (~known).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
    )
    values = np.zeros(labels.max() + 1, np.float32)
    values[labels[known]] = depth[known]
    return np.where(known, depth, values[labels])


def fill_telea(depth: ArrayLike) -> np.ndarray:
    """Fill holes by fast marching (Telea 2004; cv2.INPAINT_TELEA).

    Raises:
        ValueError: as fill_nearest.
    """
    return inpaint(*_read(depth), cv2.INPAINT_TELEA)


def fill_navier_stokes(depth: ArrayLike) -> np.ndarray:
    """Fill holes along lines of equal depth (Bertalmio et al. 2001; cv2.INPAINT_NS).

    Raises:
        ValueError: as fill_nearest.
    """
    return inpaint(*_read(depth), cv2.INPAINT_NS)


FILLERS = {'nearest': fill_nearest, 'telea': fill_telea, 'navier_stokes': fill_navier_stokes}
"""Name in reports to filler."""


def _read(depth: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    depth = to_numpy(depth).astype(np.float32)
    known = known_mask(depth)
    if depth.ndim != 2 or not known.any():
        raise ValueError(
            f'depth is {depth.shape} with {np.count_nonzero(known)} known pixels; '
            'give one picture (H, W) with at least one'
        )
    return depth, known
