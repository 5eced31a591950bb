"""Bootstrap confidence intervals: percentile, over clusters, paired, deterministic.

Samples of one scene (or one training seed) resemble each other, so whole clusters are drawn with replacement instead of
samples. Scores are functions of sums. A row of k additive numbers describes a sample: score and 1 for a mean, the sums
of depth.depth_sums, or a flattened confusion matrix. Rows add up over a draw, and a statistic turns sums (..., k) into
scores (...). A draw then costs one matrix product for any statistic.
"""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from m3et_ros.evaluation.metrics.arrays import finite, same_length

RESAMPLES = 2000
LEVEL = 0.95

_ENTRIES = 2**22
"""Most drawn indices held at a time, to bound memory."""

Statistic = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Interval:
    """A score with its confidence interval."""

    # Score over all samples.
    value: float
    # Lower end; None for a single cluster, which leaves nothing to resample.
    low: float | None
    # Upper end; None like the lower end.
    high: float | None
    # Number of clusters.
    clusters: int


def mean_rows(scores: ArrayLike) -> np.ndarray:
    """Return the rows (n, 2) of scores (n,) whose ratio is their mean.

    Raises:
        ValueError: a score is not finite.
    """
    scores = finite('scores', scores)
    return np.stack([scores, np.ones_like(scores)], 1)


def ratio(sums: np.ndarray) -> np.ndarray:
    """Divide the first sum by the second, (..., 2) to (...); NaN where the second is zero."""
    return sums[..., 0] / np.where(sums[..., 1] == 0, np.nan, sums[..., 1])


def bootstrap(
    rows: ArrayLike,
    statistic: Statistic = ratio,
    clusters: Sequence[Hashable] | None = None,
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
) -> Interval:
    """Return the interval of a statistic of summed rows.

    Args:
        rows: (n, k) finite.
        statistic: function of sums (..., k) to scores (...).
        clusters: (n,) scene or seed of each sample; None makes each sample its own cluster.
        seed: seed of the draws; the same seed, rows and clusters give the same interval.
        resamples: number of draws, at least 1.
        level: share of the draws inside the interval, between 0 and 1, both excluded.

    Raises:
        ValueError: lengths differ, there are no samples, a number is not finite, or a setting is out of range.
    """
    return _interval(_clustered(rows, clusters), statistic, seed, resamples, level)


def bootstrap_mean(
    scores: ArrayLike,
    clusters: Sequence[Hashable] | None = None,
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
) -> Interval:
    """Return the interval of the mean of scores (n,); other arguments and errors as in bootstrap."""
    return bootstrap(mean_rows(scores), ratio, clusters, seed=seed, resamples=resamples, level=level)


def paired_difference(
    first: ArrayLike,
    second: ArrayLike,
    statistic: Statistic = ratio,
    clusters: Sequence[Hashable] | None = None,
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
) -> Interval:
    """Return the interval of statistic(first) - statistic(second) over the same samples.

    Args:
        first: rows (n, k) of one model.
        second: rows (n, k) of the other, in the same order of samples.
        statistic: as in bootstrap; each draw takes the same clusters on both sides.
        clusters: as in bootstrap.
        seed: as in bootstrap.
        resamples: as in bootstrap.
        level: as in bootstrap.

    Raises:
        ValueError: shapes differ, or as bootstrap.
    """
    first, second = finite('first', first), finite('second', second)
    if first.shape != second.shape:
        raise ValueError(f'rows {first.shape} and {second.shape} differ; a pair needs the same samples')
    width = first.shape[1]
    both = _clustered(np.concatenate([first, second], 1), clusters)
    return _interval(
        both, lambda sums: statistic(sums[..., :width]) - statistic(sums[..., width:]), seed, resamples, level
    )


def _clustered(rows: ArrayLike, clusters: Sequence[Hashable] | None) -> np.ndarray:
    """Sum the rows of each cluster, in the order of cluster names."""
    rows = finite('rows', rows)
    if rows.ndim != 2:
        raise ValueError(f'rows are {rows.shape}; give (n, k), or use bootstrap_mean for scores (n,)')
    if clusters is None:
        same_length(rows=rows)
        return rows
    same_length(rows=rows, clusters=clusters)
    _, index = np.unique(np.array([str(cluster) for cluster in clusters]), return_inverse=True)
    sums = np.zeros((index.max() + 1, rows.shape[1]))
    np.add.at(sums, index, rows)
    return sums


def _interval(sums: np.ndarray, statistic: Statistic, seed: int, resamples: int, level: float) -> Interval:
    if resamples < 1 or not 0 < level < 1:
        raise ValueError(f'resamples is {resamples} and level {level}; give at least 1 and between 0 and 1')
    value = float(statistic(sums.sum(0)))
    if len(sums) == 1:
        return Interval(value, None, None, 1)
    scores = statistic(_draws(sums, seed, resamples))
    # A draw may lack every sample that a score needs; the interval is over the draws that have one.
    scores = scores[~np.isnan(scores)]
    if not scores.size:
        return Interval(value, None, None, len(sums))
    low, high = np.quantile(scores, [(1 - level) / 2, (1 + level) / 2])
    return Interval(value, float(low), float(high), len(sums))


def _draws(sums: np.ndarray, seed: int, resamples: int) -> np.ndarray:
    """Sum clusters drawn with replacement, as many as there are, (resamples, k)."""
    rng, size = np.random.default_rng(seed), len(sums)
    step = max(1, _ENTRIES // size)
    drawn = np.empty((resamples, sums.shape[1]))
    for start in range(0, resamples, step):
        count = min(step, resamples - start)
        picks = rng.integers(0, size, (count, size)) + size * np.arange(count)[:, None]
        weights = np.bincount(picks.ravel(), minlength=count * size).reshape(count, size)
        drawn[start : start + count] = weights @ sums
    return drawn
