"""Recordings and data sets of a robot with a camera, two joints and a gripper, which tests of several rooms share."""

import numpy as np

from m3et_ros.data.bags.cdr import typestore
from m3et_ros.data.bags.writer import BagWriter
from m3et_ros.data.frame import NANOSECONDS, Frame
from m3et_ros.data.lerobot.schema import EpisodeFrame

START_NS = 1_700_000_000_000_000_123
PERIOD_NS = 100_000_007
SIZE = (24, 34)
INSTRUCTIONS = {2: 'pick the cup', 5: '', 6: 'pour it'}
"""Instructions that are given with a frame."""
WITHOUT_DEPTH = 3
K = np.array([[20.0, 0, 16], [0, 20, 12], [0, 0, 1]])


def frame(number, *, depth=True, stamp_ns=None):
    """Frame `number`: random colours, and whole millimetres with a hole."""
    rng = np.random.default_rng(number)
    metres = rng.integers(300, 5000, SIZE).astype(np.float32) / np.float32(1000)
    metres[:3] = np.nan
    stamp = START_NS + number * PERIOD_NS if stamp_ns is None else stamp_ns
    colours = rng.integers(0, 256, (*SIZE, 3), np.uint8)
    return Frame(colours, metres if depth else None, stamp, frame_id='camera', K=K)


def instruction_of(number):
    """Return the instruction that holds for a frame."""
    given = [text for first, text in INSTRUCTIONS.items() if first <= number]
    return given[-1] if given else ''


def joints(number):
    return np.array([number, number / 3], np.float32)


def rows(count, *, depth=True):
    """Rows of a data set as the recording below has them."""
    for number in range(count):
        one = frame(number, depth=depth and number != WITHOUT_DEPTH)
        one = Frame(one.rgb, one.depth, one.stamp_ns, instruction_of(number), one.frame_id, one.K)
        yield EpisodeFrame(one, joints(number), np.array([2 * number], np.float32))


def write_recording(path, count=8, *, stamps=None, depth=True, storage='mcap'):
    """Write a recording of `count` frames with instructions, joints before and a command behind each frame."""
    types = typestore().types
    with BagWriter(path, storage) as bag:
        for number in range(count):
            one = frame(
                number,
                depth=depth and number != WITHOUT_DEPTH,
                stamp_ns=None if stamps is None else START_NS + stamps[number],
            )
            seconds, nanoseconds = divmod(one.stamp_ns, NANOSECONDS)
            stamp = types['builtin_interfaces/msg/Time'](sec=seconds, nanosec=nanoseconds)
            header = types['std_msgs/msg/Header'](stamp=stamp, frame_id='')
            if number in INSTRUCTIONS:
                kind = 'm3et_ros/msg/Instruction'
                bag.write_message(
                    '/instruction', kind, types[kind](header=header, text=INSTRUCTIONS[number]), one.stamp_ns
                )
            kind, none = 'sensor_msgs/msg/JointState', np.zeros(0)
            position = joints(number).astype(np.float64)
            state = types[kind](header=header, name=['arm', 'hand'], position=position, velocity=none, effort=none)
            bag.write_message('/joint_states', kind, state, one.stamp_ns)
            bag.write_frame(one)
            kind = 'std_msgs/msg/Float32MultiArray'
            layout = types['std_msgs/msg/MultiArrayLayout'](dim=[], data_offset=0)
            command = types[kind](layout=layout, data=np.array([2 * number], np.float32))
            bag.write_message('/action', kind, command, one.stamp_ns)
    return path


def assert_same_rows(found, wanted, *, exact=True):
    """Check that rows are equal bit for bit; colours only where `exact`."""
    found, wanted = list(found), list(wanted)
    assert len(found) == len(wanted)
    for one, other in zip(found, wanted, strict=True):
        a, b = one.frame, other.frame
        assert (a.stamp_ns, a.instruction, a.frame_id) == (b.stamp_ns, b.instruction, b.frame_id)
        assert not exact or np.array_equal(a.rgb, b.rgb)
        assert (a.depth is None) == (b.depth is None)
        assert a.depth is None or np.array_equal(a.depth, b.depth, equal_nan=True)
        assert np.array_equal(one.state, other.state) and np.array_equal(one.action, other.action)
