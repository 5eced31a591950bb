"""Recording to data set to recording: frames, stamps and instructions are equal."""

import lerobot_sets
import numpy as np
import pytest

from m3et_ros.data.bags.frames import frames
from m3et_ros.data.bags.reader import BagReader
from m3et_ros.data.bags.topics import find_camera
from m3et_ros.data.errors import InputError
from m3et_ros.data.lerobot.from_bag import ConvertedTopics, convert_bags
from m3et_ros.data.lerobot.reader import LeRobotReader
from m3et_ros.data.lerobot.schema import STATE, EpisodeFrame
from m3et_ros.data.lerobot.timeline import RobotTopics, read_timeline
from m3et_ros.data.lerobot.to_bag import convert_episodes
from m3et_ros.data.lerobot.writer import LeRobotWriter

TOPICS = RobotTopics('/instruction', '/joint_states', '/action')


def rows_of(path, topics=TOPICS):
    """Read a recording as the rows that it would become."""
    with BagReader(path) as bag:
        camera = find_camera(bag)
        line = read_timeline(bag, camera, topics)
        found = list(frames(bag, rgb_topic=camera.rgb, depth_topic=camera.depth))
    return [
        EpisodeFrame(
            type(one)(one.rgb, one.depth, one.stamp_ns, line.instructions[i], one.frame_id, one.K),
            line.states[i],
            line.actions[i],
        )
        for i, one in enumerate(found)
    ]


@pytest.mark.parametrize('images', ['lossless', 'png'])
def test_a_recording_comes_back(tmp_path, images):
    bag = lerobot_sets.write_recording(tmp_path / 'bag')
    convert_bags([bag], tmp_path / 'set', topics=ConvertedTopics(), images=images)
    result = convert_episodes(LeRobotReader(tmp_path / 'set'), tmp_path / 'back')
    assert (result.bags, result.frames, result.repeated, result.notes) == ([tmp_path / 'back'], 8, 0, [])
    lerobot_sets.assert_same_rows(rows_of(tmp_path / 'back'), rows_of(bag))
    lerobot_sets.assert_same_rows(rows_of(tmp_path / 'back'), lerobot_sets.rows(8))
    with BagReader(bag) as first, BagReader(tmp_path / 'back') as second:
        assert {topic.name: (topic.type, topic.count) for topic in first.topics.values()} == {
            topic.name: (topic.type, topic.count) for topic in second.topics.values()
        }
        assert second.topics['/instruction'].latched


def test_each_episode_is_a_recording_of_its_own(tmp_path):
    with LeRobotWriter(tmp_path / 'set', 10, depth=True) as data:
        for count in (3, 5):
            for row in lerobot_sets.rows(count):
                data.write(row)
            data.end_episode()
    data = LeRobotReader(tmp_path / 'set')
    result = convert_episodes(data, tmp_path / 'all')
    assert result.bags == [tmp_path / 'all/episode_000000', tmp_path / 'all/episode_000001'] and result.frames == 8
    assert len(rows_of(result.bags[1], RobotTopics('/instruction', '/joint_states', '/action'))) == 5
    with BagReader(result.bags[1]) as bag:
        assert bag.topics['/action'].type == 'sensor_msgs/msg/JointState'
    single = convert_episodes(data, tmp_path / 'one', episodes=[1])
    assert single.bags == [tmp_path / 'one'] and single.frames == 5
    with pytest.raises(InputError, match='no episode 2; give 0 to 1'):
        convert_episodes(data, tmp_path / 'two', episodes=[2])
    with pytest.raises(InputError, match='exists already'):
        convert_episodes(data, tmp_path / 'all')


def test_rows_that_repeat_a_frame_are_left_out_and_poses_stay_poses(tmp_path):
    with LeRobotWriter(tmp_path / 'set', 10, depth=True) as data:
        for row in lerobot_sets.rows(3):
            for _ in range(2):
                data.write(EpisodeFrame(row.frame, np.arange(7, dtype=np.float32)))
        kind = {'name': '/arm/pose', 'type': 'geometry_msgs/msg/PoseStamped'}
        data.end_episode({'topics': {STATE: kind, 'action': {'name': 'no name', 'type': kind['type']}}})
    result = convert_episodes(LeRobotReader(tmp_path / 'set'), tmp_path / 'back')
    assert (result.frames, result.repeated) == (3, 3)
    with BagReader(tmp_path / 'back') as bag:
        assert bag.topics['/arm/pose'].type == 'geometry_msgs/msg/PoseStamped' and bag.topics['/arm/pose'].count == 3
        assert '/action' not in bag.topics
