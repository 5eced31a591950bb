import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.qos import DurabilityPolicy, QoSProfile
from rosbags.rosbag2 import StoragePlugin, Writer
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import String

from m3et_ros.data.bag_writer import COLOR_TOPIC, DEPTH_TOPIC, INFO_TOPIC, LABELS_TOPIC, BagWriter
from m3et_ros.data.bags import BagReader, typestore
from m3et_ros.data.types import Frame
from m3et_ros.ros.replay_node import message_class

START = 1_700_000_000_000_000_000
STEP = 50_000_000
COUNT = 20
SHARED = Path(os.environ.get('M3ET_DATA', Path(__file__).resolve().parents[2] / '../shared/data'))
REAL = SHARED / 'real_kitchen/bag'


def write(path, **options):
    with BagWriter(path, **options) as bag:
        for i in range(COUNT):
            rgb, depth = np.full((48, 64, 3), i, np.uint8), np.ones((48, 64), np.float32)
            bag.write_frame(Frame(rgb, depth, START + i * STEP, K=np.eye(3)), pose=np.eye(4))
        bag.write_labels(START, {'verb': 'take'})
    return path


@pytest.fixture(scope='module')
def recording(tmp_path_factory):
    return write(tmp_path_factory.mktemp('bags') / 'recording')


class Listener:
    """A node that keeps what it hears, on a thread and a context of its own."""

    def __init__(self):
        self.context = rclpy.Context()
        rclpy.init(context=self.context)
        self.node = rclpy.create_node('listener', context=self.context)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)
        self.heard = {}
        self.news = threading.Condition()
        self.thread = threading.Thread(target=self._spin, daemon=True)

    def listen(self, kind, topic, **qos):
        self.heard[topic] = []

        def keep(message):
            with self.news:
                self.heard[topic].append(message)
                self.news.notify_all()
        self.node.create_subscription(kind, topic, keep, QoSProfile(depth=1000, **qos))

    def _spin(self):
        try:
            self.executor.spin()
        except ExternalShutdownException:
            pass

    def start(self):
        self.thread.start()

    def wait(self, done, seconds=30):
        with self.news:
            return self.news.wait_for(lambda: done(self.heard), seconds)

    def stamps(self, topic):
        return [message.header.stamp.sec * 10**9 + message.header.stamp.nanosec for message in self.heard[topic]]

    def close(self):
        self.executor.shutdown(timeout_sec=5)
        self.thread.join(5)
        self.node.destroy_node()
        rclpy.shutdown(context=self.context)


@pytest.fixture
def listener():
    made = Listener()
    yield made
    made.close()


class Player:
    """A replay_node process."""

    def __init__(self, *parameters, remap=()):
        arguments = [item for parameter in parameters for item in ('-p', parameter)]
        arguments += [item for rule in remap for item in ('-r', rule)]
        self.process = subprocess.Popen([sys.executable, '-m', 'm3et_ros.ros.replay_node', '--ros-args', *arguments],
                                        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.process.kill()
        self.process.communicate()

    def finish(self, seconds=60):
        """Exit code and log."""
        log, _ = self.process.communicate(timeout=seconds)
        assert 'Traceback' not in log
        return self.process.returncode, log


def recorded():
    return [START + i * STEP for i in range(COUNT)]


def test_every_message_arrives_as_recorded_with_its_clock(listener, recording):
    for kind, topic in ((Image, COLOR_TOPIC), (Image, DEPTH_TOPIC), (CameraInfo, INFO_TOPIC), (Clock, '/clock')):
        listener.listen(kind, topic)
    listener.listen(String, LABELS_TOPIC, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    listener.start()
    with Player(f'path:={recording}', 'wait_for_subscribers:=true', 'rate:=2.0') as player:
        code, log = player.finish()
    assert code == 0
    assert f'{COUNT} on {COLOR_TOPIC}' in log
    assert listener.wait(lambda heard: len(heard[COLOR_TOPIC]) == len(heard[DEPTH_TOPIC]) == COUNT), log
    assert listener.stamps(COLOR_TOPIC) == listener.stamps(DEPTH_TOPIC) == listener.stamps(INFO_TOPIC) == recorded()
    assert [image.data[0] for image in listener.heard[COLOR_TOPIC]] == list(range(COUNT))
    assert listener.heard[LABELS_TOPIC][0].data == '{"verb": "take"}'
    clock = [message.clock.sec * 10**9 + message.clock.nanosec for message in listener.heard['/clock']]
    assert clock == sorted(set(clock))
    assert clock[0] >= START and clock[-1] == recorded()[-1]
    # Between the messages the clock ticks too, and every message comes with its own time.
    assert len(clock) > COUNT and set(recorded()[1:]) <= set(clock)


def test_sqlite_remapped_selected_later_and_without_clock(listener, tmp_path):
    path = write(tmp_path / 'bag', storage='sqlite3')
    for kind, topic in ((Image, '/rgb'), (Image, COLOR_TOPIC), (Image, DEPTH_TOPIC), (Clock, '/clock')):
        listener.listen(kind, topic)
    listener.start()
    with Player(f'path:={path}', 'wait_for_subscribers:=true', 'start_s:=0.5', 'publish_clock:=false',
                f"topics:=['{COLOR_TOPIC}']", 'rate:=10.0', remap=[f'{COLOR_TOPIC}:=/rgb']) as player:
        code, log = player.finish()
    assert code == 0 and '10 on /rgb' in log
    assert listener.wait(lambda heard: len(heard['/rgb']) == 10)
    assert listener.stamps('/rgb') == recorded()[10:]
    assert not listener.heard[COLOR_TOPIC] and not listener.heard[DEPTH_TOPIC] and not listener.heard['/clock']


def test_loop_goes_back_in_time_and_a_signal_ends_it(listener, recording):
    listener.listen(CameraInfo, INFO_TOPIC)
    listener.start()
    with Player(f'path:={recording}', 'wait_for_subscribers:=true', 'loop:=true', 'rate:=20.0') as player:
        assert listener.wait(lambda heard: len(heard[INFO_TOPIC]) >= 3 * COUNT)
        player.process.send_signal(signal.SIGINT)
        code, _ = player.finish()
    assert code == 0
    assert listener.stamps(INFO_TOPIC)[:3 * COUNT] == recorded() * 3


def test_restamped_messages_never_go_back_and_pairs_stay_pairs(listener, recording):
    for kind, topic in ((Image, COLOR_TOPIC), (Image, DEPTH_TOPIC)):
        listener.listen(kind, topic)
    listener.start()
    before = listener.node.get_clock().now().nanoseconds
    options = ('wait_for_subscribers:=true', 'loop:=true', 'rate:=20.0', 'restamp:=true')
    with Player(f'path:={recording}', *options) as player:
        assert listener.wait(lambda heard: min(map(len, heard.values())) >= 2 * COUNT)
        player.process.terminate()
        assert player.finish()[0] == 0
    stamps = listener.stamps(COLOR_TOPIC)[:2 * COUNT]
    assert stamps == listener.stamps(DEPTH_TOPIC)[:2 * COUNT]
    assert stamps == sorted(set(stamps)) and stamps[0] > before


@pytest.mark.parametrize('parameters, part', [
    (['path:={missing}'], 'there is no bag'),
    (['path:={bag}', "topics:=['/camera/rgb']"], COLOR_TOPIC),
    (['path:={bag}', 'rate:=1000.0'], 'rate is 1000.0; give 0.1..100'),
    (['path:={bag}', 'start_s:=50.0'], 'start_s is 50'),
    ([], 'parameter path is empty'),
], ids=['no bag', 'no topic', 'rate', 'start', 'no path'])
def test_what_cannot_be_played_is_one_sentence_and_exit_code_1(recording, tmp_path, parameters, part):
    given = [parameter.format(missing=tmp_path / 'missing', bag=recording) for parameter in parameters]
    with Player(*given) as player:
        code, log = player.finish()
    assert code == 1
    assert part in log


def test_cut_bag_plays_as_far_as_it_goes_and_says_so(tmp_path):
    with BagWriter(tmp_path / 'bag') as bag:
        for i in range(10):
            bag.write_frame(Frame(np.full((480, 640, 3), i, np.uint8), stamp_ns=START + i * STEP))
    file = tmp_path / 'bag/bag.mcap'
    os.truncate(file, file.stat().st_size * 6 // 10)
    with BagReader(file) as bag:
        readable = bag.count
    with Player(f'path:={file}', 'rate:=5.0') as player:
        code, log = player.finish()
    assert code == 1
    assert log.count('cut off') == 1
    assert 0 < readable < 10 and f'{readable} on {COLOR_TOPIC}' in log


def test_topics_of_unknown_types_are_named_and_left_out(tmp_path):
    store = typestore()
    text = store.serialize_cdr(store.types['std_msgs/msg/String'](data='hello'), 'std_msgs/msg/String')
    with Writer(tmp_path / 'bag', version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        known = writer.add_connection('/text', 'std_msgs/msg/String', typestore=store)
        alien = writer.add_connection('/alien', 'nowhere_msgs/msg/Thing', msgdef='int32 x', rihs01='RIHS01_' + '0' * 64)
        writer.write(alien, START, text)
        writer.write(known, START + STEP, text)
    with Player(f'path:={tmp_path / "bag"}') as player:
        code, log = player.finish()
    assert code == 0
    assert log.count('/alien (nowhere_msgs/msg/Thing)') == 1
    assert 'messages sent: 1 on /text' in log


def test_only_message_classes_are_imported():
    assert message_class('sensor_msgs/msg/Image') is Image
    for name in ('sensor_msgs/msg/Nothing', 'nowhere_msgs/msg/Image', 'std_srvs/srv/Trigger', '../msg/X', ''):
        assert message_class(name) is None


@pytest.mark.skipif(not REAL.exists(), reason='no real kitchen bag beside the checkout; set M3ET_DATA to its folder')
def test_real_kitchen_plays(listener):
    color = f'{COLOR_TOPIC}/compressed'
    listener.listen(CompressedImage, color)
    listener.listen(CompressedImage, f'{DEPTH_TOPIC}/compressedDepth')
    listener.start()
    with Player(f'path:={REAL}', 'wait_for_subscribers:=true', 'rate:=4.0') as player:
        code, log = player.finish()
    assert code == 0, log
    assert listener.wait(lambda heard: all(len(messages) == 150 for messages in heard.values()))
    assert len(set(listener.stamps(color))) == 150
