"""The clock of a replay: due times, recorded times and published stamps."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import CompressedImage

from m3et_ros.ros.replay_clock import Timeline, restamped

FIRST = 1_700_000_000_000_000_000


@given(st.floats(0.1, 100), st.integers(0, 10**13))
def test_recorded_time_and_due_time_are_inverse(rate, after_ns):
    timeline = Timeline(FIRST, rate, 50.0)
    assert abs(timeline.recorded(timeline.due(FIRST + after_ns)) - FIRST - after_ns) < 1000 * rate + 1000
    assert timeline.published(FIRST + after_ns) == FIRST + after_ns


def test_restamping_starts_at_the_wall_clock_and_runs_at_the_rate():
    timeline = Timeline(FIRST, 2.0, 50.0, epoch_ns=10**18)
    assert timeline.due(FIRST + 10**9) == 50.5
    assert timeline.published(FIRST) == 10**18
    assert timeline.published(FIRST + 10**9) == 10**18 + 5 * 10**8


def test_rate_must_be_positive():
    with pytest.raises(ValueError, match='rate is 0'):
        Timeline(FIRST, 0, 0.0)


def test_only_the_stamp_of_a_message_changes():
    message = CompressedImage(format='jpeg', data=list(range(9)))
    message.header.frame_id = 'camera'
    message.header.stamp.sec, message.header.stamp.nanosec = 5, 700_000_000
    raw = restamped(serialize_message(message), lambda stamp: stamp + 600_000_000)
    moved = deserialize_message(raw, CompressedImage)
    assert (moved.header.stamp.sec, moved.header.stamp.nanosec) == (6, 300_000_000)
    message.header.stamp = moved.header.stamp
    assert moved == message


def test_big_endian_messages_are_restamped_too():
    raw = b'\0\0\0\0' + struct.pack('>iI', 5, 7) + b'rest'
    assert restamped(raw, lambda stamp: stamp + 10**9) == b'\0\0\0\0' + struct.pack('>iI', 6, 7) + b'rest'
