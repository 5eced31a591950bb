"""Fill holes of measured depth: smooth surfaces without a model, predictions that join the measurements, and a blend.

    small = squeeze_depth(depth, size)
    surface = smooth(depth, small)                         # OpenCV alone
    completed = carry(enlarged(predicted, depth.shape), depth)   # a prediction, joined to the measured depth
    blend.check(small, predict)                            # hides measured pixels and compares the two

Measured pixels are never changed. Symbols: H, W camera height and width; S side of the model's square image.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import cv2
import numpy as np

from m3et_ros.data.images import native

FILLS = ('auto', 'smooth', 'always', 'never')
"""Ways of filling: the better of model and smooth surface, the smooth surface, the model, or nothing."""

MILLIMETRES = 1000
"""OpenCV's Telea errs by about one grey level for any type: a millimetre here, but a metre if depth were in metres."""
RADIUS = 3.0
"""Neighbourhood of cv2.inpaint in pixels, as in OpenCV's own example."""

SHARE = 0.5
"""Weight of the inpainted surface under the residual in `smooth`; the rest is carried by the pyramid alone."""

REACH = (0.5, 99.5)
"""Percentiles of the measured depth beyond which a predicted depth counts as out of the sensor's reach."""
SAMPLED = 10_000
"""Number of pixels, about, from which those percentiles are taken."""
HIDDEN_ENDS = 0.02
"""Share of the measured pixels that a check hides at each end of the distances, as a sensor's reach does."""
FEWEST = 50
"""Fewest pixels, hidden and left, for a check."""
FADE = 0.8
"""Weight of all earlier checks beside a new one."""
EVERY = 10
"""Frames with holes from one check to the next."""
CHANGE = 0.1
"""Change of the share of holes that brings the next check forward: another scene has other holes."""
DOUBT = np.array([0.04, 0.004])
"""Share of the picture, by kind of pixel, that must be hidden before the model gets half of the weight that it earned.

Beyond the sensor's reach few pixels can be hidden, and no surface can be right."""
TRACE = 0.05
"""Weight of the model below which it is left out, and above 1 - TRACE of which the smooth surface is."""


def inpaint(depth: np.ndarray, known: np.ndarray, method: int = cv2.INPAINT_NS) -> np.ndarray:
    """Fill the pixels of depth (H, W) metres that are not known (H, W) bool by cv2.inpaint; float32."""
    millimetres = np.where(known, depth * MILLIMETRES, 0).astype(np.float32)
    filled = cv2.inpaint(millimetres, (~known).astype(np.uint8), RADIUS, method) / MILLIMETRES
    return np.where(known, depth, filled).astype(np.float32)


def halved_depth(depth: np.ndarray) -> np.ndarray:
    """Halve depth (H, W) in metres: means of the known pixels of two by two, NaN where none of them is known."""
    if (quick := native.halve_depth(depth)) is not None:
        return quick
    known = np.isfinite(depth)
    half = (depth.shape[1] + 1) // 2, (depth.shape[0] + 1) // 2
    zeroed = cv2.copyTo(np.ascontiguousarray(depth, np.float32), known.view(np.uint8))
    total, share = (
        cv2.resize(image, half, interpolation=cv2.INTER_AREA) for image in (zeroed, known.astype(np.float32))
    )
    with np.errstate(invalid='ignore'):
        return np.divide(total, share, out=total)


def push_pull(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Carry known values into the holes between them, from coarse to fine (Gortler et al. 1996, section 3.4).

    Each level of a pyramid holds the means of the known values below; a hole takes the finest level that knows it.
    At 640x480 this takes 1 to 2 ms on one CPU core, whatever the size of the holes.

    Args:
        values: (H, W) float.
        known: (H, W) bool; zeros come back where nothing at all is known.

    Returns:
        (H, W) float32, the known values unchanged.
    """
    # In place and by OpenCV's copies under a mask: new arrays of this size cost more than what is computed in them.
    mask = known.view(np.uint8)
    finest = cv2.copyTo(np.ascontiguousarray(values, np.float32), mask)
    value: np.ndarray = finest
    weight: np.ndarray = known.astype(np.float32)
    levels = []
    while max(weight.shape) > 1 and weight.min() < 1:
        levels.append((value, weight))
        half = (weight.shape[1] + 1) // 2, (weight.shape[0] + 1) // 2
        total, share = (cv2.resize(image, half, interpolation=cv2.INTER_AREA) for image in (value, weight))
        # One known pixel of four makes a cell known.
        weight = np.minimum(share * 4, np.float32(1))
        value = np.divide(total, np.maximum(share, 1e-6), out=total)
        value *= weight
    filled: np.ndarray = value / np.maximum(weight, 1e-6)
    for value, weight in levels[:0:-1]:
        filled = cv2.resize(filled, weight.shape[::-1], interpolation=cv2.INTER_LINEAR)
        filled *= 1 - weight
        filled += value
    # At the finest level a pixel is known or not.
    return cv2.copyTo(finest, mask, cv2.resize(filled, known.shape[::-1], interpolation=cv2.INTER_LINEAR))


def carry(base: np.ndarray, depth: np.ndarray) -> np.ndarray:
    """Join a predicted surface to measured depth: their difference is carried into the holes.

    Args:
        base: (H, W) metres.
        depth: (H, W) metres, NaN unknown.

    Returns:
        (H, W) metres, equal to `depth` where that is known up to rounding.
    """
    known = np.isfinite(depth)
    return base + push_pull(depth - base, known) if known.any() else base


def enlarged(small: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Enlarge (S, S) to the camera's (H, W) by linear interpolation."""
    return small if small.shape == shape else cv2.resize(small, shape[::-1], interpolation=cv2.INTER_LINEAR)


def join(depth: np.ndarray, filled: np.ndarray) -> np.ndarray:
    """Fill depth (H, W) in metres, NaN unknown, from a filled version of any size; NaN where that is not positive."""
    if depth.shape != filled.shape and (quick := native.join_depth(depth, filled)) is not None:
        return quick
    whole = np.array(enlarged(filled, depth.shape), np.float32)
    whole[~(whole > 0)] = np.nan
    # OpenCV copies under a mask four times as fast as NumPy.
    return cv2.copyTo(depth, np.isfinite(depth).view(np.uint8), whole)


def smooth(depth: np.ndarray, small: np.ndarray) -> np.ndarray:
    """Fill holes without a model: half of a surface inpainted at low resolution, joined to the measured depth.

    The mean of that surface with its residual and of the pyramid alone; both are linear, so that one pyramid serves.
    On real and simulated blobs of any size its RMSE is 2 to 24 % below cv2.inpaint at the camera's resolution, in a
    tenth of the time (benchmarks/real_kitchen.py).

    Args:
        depth: (H, W) metres, NaN unknown.
        small: the same squeezed to (S, S), which decides the scale of the inpainting.

    Returns:
        (H, W) metres; NaN everywhere if nothing is known.
    """
    known = np.isfinite(small)
    if not known.any():
        return np.full(depth.shape, np.nan, np.float32)
    return carry(enlarged(np.float32(SHARE) * inpaint(small, known), depth.shape), depth)


def beyond_reach(predicted: np.ndarray, measured: np.ndarray) -> np.ndarray:
    """Return the pixels whose predicted depth is nearer or farther than nearly all that was measured, bool.

    Sensors leave out what is too near or too far. No surface between measured depths can be right there.

    Args:
        predicted: any shape, metres.
        measured: any shape, metres, NaN unknown; at least one pixel is known.
    """
    some = measured.reshape(-1)[:: max(measured.size // SAMPLED, 1)]
    known = some[np.isfinite(some)]
    if not known.size:
        known = measured[np.isfinite(measured)]
    # As numbers of 64 bits they would have all predictions converted.
    low, high = np.percentile(known, REACH).astype(np.float32)
    return (predicted < low) | (predicted > high)


def hide(measured: np.ndarray, turn: int) -> tuple[np.ndarray, np.ndarray]:
    """Choose measured pixels to hide that resemble the holes of their own frame.

    Args:
        measured: (S, S) metres, NaN unknown; at least one pixel is known.
        turn: number of the check; the holes are mirrored to the side, upside down, or both, in turn.

    Returns:
        Measured pixels under the mirrored holes, and those at both ends of the distances, (S, S) bool each.
    """
    known = np.isfinite(measured)
    placed = known & np.flip(~known, ((1,), (0,), (0, 1))[turn % 3])
    near, far = np.quantile(measured[known], (HIDDEN_ENDS, 1 - HIDDEN_ENDS))
    return placed, known & ((measured < near) | (measured > far))


@dataclass
class FillBlend:
    """Weights of a model's prediction against the smooth surface, from pixels hidden in the frames themselves.

    Two kinds of pixels are weighed apart: those whose predicted depth the sensor could have measured, and those beyond
    its reach. The weights minimise the squared error of the blend over the hidden pixels of the last checks, less a
    doubt about the model while these are few; they change slowly.
    """

    # By kind: sums of squared errors of the model, of the smooth surface, and of the product of both errors; pixels.
    sums: np.ndarray = field(default_factory=lambda: np.zeros((2, 4)))
    # Pixels of a picture, S * S.
    area: int = 1
    # Checks so far, frames since the last one, and the share of holes at that time.
    checks: int = 0
    waited: int = 0
    share: float = -1.0

    def due(self, share: float) -> bool:
        """Count a frame of which this share, 0 to 1, is unknown; return whether a check is due."""
        self.waited += 1
        return self.waited >= EVERY or abs(share - self.share) > CHANGE

    def check(self, measured: np.ndarray, predict: Callable[[np.ndarray], np.ndarray | None]) -> None:
        """Hide measured pixels, fill them both ways and compare.

        Args:
            measured: (S, S) metres, NaN unknown.
            predict: gives (S, S) metres for measured depth in which further pixels are hidden, or None where it cannot.
        """
        known = np.isfinite(measured)
        self.waited, self.share = 0, 1 - float(known.mean())
        # Counted in any case: holes that mirror onto themselves hide nothing, and the next way of mirroring will.
        self.checks, self.area = self.checks + 1, measured.size
        if not known.any():
            return
        placed, ends = hide(measured, self.checks)
        hidden = placed | ends
        if hidden.sum() < FEWEST or (known & ~hidden).sum() < FEWEST:
            return
        given = np.where(hidden, np.float32(np.nan), measured)
        predicted = predict(given)
        if predicted is None:
            return
        model, surface = carry(predicted, given) - measured, smooth(given, given) - measured
        beyond = beyond_reach(predicted, given)
        self.sums *= FADE
        # Depth at the ends is hidden to judge what is predicted beyond the reach; elsewhere place alone hides.
        for sums, where in zip(self.sums, (placed & ~beyond, hidden & beyond), strict=True):
            a, b = model[where].astype(np.float64), surface[where].astype(np.float64)
            sums += (a @ a, b @ b, a @ b, len(a))

    @property
    def weights(self) -> np.ndarray:
        """Weights of the model, 0 to 1: within reach, and beyond it; 0 before the first check."""
        model, surface, both, pixels = self.sums.T
        best = np.clip((surface - both) / np.maximum(model + surface - 2 * both, 1e-9), 0, 1)
        best *= pixels / (pixels + DOUBT * self.area)
        return np.where(best < TRACE, 0, np.where(best > 1 - TRACE, 1, best)).astype(np.float32)

    def fill(self, predicted: np.ndarray, depth: np.ndarray, small: np.ndarray) -> np.ndarray:
        """Fill holes with the blend; returns (H, W) metres.

        Args:
            predicted: (S, S) metres.
            depth: (H, W) metres, NaN unknown; at least one pixel is known.
            small: the same squeezed to (S, S).
        """
        within, beyond = self.weights
        if not within and not beyond:
            return smooth(depth, small)
        model = carry(enlarged(predicted, depth.shape), depth)
        if within == beyond == 1:
            return model
        surface = smooth(depth, small)
        weight = np.where(beyond_reach(predicted, small), beyond, within)
        return surface + enlarged(weight, depth.shape) * (model - surface)

    def describe(self) -> str:
        """Describe the choice in words, with the RMSE of both ways on the hidden pixels."""
        model, surface, _, pixels = self.sums.sum(0)
        if not pixels:
            return 'smooth (not enough measured pixels to compare)'
        shares = self.weights
        names = {0.0: 'smooth', 1.0: 'model'}
        within, beyond = (names.get(float(w), f'{w:.0%} model, {1 - w:.0%} smooth') for w in shares)
        chosen = within if within == beyond or not self.sums[1, 3] else f'{within}; beyond reach {beyond}'
        return (
            f'{chosen} (model {np.sqrt(model / pixels):.2f} m, smooth {np.sqrt(surface / pixels):.2f} m '
            f'on {pixels:.0f} hidden pixels)'
        )
