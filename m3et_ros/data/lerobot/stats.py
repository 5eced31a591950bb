"""Statistics of features as LeRobot stores them for normalisation: min, max, mean, std, count and five quantiles.

Those of vectors are exact over all frames. Those of pictures come from histograms of every n-th pixel, so that they
cost little memory; LeRobot takes a part of the pixels, too. Symbols: N frames, C channels.
"""

from typing import Any

import numpy as np

QUANTILES = {'q01': 0.01, 'q10': 0.1, 'q50': 0.5, 'q90': 0.9, 'q99': 0.99}
SIDE = 150
"""Pictures are thinned to about this number of pixels along their longer side."""


def vector_stats(values: np.ndarray) -> dict[str, list[Any]]:
    """Return the statistics of each value of a vector.

    Args:
        values: (N, D) numbers, N at least 1.
    """
    numbers = values.astype(np.float64)
    stats = {
        'min': numbers.min(0),
        'max': numbers.max(0),
        'mean': numbers.mean(0),
        'std': numbers.std(0),
        **{name: np.quantile(numbers, share, axis=0) for name, share in QUANTILES.items()},
    }
    return {name: one.tolist() for name, one in stats.items()} | {'count': [len(values)]}


class PictureStats:
    """Histograms of the channels of pictures.

    Args:
        channels: C.
        levels: number of values that a pixel can have, 256 or 65536.
        scale: divisor of the values; LeRobot gives colours from 0 to 1.
    """

    def __init__(self, channels: int, levels: int, scale: float):
        self._histograms = np.zeros((channels, levels), np.int64)
        self._levels, self._scale, self.count = levels, scale, 0

    def add(self, picture: np.ndarray) -> None:
        """Add a picture (H, W, C) of unsigned integers."""
        step = max(1, max(picture.shape[:2]) // SIDE)
        for channel, histogram in enumerate(self._histograms):
            histogram += np.bincount(picture[::step, ::step, channel].ravel(), minlength=self._levels)
        self.count += 1

    def merge(self, other: 'PictureStats') -> None:
        """Add the pictures of another one of the same form."""
        self._histograms += other._histograms
        self.count += other.count

    def document(self) -> dict[str, list[Any]]:
        """Return the statistics, each (C, 1, 1) and count (1,); there must be a picture."""
        levels = np.arange(self._levels) / self._scale
        rows: dict[str, list[float]] = {}
        for histogram in self._histograms:
            shares = histogram / histogram.sum()
            mean = float(shares @ levels)
            present = np.flatnonzero(histogram)
            cumulated = np.cumsum(histogram)
            values = {
                'min': levels[present[0]],
                'max': levels[present[-1]],
                'mean': mean,
                'std': float(np.sqrt(shares @ (levels - mean) ** 2)),
                **{
                    name: levels[np.searchsorted(cumulated, share * cumulated[-1])] for name, share in QUANTILES.items()
                },
            }
            for name, value in values.items():
                rows.setdefault(name, []).append(float(value))
        return {name: [[[value]] for value in row] for name, row in rows.items()} | {'count': [self.count]}
