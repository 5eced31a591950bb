"""Summaries of latencies."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from m3et_ros.evaluation.metrics.latency import latency_summary


def test_percentiles_by_hand():
    times = latency_summary(np.arange(101))
    assert (times.count, times.mean, times.p50, times.p95, times.p99, times.longest) == (101, 50, 50, 95, 99, 100)


def test_bad_times_are_refused():
    with pytest.raises(ValueError, match='never goes back'):
        latency_summary([1, -1])
    with pytest.raises(ValueError, match='no samples'):
        latency_summary([])


@given(st.lists(st.floats(0, 1e6, allow_subnormal=False), min_size=1), st.randoms())
def test_order_does_not_matter_and_percentiles_rise(times, random):
    before = latency_summary(times)
    assert before.p50 <= before.p95 <= before.p99 <= before.longest == max(times)
    random.shuffle(times)
    after = latency_summary(times)
    assert (after.p50, after.p95, after.longest) == (before.p50, before.p95, before.longest)
