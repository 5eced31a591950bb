import signal
import threading

import numpy as np
import pytest
from sensor_msgs.msg import Image

from m3et_ros.cli.ask.client import client
from m3et_ros.cli.main import main
from m3et_ros.cli.output import Refused
from m3et_ros.cli.record.episode import START_NS
from m3et_ros.cli.replay.app import read_contents, transport_parameters
from m3et_ros.data.bags.reader import BagReader, decode
from m3et_ros.data.images.messages import rgb_from_msg
from m3et_ros.ros.convert import stamp_ns

SMALL = ('--width', '64', '--height', '48', '--frames', '4')
COLOUR = '/camera/camera/color/image_raw'


@pytest.fixture(scope='module')
def bag(tmp_path_factory, m3et_json):
    """A recording of four frames and what the command said of it."""
    path = tmp_path_factory.mktemp('record') / 'bag'
    return path, m3et_json('record', path, *SMALL)


def messages(path, topic=None):
    with BagReader(path) as reader:
        return [(m.topic, m.stamp_ns, m.raw) for m in reader.messages([topic] if topic else None)]


def test_a_recording_holds_what_was_asked_for(bag):
    path, said = bag
    assert said['frames'] == 4 and said['complete'] and said['bytes'] > 4 * 64 * 48 * 5
    found = read_contents(path)
    assert {name: topic['messages'] for name, topic in found['topics'].items()} == {
        COLOUR: 4,
        '/camera/camera/aligned_depth_to_color/image_raw': 4,
        '/camera/camera/color/camera_info': 4,
        '/camera/pose': 4,
        '/episode/segmentation': 4,
        '/episode/labels': 1,
    }
    assert found['seconds'] == pytest.approx(0.3)


def test_the_same_seed_writes_the_same_messages(bag, tmp_path, capsys):
    assert main(['record', str(tmp_path / 'again'), *SMALL]) == 0
    assert messages(tmp_path / 'again') == messages(bag[0])
    assert main(['record', str(tmp_path / 'other'), *SMALL, '--seed', '1', '--storage', 'sqlite3', '--compressed']) == 0
    assert list((tmp_path / 'other').glob('*.db3'))
    assert f'{COLOUR}/compressed' in read_contents(tmp_path / 'other')['topics']
    assert 'Play it: m3et replay' in capsys.readouterr().out


def test_a_recording_is_never_overwritten(bag, capsys):
    assert main(['record', str(bag[0]), *SMALL]) == 1
    assert 'exists already' in capsys.readouterr().err


def test_replay_publishes_what_was_recorded_until_it_is_stopped(bag, m3et_started):
    got = {}
    with client(threading.Event()) as node:
        node.create_subscription(Image, '/seen', lambda m: got.setdefault(stamp_ns(m.header.stamp), m), 10)
        with m3et_started(
            'replay', bag[0], '--loop', '--rate', '0.5', '--remap', f'{COLOUR}:=/seen', '--topics', COLOUR
        ) as replay:
            assert node.wait(lambda: len(got) == 4, 30), replay.stderr.read() if replay.poll() else got.keys()
            replay.send_signal(signal.SIGINT)
            assert replay.wait(15) == 0
    assert sorted(got) == [START_NS + i * 10**8 for i in range(4)]
    with BagReader(bag[0]) as reader:
        for recorded in reader.messages([COLOUR]):
            assert np.array_equal(rgb_from_msg(got[recorded.stamp_ns]), rgb_from_msg(decode(recorded)))


def test_what_cannot_be_played_is_said_in_one_sentence(tmp_path, bag, capsys):
    assert main(['replay', str(tmp_path / 'none')]) == 1
    assert 'there is no bag' in capsys.readouterr().err
    assert main(['replay', str(bag[0]), '--robot', '--camera', '/other']) == 1
    assert 'no colour images on /other/color/image_raw' in capsys.readouterr().err


def test_the_node_is_told_how_the_images_come():
    def facts(*topics):
        return {'bag': 'b', 'topics': dict.fromkeys(topics)}

    assert transport_parameters(facts('/c/color/image_raw'), 'c', ()) == ['rgb_transport:="raw"', 'depth_transport:="none"']
    depth = '/c/aligned_depth_to_color/image_raw/compressedDepth'
    assert transport_parameters(facts('/x', depth), 'c', ['/x:=/c/color/image_raw/compressed']) == [
        'rgb_transport:="compressed"',
        'depth_transport:="compressedDepth"',
    ]
    with pytest.raises(Refused, match='it has /x'):
        transport_parameters(facts('/x'), 'c', ())
