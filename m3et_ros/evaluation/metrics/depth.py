"""Depth errors in metres inside a mask, from additive sums (docs/papers.md 7.8).

One row of sums describes one image: pixels, squared error (m^2), absolute error (m), pixels within the ratio. Rows may
be added over images before the rates are taken, so that every pixel has the same weight.
"""

import numpy as np
from numpy.typing import ArrayLike

from m3et_ros.evaluation.metrics.arrays import to_numpy

RATIO = 1.25
"""delta_1 is the share of pixels with max(p / g, g / p) below this ratio of prediction p and truth g."""


def depth_sums(prediction: ArrayLike, target: ArrayLike, where: ArrayLike | None = None) -> np.ndarray:
    """Sum the errors of each image.

    Args:
        prediction: (B, H, W) metres.
        target: (B, H, W) metres; NaN, infinite, zero and negative values are unknown and never count.
        where: (B, H, W) bool, the pixels that may count, for example holes; None means all.

    Returns:
        (B, 4) float64: pixels, squared error, absolute error, pixels within the ratio.

    Raises:
        ValueError: shapes differ, or a counted prediction is not finite.
    """
    prediction, target = (to_numpy(depth).astype(np.float64) for depth in (prediction, target))
    where = np.ones(target.shape, bool) if where is None else to_numpy(where).astype(bool)
    if not prediction.shape == target.shape == where.shape:
        raise ValueError(
            f'prediction {prediction.shape}, target {target.shape} and mask {where.shape} differ; '
            'give all alike as (B, H, W)'
        )
    valid = where & np.isfinite(target) & (target > 0)
    if not np.isfinite(prediction[valid]).all():
        raise ValueError('predicted depth is not finite where it is scored; leave those pixels out of the mask')
    p, g = np.where(valid, prediction, 1), np.where(valid, target, 1)
    error = p - g
    # Products, not quotients: a prediction of zero or less is then outside the ratio.
    within = valid & (p < RATIO * g) & (g < RATIO * p)
    return np.stack([part.sum((1, 2), dtype=np.float64) for part in (valid, error**2, np.abs(error), within)], 1)


def depth_rates(sums: ArrayLike) -> np.ndarray:
    """Return RMSE (m), MAE (m) and delta_1, (..., 3), of sums (..., 4); NaN where no pixel counted."""
    sums = to_numpy(sums)
    pixels = np.where(sums[..., :1] > 0, sums[..., :1], np.nan)
    means = sums[..., 1:] / pixels
    means[..., 0] = np.sqrt(means[..., 0])
    return means
