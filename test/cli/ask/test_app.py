"""m3et ask: a running robot, a server that records what it is asked, and options that do not go together."""

import json
import os
import signal
import threading
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import numpy as np
import psutil
import pytest
import rclpy
from geometry_msgs.msg import Quaternion, Transform, Vector3
from rclpy.action import ActionServer
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from m3et_ros.action import AskQuestion as AskStreaming
from m3et_ros.cli.ask.app import (
    answer_dict,
    describe_frames,
    describe_place,
    format_probability,
    print_answer,
    untrained_warning,
)
from m3et_ros.cli.ask.client import ask, client, robot_namespaces
from m3et_ros.cli.main import main
from m3et_ros.cli.output import Refused
from m3et_ros.msg import Answer, ScoredLabel
from m3et_ros.ros.convert import place_msg, stamp_msg, to_image_msg
from m3et_ros.runtime.results import Place
from m3et_ros.srv import AskQuestion

PATIENT = ('--timeout', '60')
STAMP = 1_700_000_000_123_456_789


@pytest.fixture(scope='module')
def robot(m3et_started):
    """`m3et robot` on a camera that shows one image."""
    picture = to_image_msg(np.full((48, 64, 3), 90, np.uint8), 'rgb8', Header(stamp=stamp_msg(STAMP), frame_id='eye'))
    received = []
    with (
        m3et_started('robot', '--namespace', 'left', '--camera', '/cam', '--model', 'tiny') as process,
        client(threading.Event()) as node,
    ):
        node.create_subscription(Image, '/left/model/depth/image', received.append, 5)
        camera = node.create_publisher(Image, '/cam/color/image_raw', 5)
        node.create_timer(0.2, lambda: camera.publish(picture))
        assert node.wait(lambda: received or process.poll() is not None, 60) and received
        yield process


@pytest.mark.parametrize('arguments', [['ask', ''], ['ask', '  ', '--image', 'x.png']])
def test_an_empty_question_is_refused(capsys, arguments):
    assert main(arguments) == 1
    assert 'The question is empty' in capsys.readouterr().err


def test_without_a_robot_the_command_says_how_to_start_one(capsys):
    assert main(['ask', 'What is in the hand?', '--namespace', '/nobody', '--timeout', '0.3']) == 1
    printed = capsys.readouterr().err
    assert 'namespace /nobody' in printed and f'domain {os.environ["ROS_DOMAIN_ID"]}' in printed
    assert 'm3et robot --namespace /nobody' in printed


def test_a_robot_answers(robot, capsys):
    assert main(['ask', 'What is in the hand?', '--namespace', 'left', '--json', '--top-k', '2', *PATIENT]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer['stamp_ns'] == STAMP and answer['frame_id'] == 'eye' and answer['question'] == 'What is in the hand?'
    assert answer['model_id'] == 'tiny-random-0' and answer['text'] == answer['alternatives'][0]['label']
    assert len(answer['alternatives']) == 2 and 0 < answer['confidence'] <= 1 and answer['age_s'] > 0


def test_an_answer_for_people_warns_of_random_weights(robot, capsys):
    assert main(['ask', 'What is in the hand?', '--namespace', 'left', '--scope', 'episode', *PATIENT]) == 0
    shown = capsys.readouterr()
    assert 'confidence' in shown.out and 'no trained weights' in shown.err


def test_an_answer_streams(robot, capsys):
    # Random weights may write nothing; the line after the text has the details.
    assert main(['ask', 'What is in the hand?', '--namespace', 'left', '--stream', *PATIENT]) == 0
    _, details = capsys.readouterr().out.split('\n', 1)
    assert 'confidence' in details and 'tiny-random-0' in details


def test_a_question_that_the_node_refuses_ends_with_its_reason(robot, capsys):
    assert main(['ask', 'What?', '--namespace', 'left', '--max-age', '1', *PATIENT]) == 1
    assert 'old' in capsys.readouterr().err


def test_another_namespace_is_suggested(robot):
    with client(threading.Event()) as node:
        assert node.wait(lambda: '/left' in robot_namespaces(node), 60)
        with pytest.raises(Refused, match='so give --namespace /left'):
            ask(node, '/right', AskQuestion.Request(question='What?'), 0.1)


def test_a_signal_stops_the_robot_and_its_nodes(robot):
    children = psutil.Process(robot.pid).children(recursive=True)
    assert children
    robot.send_signal(signal.SIGINT)
    assert robot.wait(60) == 0
    assert not [child for child in children if child.is_running() and child.status() != psutil.STATUS_ZOMBIE]


def test_a_robot_that_cannot_start_says_why(m3et):
    result = m3et('robot', '--model', 'tiny', '-p', 'top_k:=99999')
    assert result.returncode not in (0, -signal.SIGTERM)
    assert 'top_k' in result.stderr and 'Traceback' not in result.stderr


class Recorder:
    """A model node that records every request, and answers each with the same message."""

    def __init__(self):
        self.requests, self.goals = [], []
        self.context = rclpy.Context()
        rclpy.init(context=self.context)
        self.node = rclpy.create_node('model', namespace='/recorder', context=self.context)
        self.node.create_service(AskQuestion, '~/ask', self.on_request)
        self.server = ActionServer(self.node, AskStreaming, '~/ask_streaming', self.on_goal)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)
        self.thread = threading.Thread(target=self.spin)
        self.thread.start()

    def spin(self):
        with suppress(ExternalShutdownException):
            while True:
                self.executor.spin_once(timeout_sec=0.05)

    def on_request(self, request, response):
        self.requests.append(request)
        response.success, response.answer = True, answer_msg()
        return response

    def on_goal(self, goal):
        self.goals.append(goal.request)
        goal.publish_feedback(AskStreaming.Feedback(token='a ', text='a '))
        goal.succeed()
        return AskStreaming.Result(success=True, answer=answer_msg())

    def close(self):
        rclpy.shutdown(context=self.context)
        self.thread.join(10)
        self.executor.shutdown(timeout_sec=1)
        self.server.destroy()
        self.node.destroy_node()


CUP = Place('cup', 0.5, (3.5, 2.0), (1, 2, 3, 4), (0.5, -0.25, 1.5), (0.25, 0.125, 0.0625), 1.75, 0.75)


def answer_msg():
    return Answer(
        header=Header(stamp=stamp_msg(STAMP), frame_id='optical'),
        question='Where?',
        text='a cup',
        confidence=0.25,
        alternatives=[ScoredLabel(id=7, label='a cup', score=0.25), ScoredLabel(id=9, label='a pan', score=0.125)],
        answerable=True,
        reason='unsure',
        explanation='Why.',
        suggestions=['Where is the cup?'],
        read_as='Where is it?',
        scope='episode',
        frames_used=3,
        span_start=stamp_msg(STAMP - 5),
        places=[place_msg(CUP), place_msg(Place('pan', 0.5, (1, 2), (0, 0, 3, 4)))],
        model_id='model@1',
        latency_s=0.5,
        age_s=1.5,
    )


ANSWER = {
    'question': 'Where?',
    'text': 'a cup',
    'confidence': 0.25,
    'alternatives': [{'id': 7, 'label': 'a cup', 'score': 0.25}, {'id': 9, 'label': 'a pan', 'score': 0.125}],
    'answerable': True,
    'reason': 'unsure',
    'explanation': 'Why.',
    'suggestions': ['Where is the cup?'],
    'read_as': 'Where is it?',
    'scope': 'episode',
    'frames_used': 3,
    'stamp_ns': STAMP,
    'span_start_ns': STAMP - 5,
    'frame_id': 'optical',
    'places_frame_id': 'optical',
    'places': [
        {
            'label': 'cup',
            'confidence': 0.5,
            'pixel': [3.5, 2.0],
            'box': [1, 2, 3, 4],
            'position_m': [0.5, -0.25, 1.5],
            'size_m': [0.25, 0.125, 0.0625],
            'distance_m': 1.75,
            'measured': 0.75,
        },
        {
            'label': 'pan',
            'confidence': 0.5,
            'pixel': [1.0, 2.0],
            'box': [0, 0, 3, 4],
            'position_m': None,
            'size_m': None,
            'distance_m': None,
            'measured': None,
        },
    ],
    'model_id': 'model@1',
    'latency_s': 0.5,
    'age_s': 1.5,
}


@pytest.fixture(scope='module')
def recorder():
    server = Recorder()
    yield server
    server.close()


QUESTION = ('ask', 'Where is it?', '--namespace', 'recorder')
FIELDS = ('--scope', 'episode', '--top-k', '3', '--max-age', '2.5')


def test_every_field_of_the_question_arrives_and_every_field_of_the_answer_comes_back(recorder, capsys, every_option):
    assert main([*QUESTION, *FIELDS, '--json', *PATIENT]) == 0
    (request,) = recorder.requests
    assert request == AskQuestion.Request(question='Where is it?', scope='episode', top_k=3, max_age_s=2.5)
    assert json.loads(capsys.readouterr().out) == {'schema': 1} | ANSWER
    assert main([*QUESTION, *FIELDS, '--stream', *PATIENT]) == 0
    (goal,) = recorder.goals
    assert goal == AskStreaming.Goal(question='Where is it?', scope='episode', top_k=3, max_age_s=2.5)
    printed = capsys.readouterr().out.splitlines()
    assert printed[:2] == ['a cup', '  read as: Where is it?'] and printed[4].startswith(
        '  confidence 0.25, 3 frames of the episode, image 1.50 s old'
    )
    assert main([*QUESTION, '--stream', '--json', *PATIENT]) == 0
    assert json.loads(capsys.readouterr().out) == {'schema': 1} | ANSWER  # with no parts of the text before it
    every_option([*QUESTION, *FIELDS, '--frame', 'map', '--json', '--stream', *PATIENT, *IMAGE])


def test_places_are_given_in_the_frame_that_is_asked_for(recorder, capsys, border):
    moved = Transform(translation=Vector3(x=1.0, y=2.0, z=3.0), rotation=Quaternion(w=1.0))
    calls = border('m3et_ros.cli.ask.transform.transform_to', moved)
    assert main([*QUESTION, '--frame', 'map', '--json', '--timeout', '50']) == 0
    answer = json.loads(capsys.readouterr().out)
    assert {name: calls[0][name] for name in ('target', 'source', 'stamp_ns', 'timeout_s')} == {
        'target': 'map',
        'source': 'optical',
        'stamp_ns': STAMP,
        'timeout_s': 50.0,
    }
    assert (answer['frame_id'], answer['places_frame_id']) == ('optical', 'map')
    cup, pan = answer['places']
    assert cup['position_m'] == [1.5, 1.75, 4.5] and cup['size_m'] is None and cup['distance_m'] == 1.75
    assert pan['position_m'] is None
    assert main([*QUESTION, '--frame', 'map', *PATIENT]) == 0
    assert 'x 1.50 y 1.75 z 4.50 m in map' in capsys.readouterr().out


def test_the_timeout_is_that_of_the_option(border):
    asked = border('m3et_ros.cli.ask.client.ask', answer_msg())
    streamed = border('m3et_ros.cli.ask.client.ask_streaming', answer_msg())
    assert main([*QUESTION, '--timeout', '8.5']) == main([*QUESTION, '--stream', '--timeout', '7.5']) == 0
    assert (asked[0]['timeout_s'], streamed[0]['timeout_s']) == (8.5, 7.5)


IMAGE = (
    *('--image', 'a.png'),
    *('--depth', 'b.npy'),
    *('--intrinsics', '50,60,31.5,23.5'),
    *('--model', 'tiny'),
    *('--device', 'cuda:1'),
    *('--answerer', 'emma'),
    *('--answerer-checkpoint', 'runs/emma'),
)


def test_every_option_about_an_image_arrives(border, capsys):
    read = border('m3et_ros.cli.ask.picture.read_frame', 'frame')
    asked = border('m3et_ros.cli.ask.picture.ask_picture', ANSWER)
    assert main(['ask', 'Where?', *IMAGE, '--top-k', '3', '--json']) == 0
    assert asked == [
        {
            'question': 'Where?',
            'frame': 'frame',
            'model': 'tiny',
            'device': 'cuda:1',
            'top_k': 3,
            'answerer': 'emma',
            'checkpoint': Path('runs/emma'),
            'write': None,
        }
    ]
    assert json.loads(capsys.readouterr().out) == {'schema': 1} | ANSWER
    assert read == [{'image': Path('a.png'), 'depth': Path('b.npy'), 'intrinsics': '50,60,31.5,23.5'}]
    assert main(['ask', 'Where?', '--image', 'a.png']) == 0
    assert asked[1]['top_k'] == 5 and asked[1]['answerer'] == 'm3et' and asked[1]['checkpoint'] is None
    assert main(['ask', 'Where?', *IMAGE, '--stream']) == 0
    capsys.readouterr()
    asked[2]['write']('a part')
    assert capsys.readouterr().out == 'a part'
    assert main(['ask', 'Where?', *IMAGE, '--stream', '--json']) == 0
    assert asked[3]['write'] is None


def test_an_answer_is_printed_for_people(capsys):
    print_answer(answer_dict(answer_msg()))
    assert capsys.readouterr().out == (
        'a cup\n'
        '  read as: Where is it?\n'
        '  cup at pixel 4 2, 1.75 m away: x 0.50 y -0.25 z 1.50 m in optical\n'
        '  pan at pixel 1 2; there is no depth, so its distance is unknown\n'
        '  confidence 0.25, 3 frames of the episode, image 1.50 s old, took 500 ms, model model@1\n'
        '  or: a pan 0.12\n'
    )
    bare = {'text': '', 'age_s': None, 'alternatives': [], 'frames_used': 1, 'read_as': 'Where?', 'places': []}
    print_answer(ANSWER | bare)
    assert capsys.readouterr().out == '(no words)\n  confidence 0.25, one frame, took 500 ms, model model@1\n'
    print_answer(ANSWER, with_text=False)
    assert capsys.readouterr().out.startswith('  read as')


def test_a_refusal_says_why_and_what_could_be_asked(capsys):
    print_answer(ANSWER | {'text': 'I cannot tell', 'confidence': 0.0, 'answerable': False, 'places': []})
    assert capsys.readouterr().out.splitlines() == [
        'I cannot tell',
        '  Why.',
        '  Did you mean: Where is the cup?',
        '  3 frames of the episode, image 1.50 s old, took 500 ms, model model@1',
        '  guesses: a cup 0.25, a pan 0.12',
    ]
    print_answer(ANSWER | {'answerable': False, 'suggestions': []})
    assert 'Did you mean' not in capsys.readouterr().out


@pytest.mark.parametrize(
    ('unknown', 'words'),
    [
        ({}, 'cup at pixel 4 2, 1.75 m away: x 0.50 y -0.25 z 1.50 m in lens'),
        ({'measured': 0.25}, 'cup at pixel 4 2, by filled depth, 1.75 m away: x 0.50 y -0.25 z 1.50 m in lens'),
        (
            {'position_m': None, 'size_m': None},
            'cup at pixel 4 2, depth 1.75 m; without intrinsics of the camera it has no point in space',
        ),
        ({'distance_m': None}, 'cup at pixel 4 2; there is no depth, so its distance is unknown'),
    ],
    ids=['all', 'filled', 'no intrinsics', 'no depth'],
)
def test_a_place_is_described_with_what_is_missing(unknown, words):
    assert describe_place(asdict(CUP) | unknown, 'lens') == words


def test_a_place_of_a_picture_has_no_frame():
    assert describe_place(asdict(CUP), '').endswith('z 1.50 m')


def test_small_probabilities_and_counts_of_frames():
    assert [format_probability(value) for value in (0.00499, 0.005, 1.0)] == ['<0.01', '0.01', '1.00']
    assert describe_frames({'frames_used': 0}) == '0 frames of the episode'
    assert untrained_warning('tiny-random-0').startswith('tiny has no trained weights yet: this is tiny-random-0,')


@pytest.mark.parametrize(
    ('options', 'sentence'),
    [
        (['--answerer', 'emma'], '--answerer only with --image'),
        (['--answerer-checkpoint', 'x'], '--answerer only with --image'),
        (['--depth', 'x.png'], '--depth needs the image'),
        (['--intrinsics', '1,1,0,0'], '--intrinsics only with --image'),
        (['--image', 'x.png', '--answerer', 'emma', '--scope', 'episode'], 'An image has no episode'),
        (['--image', 'x.png', '--stream'], 'm3et chooses whole answers'),
        (['--namespace', 'a b'], '--namespace is'),
    ],
)
def test_options_without_a_meaning_are_refused(capsys, options, sentence):
    assert main(['ask', 'What?', *options]) == 1
    assert sentence in capsys.readouterr().err
