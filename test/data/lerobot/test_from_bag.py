"""Recordings become episodes; what is rounded, resampled or left out is noted."""

import lerobot_sets
import numpy as np
import pytest

from m3et_ros.data.bags.cdr import typestore
from m3et_ros.data.bags.writer import DEPTH_TOPIC, BagWriter
from m3et_ros.data.errors import InputError
from m3et_ros.data.frame import Frame
from m3et_ros.data.lerobot.from_bag import ConvertedTopics, convert_bags
from m3et_ros.data.lerobot.reader import LeRobotReader

MS = 1_000_000


def convert(bags, out, **options):
    return convert_bags(bags, out, **{'topics': ConvertedTopics(), **options})


def read(root):
    data = LeRobotReader(root)
    return [list(data.frames(episode)) for episode in data.episodes]


@pytest.mark.parametrize('images', ['lossless', 'png'])
def test_frames_stamps_and_instructions_are_those_of_the_recording(tmp_path, images):
    bag = lerobot_sets.write_recording(tmp_path / 'bag')
    result = convert([bag], tmp_path / 'set', images=images)
    assert (result.frames, result.episodes, result.fps, result.notes) == (8, 1, 10, [])
    assert result.tasks == ['', 'pick the cup', 'pour it'] and result.deviation_s == pytest.approx(4.9e-8, rel=0.1)
    (rows,) = read(tmp_path / 'set')
    lerobot_sets.assert_same_rows(rows, lerobot_sets.rows(8))
    assert np.array_equal(rows[0].frame.K, lerobot_sets.K)
    data = LeRobotReader(tmp_path / 'set')
    assert data.state.value_names == ('arm', 'hand')
    assert data.episodes[0].facts['topics']['action'] == ('/action', 'std_msgs/msg/Float32MultiArray')


def test_a_small_video_is_close_and_everything_else_exact(tmp_path):
    bag = lerobot_sets.write_recording(tmp_path / 'bag')
    convert([bag], tmp_path / 'set', images='small')
    (rows,) = read(tmp_path / 'set')
    lerobot_sets.assert_same_rows(rows, lerobot_sets.rows(8), exact=False)


def test_several_recordings_and_pauses_are_several_episodes(tmp_path):
    paused = lerobot_sets.write_recording(tmp_path / 'a', 5, stamps=[0, 100 * MS, 200 * MS, 5000 * MS, 5100 * MS])
    other = lerobot_sets.write_recording(tmp_path / 'b', 3)
    result = convert([paused, other], tmp_path / 'set')
    assert (result.episodes, result.frames) == (3, 8)
    assert [len(rows) for rows in read(tmp_path / 'set')] == [3, 2, 3]


def test_an_irregular_recording_is_resampled_on_request(tmp_path):
    stamps = [0, 100 * MS, 300 * MS, 310 * MS, 400 * MS]
    bag = lerobot_sets.write_recording(tmp_path / 'bag', 5, stamps=stamps)
    with pytest.raises(InputError, match='uneven'):
        convert([bag], tmp_path / 'set')
    assert not (tmp_path / 'set').exists()
    result = convert([bag], tmp_path / 'set', fps=10)
    (rows,) = read(tmp_path / 'set')
    assert [(row.frame.stamp_ns - lerobot_sets.START_NS) // MS for row in rows] == [0, 100, 100, 300, 400]
    assert result.deviation_s == pytest.approx(0.1)
    assert result.notes == [
        f'{bag} is resampled to 10 frames per second: 1 of 5 frames are left out and 1 rows repeat one.'
    ]


def test_recordings_of_two_rates_need_one(tmp_path):
    slow = lerobot_sets.write_recording(tmp_path / 'a', 4)
    fast = lerobot_sets.write_recording(tmp_path / 'b', 4, stamps=[0, 50 * MS, 100 * MS, 150 * MS])
    with pytest.raises(InputError, match='20 frames per second and .* 10; give --fps'):
        convert([slow, fast], tmp_path / 'set')
    assert convert([slow, fast], tmp_path / 'set', fps=10).frames == 4 + 2


def test_float_depth_is_rounded_to_millimetres_and_said_so(tmp_path):
    store = typestore()
    depth = np.full((4, 6), 1.23456, np.float32)
    with BagWriter(tmp_path / 'bag') as bag:
        for number in range(2):
            stamp = lerobot_sets.START_NS + number * 100 * MS
            header = bag._header(stamp, 'camera')
            bag.write_frame(Frame(np.zeros((4, 6, 3), np.uint8), stamp_ns=stamp, frame_id='camera'))
            image = store.types['sensor_msgs/msg/Image'](
                header=header,
                height=4,
                width=6,
                encoding='32FC1',
                is_bigendian=0,
                step=24,
                data=depth.view(np.uint8).ravel(),
            )
            bag.write_message(DEPTH_TOPIC, 'sensor_msgs/msg/Image', image, stamp)
    result = convert([tmp_path / 'bag'], tmp_path / 'set')
    assert 'float metres, stored in whole millimetres: at most 0.5 mm off' in result.notes[0]
    ((row, _),) = read(tmp_path / 'set')
    assert np.array_equal(row.frame.depth, np.full((4, 6), 1.235, np.float32))


def test_colours_alone_and_named_topics_are_converted(tmp_path):
    bag = lerobot_sets.write_recording(tmp_path / 'bag', 4, depth=False)
    result = convert([bag], tmp_path / 'set', topics=ConvertedTopics(state='/action', instruction='/instruction'))
    assert 'no depth aligned' in result.notes[0]
    (rows,) = read(tmp_path / 'set')
    assert all(row.frame.depth is None for row in rows) and [float(row.state[0]) for row in rows] == [0, 0, 2, 4]


def test_depth_is_left_out_on_request(tmp_path):
    bag = lerobot_sets.write_recording(tmp_path / 'bag', 3)
    assert convert([bag], tmp_path / 'set', topics=ConvertedTopics(depth='none')).notes == []
    assert LeRobotReader(tmp_path / 'set').depth is None


def test_of_a_cut_recording_the_readable_part_is_used(tmp_path):
    with BagWriter(tmp_path / 'bag') as bag:
        for number in range(10):
            rgb = np.full((480, 640, 3), number, np.uint8)
            bag.write_frame(Frame(rgb, stamp_ns=lerobot_sets.START_NS + number * 100 * MS))
    file = tmp_path / 'bag/bag.mcap'
    file.write_bytes(file.read_bytes()[: file.stat().st_size * 6 // 10])
    result = convert([file], tmp_path / 'set', images='png')
    assert 0 < result.frames < 10 and any('is cut off' in note for note in result.notes)
