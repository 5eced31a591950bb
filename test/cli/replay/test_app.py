"""m3et replay: a recording on its topics, and every option at the nodes that it starts."""

import signal
import threading
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from sensor_msgs.msg import Image

from m3et_ros.cli.ask.client import client
from m3et_ros.cli.main import main
from m3et_ros.cli.output import Refused
from m3et_ros.cli.record.episode import START_NS
from m3et_ros.cli.replay.app import PlayOptions, played_images, read_contents, transport_parameters
from m3et_ros.cli.robot import MODEL_NODE, NodeOptions, model_arguments
from m3et_ros.cli.ros_names import camera_remaps
from m3et_ros.data.bags.reader import BagReader, decode
from m3et_ros.data.errors import InputError
from m3et_ros.data.images.messages import rgb_from_msg
from m3et_ros.ros.convert import stamp_ns

COLOUR = '/camera/camera/color/image_raw'
DEPTH = '/camera/camera/aligned_depth_to_color/image_raw'


@pytest.fixture(scope='module')
def bag(tmp_path_factory):
    """A recording of four frames, in a tuple."""
    pytest.importorskip('mujoco')
    path = tmp_path_factory.mktemp('replay') / 'bag'
    assert main(['record', str(path), '--width', '64', '--height', '48', '--frames', '4']) == 0
    return (path,)


def test_replay_publishes_what_was_recorded_until_it_is_stopped(bag, m3et_started):
    received = {}
    with client(threading.Event()) as node:
        node.create_subscription(Image, '/renamed', lambda m: received.setdefault(stamp_ns(m.header.stamp), m), 10)
        with m3et_started(
            'replay', bag[0], '--loop', '--rate', '0.5', '--remap', f'{COLOUR}:=/renamed', '--topics', COLOUR
        ) as replay:
            assert node.wait(lambda: len(received) == 4, 30), replay.stderr.read() if replay.poll() else received.keys()
            replay.send_signal(signal.SIGINT)
            assert replay.wait(60) == 0
    assert sorted(received) == [START_NS + i * 10**8 for i in range(4)]
    with BagReader(bag[0]) as reader:
        for recorded in reader.messages([COLOUR]):
            assert np.array_equal(rgb_from_msg(received[recorded.stamp_ns]), rgb_from_msg(decode(recorded)))


def test_a_recording_that_cannot_be_played_is_refused(tmp_path, bag, capsys):
    assert main(['replay', str(tmp_path / 'none')]) == 1
    assert 'there is no bag' in capsys.readouterr().err
    assert main(['replay', str(bag[0]), '--robot', '--camera', '/other']) == 1
    assert 'no colour images on /other/color/image_raw' in capsys.readouterr().err


def test_the_node_gets_the_transports_of_the_images():
    def facts(*topics):
        return {'bag': 'b', 'topics': dict.fromkeys(topics)}

    assert transport_parameters(facts('/c/color/image_raw'), 'c', ()) == [
        'rgb_transport:="raw"',
        'depth_transport:="none"',
    ]
    depth = '/c/aligned_depth_to_color/image_raw/compressedDepth'
    assert transport_parameters(facts('/x', depth), 'c', ['/x:=/c/color/image_raw/compressed']) == [
        'rgb_transport:="compressed"',
        'depth_transport:="compressedDepth"',
    ]
    picture = '/c/aligned_depth_to_color/image_raw/compressed'
    assert transport_parameters(facts('/c/color/image_raw', picture), 'c', ())[1] == 'depth_transport:="compressed"'
    with pytest.raises(Refused, match='it has /x'):
        transport_parameters(facts('/x'), 'c', ())


PLAY = (
    *('--rate', '2.5'),
    *('--start', '0.1'),
    *('--topics', COLOUR),
    *('--topics', DEPTH),
    *('--remap', f'{COLOUR}:=/head/color/image_raw'),
    *('--remap', f'{DEPTH}:=/head/aligned_depth_to_color/image_raw'),
)


def play_arguments(bag, *, wait, loop='false', restamp='false'):
    """The arguments of the replay node for the options PLAY."""
    return [
        '--ros-args',
        *('-p', f'path:="{bag}"'),
        *('-p', 'rate:=2.5'),
        *('-p', f'loop:={loop}'),
        *('-p', 'start_s:=0.1'),
        *('-p', f'restamp:={restamp}'),
        *('-p', f'wait_for_subscribers:={wait}'),
        *('-p', f'topics:=["{COLOUR}", "{DEPTH}"]'),
        *('-r', f'{COLOUR}:=/head/color/image_raw'),
        *('-r', f'{DEPTH}:=/head/aligned_depth_to_color/image_raw'),
    ]


def test_every_option_arrives_at_the_replay_node(bag, border, reach):
    started = border('m3et_ros.cli.replay.app.Child', last=True)
    reach('replay', bag[0], *PLAY, '--loop', '--restamp')
    assert started == [
        {
            'name': 'replay',
            'module': 'm3et_ros.ros.replay_node',
            'arguments': play_arguments(bag[0], wait='false', loop='true', restamp='true'),
        }
    ]


NODE = ('--namespace', 'left', '--camera', 'head', '--model', 'tiny', '--device', 'cuda:1')
TRANSPORTS = ['rgb_transport:="raw"', 'depth_transport:="raw"']


def test_every_option_arrives_at_the_robot(bag, border, reach, tmp_path):
    played = border('m3et_ros.cli.replay.app._play', last=True)
    file = tmp_path / 'robot.yaml'
    file.write_text('')
    reach('replay', bag[0], *PLAY, '--robot', *NODE, '--params-file', file)
    assert played[0]['player'] == play_arguments(bag[0], wait='true')
    assert played[0]['robot_arguments'] == [
        '--ros-args',
        *('-r', '__ns:=/left'),
        *('--params-file', str(file)),
        *('-p', 'autostart:=true'),
        *('-p', 'model:="tiny"'),
        *('-p', 'device:="cuda:1"'),
        *('-p', 'use_sim_time:=true'),
        *(word for one in TRANSPORTS for word in ('-p', one)),
        *(word for rule in camera_remaps('/head') for word in ('-r', rule)),
    ]
    reach('replay', bag[0], *PLAY, '--robot', '--restamp', *NODE)
    assert 'use_sim_time:=true' not in played[1]['robot_arguments']


def test_every_option_arrives_at_the_live_evaluation(bag, border, every_option, tmp_path):
    scored = border('m3et_ros.cli.replay.app.evaluate_live')
    questions = tmp_path / 'questions.json'
    questions.write_text(
        '[{"question": "What?", "answer": "a", "category": "c", "question_id": "1", "episode_history": "bag"},'
        ' {"question": "Who?", "answer": "b", "category": "c", "question_id": "2", "episode_history": "other"}]'
    )
    line = ['replay', bag[0], *PLAY, *NODE, '--evaluate', '--questions', questions, '--out', tmp_path / 'out']
    line += ['--rates', '2', '--rates', '0.5', '--json']
    assert main([*map(str, line)]) == 0
    live = scored[0]['live']
    assert scored[0]['as_json'] and (live.bag, live.out, live.namespace) == (bag[0], tmp_path / 'out', '/left')
    assert [question.question_id for question in live.questions] == ['1']
    # From --start 0.1 on, three of the four images are played.
    assert (live.images, live.rates) == (3, [2.0, 0.5]) and (tmp_path / 'out').is_dir()
    assert live.player == play_arguments(bag[0], wait='true')
    node = NodeOptions(namespace='/left', camera='/head', model='tiny', device='cuda:1')
    assert live.robot == model_arguments(node, sim_time=True, parameters=TRANSPORTS)
    assert main([*map(str, line[: line.index('--rates')])]) == 0
    assert scored[1]['live'].rates == [2.5]  # that of --rate
    every_option(line, ['--loop', '--restamp', '--robot', '--params-file'])


@pytest.mark.parametrize(('start', 'images'), [(0.0, 4), (0.05, 3), (0.1, 3), (0.3, 1)])
def test_images_from_the_start_on_are_counted(bag, start, images):
    assert played_images(bag[0], read_contents(bag[0]), PlayOptions(start=start), '/camera/camera') == images


def test_the_images_of_the_camera_of_the_robot_are_counted(bag):
    contents = read_contents(bag[0])
    play = PlayOptions(remaps=[f'{COLOUR}:=/head/color/image_raw', '/camera/camera/color/camera_info:=/x'])
    assert played_images(bag[0], contents, play, 'head') == 4
    with pytest.raises(Refused, match=f'leaves out the colour images on {COLOUR}; give --topics {COLOUR}'):
        played_images(bag[0], contents, PlayOptions(topics=[DEPTH]), '/camera/camera')
    with pytest.raises(InputError, match='start_s is 9'):
        played_images(bag[0], contents, PlayOptions(start=9), '/camera/camera')


def test_the_first_of_two_rules_for_a_topic_counts_as_it_does_in_ros():
    contents = {'bag': 'b', 'topics': {'/x': None}}
    rules = ['/x:=/c/color/image_raw', '/x:=/elsewhere']
    assert transport_parameters(contents, 'c', rules)[0] == 'rgb_transport:="raw"'


def test_the_end_of_the_recording_is_the_end_of_the_replay(bag, m3et_json):
    document = m3et_json('replay', bag[0], '--rate', '4')
    assert document['exit_code'] == 0 and document['played_s'] > 0.05
    assert {name: document[name] for name in ('bag', 'seconds', 'topics')} == read_contents(bag[0])


def test_a_robot_that_dies_ends_the_replay_with_an_error(bag, m3et_started):
    def robots(process):
        return [p for p in psutil.Process(process.pid).children(recursive=True) if MODEL_NODE in p.cmdline()]

    with m3et_started('replay', bag[0], '--robot', '--model', 'tiny', '--loop') as replay:
        deadline = time.monotonic() + 60
        while not robots(replay) and replay.poll() is None and time.monotonic() < deadline:
            time.sleep(0.1)
        robots(replay)[0].kill()
        assert replay.wait(60) == 128 + signal.SIGKILL
        assert 'model ended by itself with exit code 137' in replay.stderr.read()
    assert Path(bag[0]).exists()
