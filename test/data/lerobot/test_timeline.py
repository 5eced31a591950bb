"""The rows of a data set: regular recordings as they are, pauses as new episodes, others resampled on request."""

import lerobot_sets
import numpy as np
import pytest

from m3et_ros.data.bags.cdr import typestore
from m3et_ros.data.bags.reader import BagReader
from m3et_ros.data.bags.topics import find_camera
from m3et_ros.data.bags.writer import BagWriter
from m3et_ros.data.errors import InputError
from m3et_ros.data.lerobot.timeline import Pick, RobotTopics, deviation_s, plan, read_timeline

MS = 1_000_000


def stamps(*milliseconds):
    return [lerobot_sets.START_NS + one * MS for one in milliseconds]


def line_of(path, **topics):
    with BagReader(path) as bag:
        return read_timeline(bag, find_camera(bag), RobotTopics(**topics))


@pytest.mark.parametrize('storage', ['mcap', 'sqlite3'])
def test_frames_get_their_instruction_the_state_before_and_the_command_behind_them(tmp_path, storage):
    path = lerobot_sets.write_recording(tmp_path / 'bag', storage=storage)
    line = line_of(path, instruction='/instruction', state='/joint_states', action='/action')
    assert line.stamps == [lerobot_sets.START_NS + i * lerobot_sets.PERIOD_NS for i in range(8)]
    assert line.instructions == ['', '', *['pick the cup'] * 3, '', 'pour it', 'pour it']
    assert np.array_equal(line.states, [lerobot_sets.joints(i) for i in range(8)])
    assert [float(one[0]) for one in line.actions] == [2.0 * i for i in range(8)]
    assert line.names == {'observation.state': ('arm', 'hand'), 'action': ()} and line.damage is None
    assert line.topics['action'] == {'name': '/action', 'type': 'std_msgs/msg/Float32MultiArray'}
    plain = line_of(path)
    assert plain.instructions == [''] * 8 and plain.states == plain.actions == []


def test_a_text_without_a_stamp_holds_from_the_next_frame_on_and_values_hold(tmp_path):
    types = typestore().types
    path = tmp_path / 'bag'
    with BagWriter(path) as bag:
        for number in range(4):
            if number == 2:
                text = types['std_msgs/msg/String'](data=' stop ')
                bag.write_message('/say', 'std_msgs/msg/String', text, lerobot_sets.frame(1).stamp_ns + 5)
                kind = 'std_msgs/msg/Float32MultiArray'
                layout = types['std_msgs/msg/MultiArrayLayout'](dim=[], data_offset=0)
                value = types[kind](layout=layout, data=np.float32([7]))
                bag.write_message('/v', kind, value, lerobot_sets.frame(1).stamp_ns + 6)
            bag.write_frame(lerobot_sets.frame(number))
    line = line_of(path, instruction='/say', state='/v', action='/v')
    assert line.instructions == ['', '', 'stop', 'stop']
    assert [float(one[0]) for one in line.states] == [float(one[0]) for one in line.actions] == [7.0] * 4


def test_topics_that_do_not_serve_are_refused(tmp_path):
    path = lerobot_sets.write_recording(tmp_path / 'bag', 4)
    for topics, words in (
        ({'state': '/nothing'}, 'no topic /nothing'),
        ({'state': '/instruction'}, 'where sensor_msgs/msg/JointState or'),
        ({'instruction': '/joint_states'}, 'where m3et_ros/msg/Instruction or std_msgs/msg/String'),
    ):
        with pytest.raises(InputError, match=words):
            line_of(path, **topics)


def test_regular_frames_stay_and_pauses_begin_episodes():
    times = stamps(0, 101, 199, 300, 2000, 2100)
    picks, fps = plan(times, None, 'bag')
    assert fps == 10 and picks == [Pick(i, i in (0, 4)) for i in range(6)]
    assert deviation_s(times, picks, 10) == pytest.approx(0.001)
    assert plan(stamps(0), None, 'bag') == ([Pick(0, True)], 1)
    assert plan(stamps(0, 33, 67, 100), None, 'bag')[1] == 30


@pytest.mark.parametrize(
    ('times', 'words'),
    [
        ((0, 100, 300, 400, 500), '1 of 4 intervals .* 200.0 ms after frame 1 where 100.0 ms are usual'),
        ((0, 100, 140, 240, 340), '40.0 ms after frame 1'),
        ((0, 130, 260, 390), '7.692 frames per second'),
        ((0, 5000, 10_000), '0.200 frames per second'),
        ((0, 100, 50, 150, 250), 'frame 2 of bag is stamped no later'),
        ((0, 0, 0), 'frame 1 of bag is stamped no later'),
    ],
    ids=['gap', 'burst', 'odd rate', 'slow', 'back', 'still'],
)
def test_an_irregular_recording_is_refused_with_its_numbers(times, words):
    with pytest.raises(InputError, match=words) as refused:
        plan(stamps(*times), None, 'bag')
    assert refused.value.reason == 'lerobot_rate' and '--fps' in str(refused.value)


def test_resampling_gives_each_row_the_nearest_frame():
    picks, fps = plan(stamps(0, 100, 300, 410), 10, 'bag')
    assert fps == 10 and [pick.frame for pick in picks] == [0, 1, 1, 2, 3]
    assert [pick.begins for pick in picks] == [True, False, False, False, False]
    assert [pick.frame for pick in plan(stamps(0, 50, 100, 150, 200), 10, 'bag')[0]] == [0, 2, 4]
    assert [pick.frame for pick in plan(stamps(0, 50, 100), 20, 'bag')[0]] == [0, 1, 2]
    paused = plan(stamps(0, 50, 100, 5000, 5050), 10, 'bag')[0]
    assert [(pick.frame, pick.begins) for pick in paused] == [(0, True), (2, False), (3, True)]
    assert [pick.frame for pick in plan(stamps(0, 100, 50, 200), 10, 'bag')[0]] == [0, 1, 3]
    assert plan(stamps(0), 25, 'bag') == ([Pick(0, True)], 25)
