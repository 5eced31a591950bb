"""Depth errors in metres inside a mask, from sums that add up over pictures (docs/papers.md 7.8).

A row of sums belongs to one picture: pixels, squared error (m^2), absolute error (m), pixels within the ratio. Rows of
any pictures may be added before the scores are taken, so that every pixel weighs alike.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from m3et_ros.evaluation.metrics.arrays import to_numpy

RATIO = 1.25
"""delta_1 is the share of pixels with max(p / g, g / p) below this."""


@dataclass(frozen=True)
class DepthScores:
    """Errors over a set of pixels; NaN where there were none."""

    # Pixels that counted.
    pixels: int
    # Root of the mean squared error, metres.
    rmse: float
    # Mean absolute error, metres.
    mae: float
    # Share of pixels with max(p / g, g / p) < 1.25, 0 to 1.
    delta1: float


def depth_sums(prediction: ArrayLike, target: ArrayLike, where: ArrayLike | None = None) -> np.ndarray:
    """Sums of each picture.

    Args:
        prediction: (B, H, W) metres.
        target: (B, H, W) metres; NaN, infinite, zero and negative mean unknown and never count.
        where: (B, H, W) bool, pixels that may count, for example holes; None is all.

    Returns:
        (B, 4) float64: pixels, squared error, absolute error, pixels within the ratio.

    Raises:
        ValueError: shapes differ, or a prediction that counts is not finite.
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
    # Products rather than quotients: a prediction of zero or less is simply not within.
    within = valid & (p < RATIO * g) & (g < RATIO * p)
    return np.stack([part.sum((1, 2), dtype=np.float64) for part in (valid, error**2, np.abs(error), within)], 1)


def depth_rates(sums: ArrayLike) -> np.ndarray:
    """RMSE (m), MAE (m) and delta_1 (..., 3) of sums (..., 4); NaN where no pixel counted."""
    sums = to_numpy(sums)
    pixels = np.where(sums[..., :1] > 0, sums[..., :1], np.nan)
    means = sums[..., 1:] / pixels
    means[..., 0] = np.sqrt(means[..., 0])
    return means


def depth_scores(sums: ArrayLike) -> DepthScores:
    """Scores over all pixels of rows of sums (B, 4)."""
    total = to_numpy(sums).reshape(-1, 4).sum(0)
    return DepthScores(int(total[0]), *map(float, depth_rates(total)))


def standardised_l1(prediction: ArrayLike, target: ArrayLike, where: ArrayLike) -> np.ndarray:
    """Mean |p - g| (B,) in standardised units over where (B, H, W) bool, the loss of depth; NaN where it is empty."""
    error = np.abs(to_numpy(prediction).astype(np.float64) - to_numpy(target))
    where = to_numpy(where).astype(bool)
    pixels = where.sum((1, 2)).astype(np.float64)
    return np.where(where, error, 0).sum((1, 2)) / np.where(pixels, pixels, np.nan)
