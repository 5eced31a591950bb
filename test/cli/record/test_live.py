"""m3et record --live: what a camera sends over real DDS is what the bag and the data set hold."""

import json
import os
import signal
import threading
import time
from pathlib import Path

import lerobot_sets
import numpy as np
import pytest
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Float32MultiArray

from m3et_ros.cli.main import main
from m3et_ros.cli.record import live
from m3et_ros.cli.record.episode import RecordOptions
from m3et_ros.cli.record.live import RunningRobotOptions
from m3et_ros.data.bags.frames import frames
from m3et_ros.data.bags.reader import BagReader, decode
from m3et_ros.data.lerobot.reader import LeRobotReader
from m3et_ros.msg import Instruction

COUNT = 6
LIMIT_S = 60


class Camera:
    """A camera in a thread: it sends its images once, when somebody listens to all of its topics."""

    def __init__(self, prefix, stamps):
        self.sent, self.stamps, self.over = set(), stamps, threading.Event()
        self.context = rclpy.Context()
        rclpy.init(context=self.context)
        self.node = rclpy.create_node('camera', context=self.context)
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self.publishers = {
            name: self.node.create_publisher(kind, name if name[0] == '/' else f'{prefix}/{name}', profile)
            for name, kind, profile in (
                ('aligned_depth_to_color/image_raw', Image, 20),
                ('color/camera_info', CameraInfo, 20),
                ('/instruction', Instruction, latched),
                ('/values', Float32MultiArray, 20),
                ('color/image_raw', Image, 20),
            )
        }
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        executor = SingleThreadedExecutor(context=self.context)
        executor.add_node(self.node)
        while not self.over.is_set():
            executor.spin_once(timeout_sec=0.02)
            if self.sent or not all(one.get_subscription_count() for one in self.publishers.values()):
                continue
            for number, stamp in enumerate(self.stamps):
                for name, message in self.messages(number, stamp):
                    self.sent.add(name)
                    self.publishers[name].publish(message)
        executor.shutdown(timeout_sec=1)

    def messages(self, number, stamp):
        frame = lerobot_sets.frame(number)
        depth = np.nan_to_num(frame.depth * 1000).round().astype(np.uint16)
        info = CameraInfo(height=24, width=34, k=lerobot_sets.K.ravel().tolist())
        images = {'aligned_depth_to_color/image_raw': ('16UC1', depth), 'color/image_raw': ('rgb8', frame.rgb)}
        if number == 0:
            yield '/instruction', self.stamped(Instruction(text='pick the cup'), stamp)
        yield '/values', Float32MultiArray(data=[float(number)])
        yield 'color/camera_info', self.stamped(info, stamp)
        for name, (encoding, pixels) in images.items():
            message = Image(height=24, width=34, encoding=encoding, step=pixels.strides[0], data=pixels.tobytes())
            yield name, self.stamped(message, stamp)

    def stamped(self, message, stamp):
        message.header.frame_id = 'camera'
        message.header.stamp.sec, message.header.stamp.nanosec = divmod(lerobot_sets.START_NS + stamp, 10**9)
        return message

    def again(self, stamps):
        """Send the images once more, to the next recorder; the last one must have left."""
        deadline = time.monotonic() + LIMIT_S
        while any(one.get_subscription_count() for one in self.publishers.values()):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        self.stamps = stamps
        self.sent.clear()

    def close(self):
        self.over.set()
        self.thread.join(LIMIT_S)
        self.node.destroy_node()
        rclpy.shutdown(context=self.context)


@pytest.fixture
def camera():
    started = []

    def start(prefix, stamps):
        started.append(Camera(prefix, stamps))
        return started[-1]

    yield start
    for one in started:
        one.close()


def test_a_bag_holds_what_the_camera_sent(camera, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(live, 'FIRST_S', LIMIT_S)
    one = camera('/wrist', [number * 100_000_000 for number in range(COUNT)])
    out = tmp_path / 'bag'
    line = ['record', '--live', str(out), '--frames', str(COUNT), '--camera', 'wrist', '--topic', '/values', '--json']
    assert main(line) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document['schema'], document['path'], document['frames'], document['complete']) == (
        1,
        str(out),
        COUNT,
        True,
    )
    with BagReader(out) as bag:
        counts = {name: topic.count for name, topic in bag.topics.items()}
        assert bag.topics['/instruction'].latched
        texts = [decode(message).text for message in bag.messages(['/instruction'])]
        found = list(frames(bag, rgb_topic='/wrist/color/image_raw', depth_topic=None))
    assert texts == ['pick the cup'] and document['topics'] == counts and counts['/wrist/color/image_raw'] == COUNT
    assert set(counts) == {'/instruction', '/values', *(f'/wrist/{name}' for name in one.sent if name[0] != '/')}
    for number, frame in enumerate(found):
        wanted = lerobot_sets.frame(number)
        assert np.array_equal(frame.rgb, wanted.rgb) and frame.frame_id == 'camera'
        assert frame.stamp_ns == lerobot_sets.START_NS + number * 100_000_000


def test_a_data_set_is_what_the_bag_would_become_and_an_uneven_one_leaves_the_bag(
    camera, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(live, 'FIRST_S', LIMIT_S)
    one = camera('/arm', [number * 100_000_000 for number in range(COUNT)])
    out = tmp_path / 'set'
    line = ['record', '--live', '--lerobot', '--images', 'png', '--frames', str(COUNT)]
    line += ['--topic', '/values', '--camera', '/arm']
    assert main([*line, str(out), '--json']) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document['episodes'], document['fps']) == (1, 10) and not (tmp_path / 'set_bag').exists()
    data = LeRobotReader(out)
    (episode,) = data.episodes
    rows = list(data.frames(episode))
    assert data.info.features[data.camera].dtype == 'image' and len(rows) == COUNT
    assert all(np.array_equal(row.frame.rgb, lerobot_sets.frame(number).rgb) for number, row in enumerate(rows))
    one.again([0, 100_000_000, 350_000_000, 450_000_000, 550_000_000, 650_000_000])
    assert main([*line, str(tmp_path / 'uneven')]) == 1
    assert f'The recording stays in {tmp_path / "uneven_bag"}' in capsys.readouterr().err
    assert (tmp_path / 'uneven_bag').exists() and not (tmp_path / 'uneven').exists()


def test_without_a_camera_nothing_is_recorded(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(live, 'FIRST_S', 0.2)
    assert main(['record', '--live', str(tmp_path / 'bag'), '--camera', '/nobody']) == 1
    assert 'nobody publishes /nobody/color/image_raw; start the camera' in capsys.readouterr().err
    assert not (tmp_path / 'bag').exists()


def test_a_signal_before_the_first_image_says_so(tmp_path, capsys, monkeypatch):
    real = live.LiveRecorder

    def interrupted(*arguments):
        os.kill(os.getpid(), signal.SIGINT)
        return real(*arguments)

    monkeypatch.setattr(live, 'LiveRecorder', interrupted)
    assert main(['record', '--live', str(tmp_path / 'bag'), '--camera', '/nobody']) == 130
    assert 'stopped before the first image came' in capsys.readouterr().err and not (tmp_path / 'bag').exists()


def test_every_option_arrives_at_the_recording(border):
    called = border('m3et_ros.cli.record.app.record_live')
    line = ['record', '--live', 'out', '--camera', '/c', '--topic', '/a', '--topic', '/b', '--frames', '9', '--json']
    assert main([*line, '--storage', 'sqlite3']) == 0
    assert main([*line, '--lerobot', '--images', 'small']) == 0
    robot = RunningRobotOptions(live=True, camera='/c', topics=['/a', '/b'])
    assert called == [
        {
            'out': Path('out'),
            'options': RecordOptions(frames=9, storage=storage),
            'robot': robot,
            'lerobot': images,
            'as_json': True,
        }
        for storage, images in (('sqlite3', None), ('mcap', 'small'))
    ]


@pytest.mark.parametrize(
    ('options', 'words'),
    [
        (('--live', '--seed', '5'), 'are for the simulated kitchen; with --live give'),
        (('--live', '--episodes', '2'), 'leave --live out'),
        (('--camera', '/c'), 'go with --live'),
    ],
    ids=['seed', 'episodes', 'camera'],
)
def test_options_that_do_not_go_together_are_refused(tmp_path, capsys, options, words):
    assert main(['record', str(tmp_path / 'out'), *options]) == 1
    assert words in capsys.readouterr().err and not (tmp_path / 'out').exists()
    assert main(['record', '--live', str(tmp_path)]) == 1
    assert 'exists already' in capsys.readouterr().err
