import json
import os
import signal
import threading

import numpy as np
import psutil
import pytest
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from m3et_ros.cli.ask.client import client
from m3et_ros.cli.main import main
from m3et_ros.ros.convert import stamp_msg, to_image_msg

PATIENT = ('--timeout', '30')
STAMP = 1_700_000_000_123_456_789


@pytest.fixture(scope='module')
def robot(m3et_started):
    """`m3et robot` on a camera that has shown it one picture."""
    picture = to_image_msg(np.full((48, 64, 3), 90, np.uint8), 'rgb8', Header(stamp=stamp_msg(STAMP), frame_id='eye'))
    seen = []
    with (
        m3et_started('robot', '--namespace', 'left', '--camera', '/cam', '--model', 'tiny') as process,
        client(threading.Event()) as node,
    ):
        node.create_subscription(Image, '/left/model/depth/image', seen.append, 5)
        camera = node.create_publisher(Image, '/cam/color/image_raw', 5)
        node.create_timer(0.2, lambda: camera.publish(picture))
        assert node.wait(lambda: seen or process.poll() is not None, 60) and seen
        yield process


@pytest.mark.parametrize('arguments', [['ask', ''], ['ask', '  ', '--image', 'x.png']])
def test_an_empty_question_is_refused(capsys, arguments):
    assert main(arguments) == 1
    assert 'The question is empty' in capsys.readouterr().err


@pytest.mark.parametrize(
    'arguments', [['--depth', 'x.png'], ['--image', 'x.png', '--stream'], ['--image', 'x.png', '--scope', 'episode']]
)
def test_options_that_do_not_go_together_are_refused(capsys, arguments):
    assert main(['ask', 'What?', *arguments]) == 1
    assert capsys.readouterr().err.count('\n') == 1


def test_without_a_robot_the_command_says_how_to_start_one(capsys):
    assert main(['ask', 'What is in the hand?', '--namespace', '/nobody', '--timeout', '0.3']) == 1
    said = capsys.readouterr().err
    assert 'namespace /nobody' in said and f'domain {os.environ["ROS_DOMAIN_ID"]}' in said and 'm3et robot' in said


def test_a_robot_answers(robot, capsys):
    assert main(['ask', 'What is in the hand?', '--namespace', 'left', '--json', '--top-k', '2', *PATIENT]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer['stamp_ns'] == STAMP and answer['frame_id'] == 'eye' and answer['question'] == 'What is in the hand?'
    assert answer['model_id'] == 'tiny-random-0' and answer['text'] == answer['alternatives'][0]['label']
    assert len(answer['alternatives']) == 2 and 0 < answer['confidence'] <= 1 and answer['age_s'] > 0


def test_an_answer_for_people_says_when_it_means_nothing(robot, capsys):
    assert main(['ask', 'What is in the hand?', '--namespace', 'left', '--scope', 'episode', *PATIENT]) == 0
    shown = capsys.readouterr()
    assert 'confidence' in shown.out and 'no trained weights' in shown.err


def test_an_answer_streams(robot, capsys):
    # Random weights may well write nothing; what follows the line says by whom and about what.
    assert main(['ask', 'What is in the hand?', '--namespace', 'left', '--stream', *PATIENT]) == 0
    _, details = capsys.readouterr().out.split('\n', 1)
    assert 'confidence' in details and 'tiny-random-0' in details


def test_what_the_node_refuses_is_said(robot, capsys):
    assert main(['ask', 'What?', '--namespace', 'left', '--max-age', '1', *PATIENT]) == 1
    assert 'old' in capsys.readouterr().err


def test_another_namespace_is_suggested(robot, capsys):
    assert main(['ask', 'What?', '--namespace', '/right', '--timeout', '3']) == 1
    assert '--namespace /left' in capsys.readouterr().err


def test_a_signal_stops_the_robot_and_its_nodes(robot):
    children = psutil.Process(robot.pid).children(recursive=True)
    assert children
    robot.send_signal(signal.SIGINT)
    assert robot.wait(15) == 0
    assert not [child for child in children if child.is_running() and child.status() != psutil.STATUS_ZOMBIE]


@pytest.mark.parametrize(
    ('arguments', 'words'),
    [
        (['-p', 'top_k:=99999'], 'top_k'),
        (['--params-file', '/none.yaml'], '/none.yaml'),
        (['--camera', 'a b'], '--camera'),
    ],
)
def test_a_robot_that_cannot_start_says_why(m3et, arguments, words):
    result = m3et('robot', '--model', 'tiny', *arguments)
    assert result.returncode not in (0, -signal.SIGTERM)
    assert words in result.stderr and 'Traceback' not in result.stderr
