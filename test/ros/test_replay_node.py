"""A recording is played as recorded: bytes, stamps, rate, quality of service and clock."""

import dataclasses
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile
from rosbags.rosbag2 import StoragePlugin, Writer
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from shared_data import SHARED
from std_msgs.msg import String

from m3et_ros.data.bags.cdr import typestore
from m3et_ros.data.bags.reader import BagReader
from m3et_ros.data.bags.writer import COLOR_TOPIC, DEPTH_TOPIC, INFO_TOPIC, LABELS_TOPIC, BagWriter
from m3et_ros.data.errors import InputError
from m3et_ros.data.frame import Frame
from m3et_ros.ros import replay_node
from m3et_ros.ros.camera.subscription import RELIABILITIES
from m3et_ros.ros.convert import stamp_ns
from m3et_ros.ros.replay_node import ReplayNode, message_class

START = 1_700_000_000_000_000_000
STEP = 50_000_000
COUNT = 20
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
    """Stores the messages that a node receives, by topic."""

    def __init__(self, ros):
        self.ros, self.node, self.received = ros, ros.node('listener'), {}

    def listen(self, kind, topic, **qos):
        messages = self.received.setdefault(topic, [])
        self.node.create_subscription(kind, topic, messages.append, QoSProfile(depth=1000, **qos))

    def stamps(self, topic):
        return [stamp_ns(message.header.stamp) for message in self.received[topic]]

    def receives(self, count, *topics):
        """Wait until so many messages have arrived on each topic."""
        self.ros.until(lambda: all(len(self.received[topic]) >= count for topic in topics))


@pytest.fixture
def listener(ros):
    return Listener(ros)


class Player:
    """A replay_node process."""

    def __init__(self, *parameters, remap=()):
        arguments = [item for parameter in parameters for item in ('-p', parameter)]
        arguments += [item for rule in remap for item in ('-r', rule)]
        self.process = subprocess.Popen(
            [sys.executable, '-m', 'm3et_ros.ros.replay_node', '--ros-args', *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

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
    with Player(f'path:={recording}', 'wait_for_subscribers:=true', 'rate:=2.0') as player:
        code, log = player.finish()
    assert code == 0
    assert f'{COUNT} on {COLOR_TOPIC}' in log
    listener.receives(COUNT, COLOR_TOPIC, DEPTH_TOPIC, INFO_TOPIC)
    assert listener.stamps(COLOR_TOPIC) == listener.stamps(DEPTH_TOPIC) == listener.stamps(INFO_TOPIC) == recorded()
    assert [image.data[0] for image in listener.received[COLOR_TOPIC]] == list(range(COUNT))
    assert listener.received[LABELS_TOPIC][0].data == '{"verb": "take"}'
    clock = [stamp_ns(message.clock) for message in listener.received['/clock']]
    assert clock == sorted(set(clock))
    assert clock[0] >= START and clock[-1] == recorded()[-1]
    # The clock ticks between the messages too, and every message has its own time on it.
    assert len(clock) > COUNT and set(recorded()[1:]) <= set(clock)


def test_a_selected_topic_of_an_sqlite_bag_is_played_from_a_later_start_remapped_and_without_clock(listener, tmp_path):
    path = write(tmp_path / 'bag', storage='sqlite3')
    for kind, topic in ((Image, '/rgb'), (Image, COLOR_TOPIC), (Image, DEPTH_TOPIC), (Clock, '/clock')):
        listener.listen(kind, topic)
    with Player(
        f'path:={path}',
        'wait_for_subscribers:=true',
        'start_s:=0.5',
        'publish_clock:=false',
        f"topics:=['{COLOR_TOPIC}']",
        'rate:=10.0',
        remap=[f'{COLOR_TOPIC}:=/rgb'],
    ) as player:
        code, log = player.finish()
    assert code == 0 and '10 on /rgb' in log
    listener.receives(10, '/rgb')
    assert listener.stamps('/rgb') == recorded()[10:]
    assert not listener.received[COLOR_TOPIC] and not listener.received[DEPTH_TOPIC] and not listener.received['/clock']


def test_a_loop_goes_back_in_time_and_a_signal_ends_it(listener, recording):
    listener.listen(CameraInfo, INFO_TOPIC)
    with Player(f'path:={recording}', 'wait_for_subscribers:=true', 'loop:=true', 'rate:=20.0') as player:
        listener.receives(3 * COUNT, INFO_TOPIC)
        player.process.send_signal(signal.SIGINT)
        code, _ = player.finish()
    assert code == 0
    assert listener.stamps(INFO_TOPIC)[: 3 * COUNT] == recorded() * 3


def test_restamped_messages_never_go_back_and_pairs_stay_pairs(listener, recording):
    for kind, topic in ((Image, COLOR_TOPIC), (Image, DEPTH_TOPIC)):
        listener.listen(kind, topic)
    before = listener.node.get_clock().now().nanoseconds
    options = ('wait_for_subscribers:=true', 'loop:=true', 'rate:=20.0', 'restamp:=true')
    with Player(f'path:={recording}', *options) as player:
        listener.receives(2 * COUNT, COLOR_TOPIC, DEPTH_TOPIC)
        player.process.terminate()
        assert player.finish()[0] == 0
    stamps = listener.stamps(COLOR_TOPIC)[: 2 * COUNT]
    assert stamps == listener.stamps(DEPTH_TOPIC)[: 2 * COUNT]
    assert stamps == sorted(set(stamps)) and stamps[0] > before


@pytest.fixture
def play(ros, recording, monkeypatch):
    """Play the recording in this process; the node and the arguments of its timelines."""
    timelines, inner = [], replay_node.Timeline

    def recorded(*args):
        timelines.append(args)
        return inner(*args)

    monkeypatch.setattr(replay_node, 'Timeline', recorded)

    def start(path=recording, **parameters):
        given = [Parameter(name, value=value) for name, value in {'path': str(path), **parameters}.items()]
        node = ReplayNode(context=ros.context, parameter_overrides=given)
        ros.nodes.append(node)
        assert node.play(lambda: False) == 0
        return node, timelines

    return start


def test_rate_start_and_restamp_arrive_at_the_timeline(play):
    before = time.monotonic()
    node, ((first_ns, rate, started, epoch_ns),) = play(rate=50.0, start_s=0.5)
    assert (first_ns, rate, epoch_ns) == (START + 500_000_000, 50.0, None) and started >= before
    assert node.sent[COLOR_TOPIC] == COUNT // 2
    wall = time.time_ns()
    _, timelines = play(rate=100.0, restamp=True)
    assert timelines[-1][:2] == (START, 100.0) and wall <= timelines[-1][3] <= time.time_ns()


@pytest.mark.parametrize(
    'asked, recorded, expected',
    [
        ('auto', None, 'reliable'),
        ('auto', True, 'reliable'),
        ('auto', False, 'best_effort'),
        ('reliable', False, 'reliable'),
        ('best_effort', True, 'best_effort'),
    ],
)
def test_publishers_offer_the_reliability_asked_for_or_recorded(play, monkeypatch, asked, recorded, expected):
    class Recorded(BagReader):
        def __init__(self, path):
            super().__init__(path)
            self.topics = {n: dataclasses.replace(t, reliable=recorded, latched=False) for n, t in self.topics.items()}

    monkeypatch.setattr(replay_node, 'BagReader', Recorded)
    node, _ = play(rate=100.0, reliability=asked)
    (offered,) = (info.qos_profile for info in node.get_publishers_info_by_topic(COLOR_TOPIC))
    assert (offered.reliability, offered.durability) == (RELIABILITIES[expected], DurabilityPolicy.VOLATILE)


@pytest.mark.parametrize(
    'parameters, part',
    [
        ({'path': '{folder}/missing'}, 'there is no bag'),
        ({'path': '{bag}', 'rate': 1000.0}, 'rate is 1000.0; give 0.1..100'),
        ({'path': '{bag}', 'rate': 2}, 'write 2.0'),
        ({'path': '{bag}', 'reliability': 'perfect'}, 'give auto, reliable or best_effort'),
        ({'path': '{bag}', 'topics': ['/camera/rgb']}, 'no topic /camera/rgb'),
        ({}, 'parameter path is empty'),
    ],
    ids=['no bag', 'rate', 'whole number', 'reliability', 'no topic', 'no path'],
)
def test_wrong_parameters_are_refused(ros, recording, tmp_path, parameters, part):
    given = [
        Parameter(name, value=value.format(folder=tmp_path, bag=recording) if isinstance(value, str) else value)
        for name, value in parameters.items()
    ]
    with pytest.raises(InputError) as refused:
        ReplayNode(context=ros.context, parameter_overrides=given)
    assert part in str(refused.value)


def test_a_start_after_the_end_is_one_sentence_and_exit_code_1(recording):
    with Player(f'path:={recording}', 'start_s:=50.0') as player:
        code, log = player.finish()
    assert code == 1
    assert log.count('start_s is 50') == 1


def test_a_cut_bag_is_played_as_far_as_it_can_be_read(tmp_path):
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


def test_topics_of_unknown_types_are_named_and_not_played(tmp_path):
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
    with Player(f'path:={REAL}', 'wait_for_subscribers:=true', 'rate:=4.0') as player:
        code, log = player.finish()
    assert code == 0, log
    listener.receives(150, *listener.received)
    assert len(set(listener.stamps(color))) == 150
