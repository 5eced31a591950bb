"""Alignment of predicted depth to measured pixels: by scale for metres, by scale and shift for disparity."""

import numpy as np

from m3et_ros.data.depth_fill import FEWEST
from m3et_ros.data.errors import InputError

SAMPLES = 20_000
"""Most pixels that a fit uses; more would not change it by a measurable amount."""
PAIRS = 20_000
"""Pairs of pixels whose slopes start a fit (Theil and Sen)."""
ROUNDS = 8
"""Rounds of reweighted least squares after that start."""
TUKEY = 4.685
"""Residuals, in robust standard deviations, at which Tukey's biweight is zero: 95 % efficient on normal errors."""
SIGMA = 1.4826
"""Standard deviations of normal errors per median absolute deviation."""
FARTHEST_M = 100.0
"""Depth beyond which an aligned disparity is taken for unknown: it hardly differs from that of infinity there."""


def align_depth(predicted: np.ndarray, measured: np.ndarray, metric: bool) -> np.ndarray:
    """Fit a prediction to measured depth, robustly, so that wrong pixels and edges have little weight.

    Disparity is fitted by scale and shift as 1 / depth (Ranftl et al. 2020, section 5), metres by their scale alone.

    Args:
        predicted: (H, W) metres, or disparity without unit, larger where nearer.
        measured: (H, W) metres, NaN unknown.
        metric: `predicted` is in metres.

    Returns:
        (H, W) float32 metres; NaN where the prediction gives no positive depth within FARTHEST_M.

    Raises:
        ValueError: the shapes differ.
        InputError: depth_alignment: fewer than 50 pixels to fit to, or the prediction contradicts them.
    """
    if predicted.shape != measured.shape:
        raise ValueError(f'predicted is {predicted.shape} and measured {measured.shape}; give the same size')
    usable = np.isfinite(measured) & (measured > 0) & np.isfinite(predicted)
    if metric:
        usable &= predicted > 0
    pixels = int(usable.sum())
    if pixels < FEWEST:
        raise InputError(
            'depth_alignment',
            f'Predicted depth cannot be aligned: only {pixels} pixels are measured and {FEWEST} are needed; check the '
            'depth camera.',
        )
    given, wanted = predicted[usable].astype(np.float64), measured[usable].astype(np.float64)
    if pixels > SAMPLES:
        chosen = np.random.default_rng(0).choice(pixels, SAMPLES, replace=False)
        given, wanted = given[chosen], wanted[chosen]
    if metric:
        depth = predicted * np.median(wanted / given)
    else:
        scale, shift = _line(given, 1 / wanted)
        if not scale > 0:
            raise InputError(
                'depth_alignment',
                'Predicted depth cannot be aligned: where the network says nearer, the camera measures no nearer; take '
                'another network, or check that depth and colour are aligned.',
            )
        disparity = predicted * scale + shift
        depth = 1 / np.where(disparity > 1 / FARTHEST_M, disparity, np.nan)
    return np.where((depth > 0) & (depth < FARTHEST_M), depth, np.nan).astype(np.float32)


def _line(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Fit y = scale * x + shift robustly; (0, 0) where x does not vary."""
    rng = np.random.default_rng(0)
    first, second = rng.integers(0, len(x), (2, PAIRS))
    apart = np.abs(x[first] - x[second]) > 1e-6 * np.ptp(x)
    if not apart.any():
        return 0.0, 0.0
    first, second = first[apart], second[apart]
    scale = float(np.median((y[first] - y[second]) / (x[first] - x[second])))
    shift = float(np.median(y - scale * x))
    for _ in range(ROUNDS):
        residuals = y - scale * x - shift
        spread = SIGMA * float(np.median(np.abs(residuals)))
        if spread == 0:
            break
        weights = np.clip(1 - (residuals / (TUKEY * spread)) ** 2, 0, None) ** 2
        mean_x, mean_y = np.average(x, weights=weights), np.average(y, weights=weights)
        variance = np.average((x - mean_x) ** 2, weights=weights)
        if variance == 0:
            break
        scale = float(np.average((x - mean_x) * (y - mean_y), weights=weights) / variance)
        shift = float(mean_y - scale * mean_x)
    return scale, shift
