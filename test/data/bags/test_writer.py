import json
import resource
import sqlite3
from dataclasses import dataclass
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rosbags.rosbag2 import Reader

from m3et_ros.data.bags.reader import BagReader, decode
from m3et_ros.data.bags.writer import (
    COLOR_TOPIC,
    DEPTH_TOPIC,
    INFO_TOPIC,
    JPEG_QUALITY,
    LABELS_TOPIC,
    MASK_TOPIC,
    OPTICAL_FRAME,
    POSE_TOPIC,
    BagWriter,
    quaternion,
    truth,
)
from m3et_ros.data.errors import InputError
from m3et_ros.data.frame import Frame
from m3et_ros.data.images.compressed import encode_depth, encode_rgb
from m3et_ros.data.images.messages import depth_to_mm

STAMP = 1_700_000_000_123_456_789
DEPTH = np.array([[1.5, np.nan], [0.0004, 70.0]], np.float32)
FRAME = Frame(
    np.arange(12, dtype=np.uint8).reshape(2, 2, 3), DEPTH, STAMP, K=np.array([[5, 0, 1], [0, 6, 2], [0, 0, 1]])
)


def read(path):
    with BagReader(path) as bag:
        return {message.topic: decode(message) for message in bag.messages()}


def test_every_part_of_a_frame_comes_back(tmp_path):
    turned = np.array([[0, -1, 0, 1], [1, 0, 0, 2], [0, 0, 1, 3], [0, 0, 0, 1]], float)
    mask = np.array([[0, 255], [3, 4]], np.uint8)
    with BagWriter(tmp_path / 'bag', images='both') as bag:
        bag.write_frame(FRAME, pose=turned, mask=mask)
        bag.write_labels(STAMP, {'verb': 'take'})
    topics = read(tmp_path / 'bag')
    color, depth, info = topics[COLOR_TOPIC], topics[DEPTH_TOPIC], topics[INFO_TOPIC]
    assert (color.encoding, color.step, depth.encoding, depth.step) == ('rgb8', 6, '16UC1', 4)
    assert color.data.tolist() == list(range(12))
    assert depth.data.view(np.uint16).tolist() == [1500, 0, 0, 0]
    assert (color.header.stamp.sec, color.header.stamp.nanosec) == (1_700_000_000, 123_456_789)
    images = (COLOR_TOPIC, DEPTH_TOPIC, INFO_TOPIC, MASK_TOPIC)
    assert {topics[name].header.frame_id for name in images} == {OPTICAL_FRAME}
    assert info.k.tolist() == [5, 0, 1, 0, 6, 2, 0, 0, 1] and (info.height, info.width) == (2, 2)
    assert info.p.reshape(3, 4)[:, :3].tolist() == info.k.reshape(3, 3).tolist()
    assert (topics[MASK_TOPIC].encoding, topics[MASK_TOPIC].data.tolist()) == ('mono8', [0, 255, 3, 4])
    pose = topics[POSE_TOPIC].pose
    assert (pose.position.x, pose.position.y, pose.position.z) == (1, 2, 3)
    assert (pose.orientation.z, pose.orientation.w) == pytest.approx((np.sqrt(0.5), np.sqrt(0.5)))
    assert json.loads(topics[LABELS_TOPIC].data) == {'verb': 'take'}


def test_compressed_images_decode(tmp_path):
    smooth = np.full((16, 16, 3), (200, 60, 20), np.uint8)
    depth = np.linspace(0.5, 4, 256, dtype=np.float32).reshape(16, 16)
    with BagWriter(tmp_path / 'bag', images='compressed') as bag:
        bag.write_frame(Frame(smooth, depth, STAMP))
    topics = read(tmp_path / 'bag')
    color, packed = topics[f'{COLOR_TOPIC}/compressed'], topics[f'{DEPTH_TOPIC}/compressedDepth']
    assert set(topics) == {f'{COLOR_TOPIC}/compressed', f'{DEPTH_TOPIC}/compressedDepth'}
    assert np.abs(cv2.imdecode(color.data, cv2.IMREAD_COLOR)[..., ::-1].astype(int) - smooth).max() < 8
    assert packed.format == '16UC1; compressedDepth png'
    assert np.array_equal(cv2.imdecode(packed.data[12:], cv2.IMREAD_UNCHANGED), depth_to_mm(depth))


def test_type_hashes_are_those_of_ros(tmp_path):
    """The hashes that the interface generator of Jazzy wrote for these types (type_description_hash, REP 2016)."""
    with BagWriter(tmp_path / 'bag', images='both') as bag:
        bag.write_frame(FRAME, pose=np.eye(4))
    with Reader(tmp_path / 'bag') as reader:
        hashes = {connection.msgtype.split('/')[-1]: connection.digest for connection in reader.connections}
    assert hashes == {
        'Image': 'RIHS01_d31d41a9a4c4bc8eae9be757b0beed306564f7526c88ea6a4588fb9582527d47',
        'CompressedImage': 'RIHS01_15640771531571185e2efc8a100baf923961a4d15d5569652e6cb6691e8e371a',
        'CameraInfo': 'RIHS01_b3dfd68ff46c9d56c80fd3bd4ed22c7a4ddce8c8348f2f59c299e73118e7e275',
        'PoseStamped': 'RIHS01_10f3786d7d40fd2b54367835614bff85d4ad3b5dab62bf8bca0cc232d73b4cd8',
    }


@given(st.tuples(*[st.floats(-1, 1, allow_subnormal=False)] * 4).filter(lambda q: np.linalg.norm(q) > 0.1))
def test_quaternion_turns_as_the_matrix_does(q):
    x, y, z, w = q / np.linalg.norm(q)
    rotation = np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )
    found = np.array(quaternion(rotation))
    assert min(np.abs(found - (x, y, z, w)).max(), np.abs(found + (x, y, z, w)).max()) < 1e-6
    assert found[3] >= 0


def test_existing_path_and_unknown_options_are_refused(tmp_path):
    for options, reason in (
        ({'path': tmp_path}, 'bag_exists'),
        ({'storage': 'csv'}, 'bag_option'),
        ({'images': 'png'}, 'bag_option'),
        ({'storage': 'sqlite3', 'zstd': True}, 'bag_option'),
    ):
        with pytest.raises(InputError) as refused:
            BagWriter(**{'path': tmp_path / 'bag', **options})
        assert refused.value.reason == reason
    assert not (tmp_path / 'bag').exists()


def test_interrupted_recording_stays_readable(tmp_path):
    with pytest.raises(KeyboardInterrupt), BagWriter(tmp_path / 'bag') as bag:
        bag.write_frame(FRAME)
        raise KeyboardInterrupt
    assert COLOR_TOPIC in read(tmp_path / 'bag')
    with pytest.raises(ValueError, match='closed'):
        bag.write_frame(FRAME)


def test_kitchen_observations_are_recorded_with_their_labels(tmp_path):
    pytest.importorskip('mujoco', reason='the simulated kitchen needs MuJoCo')
    from m3et_ros.data.kitchen.sim.camera import Camera
    from m3et_ros.data.kitchen.sim.episode import Episode

    episode = Episode(3, width=48, height=32, fps=4)
    with Camera(episode, backend='raycast') as camera, BagWriter(tmp_path / 'bag') as bag:
        observations = []
        for state in episode.run(3):
            observations.append(camera.observe(state))
            bag.write_observation(observations[-1], STAMP)
    with BagReader(tmp_path / 'bag') as bag:
        assert {name: topic.count for name, topic in bag.topics.items()} == {
            COLOR_TOPIC: 3,
            DEPTH_TOPIC: 3,
            INFO_TOPIC: 3,
            POSE_TOPIC: 3,
            MASK_TOPIC: 3,
            LABELS_TOPIC: 1,
        }
        images = [decode(message) for message in bag.messages([COLOR_TOPIC])]
    for image, observation in zip(images, observations):
        assert np.array_equal(image.data.reshape(32, 48, 3), observation.rgb)
    assert images[1].header.stamp.nanosec - images[0].header.stamp.nanosec == 250_000_000


def test_every_field_of_every_message_is_written(tmp_path):
    """A frame of another optical frame, of 3 x 2 pixels, so that no two sizes are alike."""
    rgb, depth = np.arange(18, dtype=np.uint8).reshape(2, 3, 3), np.full((2, 3), 1.25, np.float32)
    K = np.array([[5, 0, 1], [0, 6, 2], [0, 0, 1]])
    pose = np.eye(4)
    pose[:3, 3] = 1, 2, 3
    with BagWriter(tmp_path / 'bag', images='both') as bag:
        bag.write_frame(Frame(rgb, depth, STAMP, frame_id='eye', K=K), pose=pose, mask=rgb[..., 0])
        bag.write_labels(STAMP + 1, {'verb': 'take'})
    topics = read(tmp_path / 'bag')
    mapped = {'frame_id': 'map', 'stamp': {'sec': 1_700_000_000, 'nanosec': 123_456_789}}
    header = mapped | {'frame_id': 'eye'}
    image = {'header': header, 'height': 2, 'width': 3, 'is_bigendian': 0}
    roi = {'x_offset': 0, 'y_offset': 0, 'height': 0, 'width': 0, 'do_rectify': False}
    assert plain(topics[COLOR_TOPIC]) == image | {'encoding': 'rgb8', 'step': 9, 'data': rgb.ravel().tolist()}
    assert plain(topics[DEPTH_TOPIC]) == image | {'encoding': '16UC1', 'step': 6, 'data': [1250 % 256, 1250 // 256] * 6}
    assert plain(topics[MASK_TOPIC]) == image | {'encoding': 'mono8', 'step': 3, 'data': rgb[..., 0].ravel().tolist()}
    assert plain(topics[INFO_TOPIC]) == {
        'header': header,
        'height': 2,
        'width': 3,
        'distortion_model': 'plumb_bob',
        'd': [0] * 5,
        'k': [5, 0, 1, 0, 6, 2, 0, 0, 1],
        'r': [1, 0, 0, 0, 1, 0, 0, 0, 1],
        'p': [5, 0, 1, 0, 0, 6, 2, 0, 0, 0, 1, 0],
        'binning_x': 0,
        'binning_y': 0,
        'roi': roi,
    }
    assert plain(topics[POSE_TOPIC]) == {
        'header': mapped,
        'pose': {'position': {'x': 1, 'y': 2, 'z': 3}, 'orientation': {'x': 0, 'y': 0, 'z': 0, 'w': 1}},
    }
    for name, (form, data) in (
        (f'{COLOR_TOPIC}/compressed', encode_rgb(rgb, quality=JPEG_QUALITY)),
        (f'{DEPTH_TOPIC}/compressedDepth', encode_depth(depth)),
    ):
        assert plain(topics[name]) == {'header': header, 'format': form, 'data': list(data)}
    assert plain(topics[LABELS_TOPIC]) == {'data': '{"verb": "take"}'}


def plain(message):
    """A message as nested dictionaries and lists."""
    if isinstance(message, np.ndarray):
        return message.tolist()
    if not hasattr(message, '__msgtype__'):
        return message
    return {name: plain(value) for name, value in vars(message).items() if not name.startswith('_')}


def test_only_labels_are_kept_for_late_subscribers_and_all_topics_are_reliable(tmp_path):
    with BagWriter(tmp_path / 'bag') as bag:
        bag.write_frame(FRAME, pose=np.eye(4), mask=np.zeros((2, 2), np.uint8))
        bag.write_labels(STAMP, {})
    with BagReader(tmp_path / 'bag') as bag:
        assert {name for name, topic in bag.topics.items() if topic.latched} == {LABELS_TOPIC}
        assert all(topic.reliable for topic in bag.topics.values())


def test_a_depth_image_alone_has_its_own_stamp_and_frame(tmp_path):
    with BagWriter(tmp_path / 'bag') as bag:
        bag.write_depth(DEPTH, STAMP, 'eye')
        bag.write_depth(DEPTH, STAMP + 1)
    with BagReader(tmp_path / 'bag') as bag:
        recorded = [(message.stamp_ns, decode(message).header) for message in bag.messages()]
    assert [(stamp, header.stamp.nanosec, header.frame_id) for stamp, header in recorded] == [
        (STAMP, 123_456_789, 'eye'),
        (STAMP + 1, 123_456_790, OPTICAL_FRAME),
    ]


def test_the_truth_lists_the_action_under_way_and_the_last_five():
    @dataclass
    class Done:
        verb: str

    finished = [Done(str(i)) for i in range(7)]
    found = truth(SimpleNamespace(current=Done('now'), finished=finished))
    assert found['current'] == {'verb': 'now'} and found['source'] == 'ground truth of the simulator'
    assert found['finished'] == [{'verb': str(i)} for i in range(2, 7)]
    assert truth(SimpleNamespace(current=None, finished=[]))['current'] is None


@pytest.fixture
def small_disk():
    """Files of this process can grow to 1 MiB only; to write more fails as on a full disk."""
    _, hard = limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize('storage', ['mcap', 'sqlite3'])
def test_a_recording_that_the_disk_cannot_hold_fails_and_nothing_says_that_it_is_whole(tmp_path, storage, small_disk):
    frame = Frame(np.random.default_rng(0).integers(0, 256, (480, 640, 3), np.uint8), stamp_ns=STAMP)
    with pytest.raises(OSError) as failed, BagWriter(tmp_path / 'bag', storage) as bag:
        for _ in range(20):
            bag.write_frame(frame)
    assert failed.value.strerror
    assert not (tmp_path / 'bag/metadata.yaml').exists()
    bag.close()
    with pytest.raises(ValueError, match='is closed'):
        bag.write_frame(frame)


@pytest.mark.parametrize('storage', ['mcap', 'sqlite3'])
def test_a_recording_whose_end_the_disk_cannot_hold_fails_too(tmp_path, storage, monkeypatch):
    def full(*_):
        raise OSError(28, 'No space left on device') if storage == 'mcap' else operational

    operational = sqlite3.OperationalError('database or disk is full')
    operational.sqlite_errorcode = sqlite3.SQLITE_FULL
    with pytest.raises(OSError) as failed, BagWriter(tmp_path / 'bag', storage) as bag:
        bag.write_frame(FRAME)
        monkeypatch.setattr(bag._writer.storage, 'close', full)
    assert failed.value.errno == 28
    assert not (tmp_path / 'bag/metadata.yaml').exists()


def test_an_interrupted_recording_can_be_read(tmp_path):
    with pytest.raises(KeyboardInterrupt), BagWriter(tmp_path / 'bag') as bag:
        bag.write_frame(FRAME)
        raise KeyboardInterrupt
    assert len(read(tmp_path / 'bag')) == 3
