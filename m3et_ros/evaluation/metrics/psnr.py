"""PSNR of reconstructed colour (docs/papers.md 2.6).

Colours are in 0..1 throughout. Two figures are reported: over the hidden patches only, and over the whole image with
the visible patches pasted in.

Symbols: B images, C channels, H x W pixels, p patch side, n = (H / p) * (W / p) patches in raster order.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from m3et_ros.evaluation.metrics.arrays import to_numpy

CEILING = 100.0
"""Upper bound of PSNR in decibels, so that a perfect image has a finite score [choice]."""


def unstandardise(images: ArrayLike, mean: Sequence[float], std: Sequence[float]) -> np.ndarray:
    """Convert standardised images (B, C, H, W) back to colours in 0..1, clamped; mean and std are (C,) in 0..1."""
    mean, std = (np.asarray(values, dtype=np.float32)[:, None, None] for values in (mean, std))
    return (to_numpy(images) * std + mean).clip(0, 1)


def patch_mask(hidden: ArrayLike, size: tuple[int, int], patch: int) -> np.ndarray:
    """Convert a mask of patches (B, n) to a mask of pixels (B, H, W), both bool.

    Args:
        hidden: True where a patch was hidden from the encoder.
        size: (H, W) in pixels.
        patch: p in pixels.

    Raises:
        ValueError: n is not (H / p) * (W / p), or p does not divide H and W.
    """
    hidden, (height, width) = to_numpy(hidden).astype(bool), size
    rows, cols = height // patch, width // patch
    if height % patch or width % patch or hidden.shape[1:] != (rows * cols,):
        raise ValueError(
            f'hidden is {hidden.shape} for {height} x {width} pixels in patches of {patch}; '
            'give one entry for each patch'
        )
    return hidden.reshape(-1, rows, cols).repeat(patch, 1).repeat(patch, 2)


def psnr(prediction: ArrayLike, target: ArrayLike, where: ArrayLike | None = None) -> np.ndarray:
    """Return 10 * log10(1 / MSE) of each image.

    Args:
        prediction: (B, C, H, W) in 0..1.
        target: the same shape.
        where: (B, H, W) bool, the pixels that count; None means all.

    Returns:
        (B,) decibels, at most CEILING; NaN where no pixel counts.

    Raises:
        ValueError: shapes differ.
    """
    prediction, target = to_numpy(prediction), to_numpy(target)
    _same_shape(prediction, target)
    # (B, H, W): channels have the same weight, so a mean over pixels of this is the MSE.
    squared = np.square(np.subtract(prediction, target, dtype=np.float32)).mean(1, dtype=np.float64)
    if where is None:
        mse = squared.mean((1, 2))
    else:
        where = to_numpy(where).astype(bool)
        _same_shape(squared, where)
        count = where.sum((1, 2)).astype(np.float64)
        mse = np.where(where, squared, 0).sum((1, 2)) / np.where(count, count, np.nan)
    return -10 * np.log10(np.maximum(mse, 10 ** (-CEILING / 10)))


def psnr_hidden(prediction: ArrayLike, target: ArrayLike, hidden: ArrayLike) -> np.ndarray:
    """Return PSNR (B,) over the hidden pixels (B, H, W) only; NaN for an image without any."""
    return psnr(prediction, target, hidden)


def psnr_pasted(prediction: ArrayLike, target: ArrayLike, hidden: ArrayLike) -> np.ndarray:
    """Return PSNR (B,) over the whole image, with the true colours pasted wherever hidden (B, H, W) is False."""
    prediction, target, hidden = to_numpy(prediction), to_numpy(target), to_numpy(hidden).astype(bool)
    return psnr(np.where(hidden[:, None], prediction, target), target)


def _same_shape(a: np.ndarray, b: np.ndarray) -> None:
    if a.shape != b.shape:
        raise ValueError(f'shapes {a.shape} and {b.shape} differ; give both alike')
