"""How long frames took and how old they were when their result came out."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from m3et_ros.evaluation.metrics.arrays import finite, same_length, to_numpy


@dataclass(frozen=True)
class Times:
    """Summary of times in milliseconds; percentiles interpolate linearly."""

    # Times that were summed up.
    count: int
    # Mean.
    mean: float
    # Half of the times are at most this.
    p50: float
    # 95 % are at most this.
    p95: float
    # 99 % are at most this.
    p99: float
    # The longest.
    longest: float


@dataclass(frozen=True)
class Ages:
    """Age of frames, from exposure to result."""

    # Summary of the ages that make sense; None if there are none.
    times: Times | None
    # Frames with a stamp later than their result, left out: the clocks disagree or one jumped.
    from_the_future: int


def latency_summary(milliseconds: ArrayLike) -> Times:
    """Summary of times (n,) in milliseconds.

    Raises:
        ValueError: there are none, or one is negative or not finite.
    """
    times = finite('times', milliseconds)
    same_length(times=times)
    if times.min() < 0:
        raise ValueError(f'a time is {times.min()} ms; measure with a clock that never goes back')
    p50, p95, p99 = np.percentile(times, [50, 95, 99]).tolist()
    return Times(times.size, float(times.mean()), p50, p95, p99, float(times.max()))


def age_summary(stamps_ns: ArrayLike, results_ns: ArrayLike) -> Ages:
    """Ages of frames from stamps of exposure (n,) to times of results (n,), both int64 nanoseconds of one clock.

    Raises:
        ValueError: lengths differ, or there are none.
    """
    stamps, results = to_numpy(stamps_ns).astype(np.int64), to_numpy(results_ns).astype(np.int64)
    same_length(stamps=stamps, results=results)
    ages = results - stamps
    sound = ages[ages >= 0]
    return Ages(latency_summary(sound / 1e6) if sound.size else None, int(ages.size - sound.size))
