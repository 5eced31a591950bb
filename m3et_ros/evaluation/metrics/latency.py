"""Summaries of latencies."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from m3et_ros.evaluation.metrics.arrays import finite, same_length


@dataclass(frozen=True)
class Times:
    """Summary of times in milliseconds; percentiles are linearly interpolated."""

    # Number of times.
    count: int
    # Mean.
    mean: float
    # Median.
    p50: float
    # 95 % of the times are at most this.
    p95: float
    # 99 % of the times are at most this.
    p99: float
    # The longest.
    longest: float


def latency_summary(milliseconds: ArrayLike) -> Times:
    """Summarise times (n,) in milliseconds.

    Raises:
        ValueError: there are no times, or one is negative or not finite.
    """
    times = finite('times', milliseconds)
    same_length(times=times)
    if times.min() < 0:
        raise ValueError(f'a time is {times.min()} ms; measure with a clock that never goes back')
    p50, p95, p99 = np.percentile(times, [50, 95, 99]).tolist()
    return Times(times.size, float(times.mean()), p50, p95, p99, float(times.max()))
