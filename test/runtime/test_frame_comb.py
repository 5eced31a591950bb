"""A sample of an episode's frames: bounded, ordered, evenly spread; and the memory made of it."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from m3et_ros.data.errors import InputError
from m3et_ros.data.frame import Frame
from m3et_ros.runtime.frame_comb import FrameComb, FrameMemory
from m3et_ros.runtime.view import View


@given(st.integers(2, 16), st.integers(1, 2000))
def test_the_sample_is_bounded_ordered_and_spread(capacity, frames):
    comb = FrameComb(capacity)
    for n in range(frames):
        comb.add(n)
        assert len(comb) <= capacity
    sampled = list(comb)
    assert sampled[0] == 0 and sampled[-1] == frames - 1
    assert sampled == sorted(set(sampled))
    steps = [b - a for a, b in itertools.pairwise(sampled)]
    assert all(step == steps[0] for step in steps[:-1])
    assert not steps or 1 <= steps[-1] <= 2 * max(steps)
    assert comb.count == frames


def test_short_episodes_are_sampled_whole():
    comb = FrameComb(8)
    for n in range(7):
        comb.add(n)
    assert list(comb) == list(range(7))


def test_reset_drops_all_items():
    comb = FrameComb()
    comb.add('frame')
    comb.reset()
    assert list(comb) == [] and comb.count == 0


@pytest.mark.parametrize(('capacity', 'fits'), [(1, False), (2, True)])
def test_the_smallest_capacity_is_two(capacity, fits):
    if fits:
        assert FrameComb(capacity).capacity == capacity
    else:
        with pytest.raises(ValueError, match='capacity is 1; give 2 or more'):
            FrameComb(capacity)


def view(n, depth=True):
    metres = np.ones((4, 6), np.float32) if depth else None
    return View(Frame(np.zeros((4, 6, 3), np.uint8), metres, stamp_ns=n), {'rgb': torch.zeros(1, 3, 2, 2)}, None)


def test_an_empty_memory_has_no_frames_and_no_stamps():
    memory = FrameMemory(2, 'tiny')
    assert (memory.frames, memory.first_ns, memory.last_ns, memory.bytes) == (0, 0, 0, 0)


def test_a_memory_reports_its_frames_span_and_size():
    memory = FrameMemory(4, 'tiny')
    for n in range(5, 9):
        assert memory.due(n) and memory.observe(view(n, depth=n != 6))
    stamps = [one.frame.stamp_ns for one in memory.views(view(99))]
    assert stamps == [5, 7, 8] and (memory.frames, memory.first_ns, memory.last_ns) == (3, 5, 8)
    # Colours, depth and one input tensor of each.
    assert memory.bytes == 3 * (4 * 6 * 3 + 4 * 6 * 4 + 12 * 4)
    assert memory.answer('what?', 1) is None
    memory.reset()
    assert memory.frames == 0 and memory.views(view(9)) == []


def test_a_memory_of_frames_is_not_saved(tmp_path):
    memory = FrameMemory(2, 'tiny')
    for step in (memory.save, memory.restore):
        with pytest.raises(InputError, match='tiny has no memory that could be saved, only frames; load') as refused:
            step(tmp_path / 'memory')
        assert refused.value.reason == 'memory_none'
    assert not list(tmp_path.iterdir())
