"""Frames are chosen at the head's rate, whatever the camera's is."""

import numpy as np
import pytest

from m3et_ros.runtime.frame_rate import FrameRate

START = 1_700_000_000 * 10**9


def taken(rate, stamps):
    rate_limit, found = FrameRate(rate), []
    for stamp in stamps:
        if rate_limit.due(stamp):
            rate_limit.take(stamp)
            found.append(stamp)
    return found


@pytest.mark.parametrize('camera', [5, 10, 14.3, 15, 30, 59.94])
def test_a_minute_gives_as_many_frames_as_the_head_wants(camera):
    rng = np.random.default_rng(0)
    stamps = [START + round(1e9 * (at / camera + rng.normal(0, 0.002))) for at in range(round(60 * camera))]
    found = taken(2.5, stamps)
    assert abs(len(found) - 150) <= 1
    assert np.abs(np.diff(found) / 1e9 - 0.4).max() < 1 / camera + 0.02


def test_a_slow_camera_and_a_head_without_rate_take_all():
    stamps = [START + at * 10**9 for at in range(20)]
    assert taken(2.5, stamps) == stamps == taken(0, stamps)


def test_after_a_gap_the_count_begins_there():
    stamps = [START + round(at * 1e8) for at in (*range(5), *range(23, 32))]
    assert [(stamp - START) // 10**8 for stamp in taken(2.5, stamps)] == [0, 4, 23, 27, 31]


def test_begun_anew_the_next_frame_is_due():
    frames = FrameRate(2.5)
    frames.take(START)
    assert not frames.due(START - 10**9)
    frames.reset()
    assert frames.due(START - 10**9)


@pytest.mark.parametrize(('early_ms', 'due'), [(41, False), (40, True), (0, True), (-100, True)])
def test_a_frame_may_come_early_by_a_tenth_of_the_period(early_ms, due):
    rate = FrameRate(2.5)
    rate.take(START)
    assert rate.due(START + (400 - early_ms) * 10**6) == due


def test_without_a_rate_frames_of_the_same_time_are_due():
    assert taken(0, [START, START, START]) == [START] * 3
