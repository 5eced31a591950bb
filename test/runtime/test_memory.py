"""The episode's sample: bounded, evenly spread, first and newest always in it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from m3et_ros.runtime.memory import EpisodeMemory


@given(st.integers(2, 16), st.integers(1, 2000))
def test_the_sample_is_bounded_ordered_and_spread(capacity, frames):
    memory = EpisodeMemory(capacity)
    for n in range(frames):
        memory.remember(n)
        assert len(memory) <= capacity
    kept = list(memory)
    assert kept[0] == 0 and kept[-1] == frames - 1
    assert kept == sorted(set(kept))
    steps = [b - a for a, b in zip(kept, kept[1:])]
    assert all(step == steps[0] for step in steps[:-1])
    assert not steps or 1 <= steps[-1] <= 2 * max(steps)
    assert memory.seen == frames


def test_short_episodes_are_kept_whole():
    memory = EpisodeMemory(8)
    for n in range(7):
        memory.remember(n)
    assert list(memory) == list(range(7))


def test_reset_forgets():
    memory = EpisodeMemory()
    memory.remember('frame')
    memory.reset()
    assert list(memory) == [] and memory.seen == 0


def test_capacity_is_checked():
    with pytest.raises(ValueError, match='capacity is 1; give 2 or more'):
        EpisodeMemory(1)
