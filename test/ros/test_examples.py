"""Every program of examples/ beside a real model node, which gets pictures of the simulated kitchen."""

import importlib.util
import json
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from py_trees.common import Status
from std_msgs.msg import Bool, Header

from m3et_ros.data.images.messages import depth_to_mm
from m3et_ros.data.kitchen.sim.camera import Camera
from m3et_ros.data.kitchen.sim.episode import Episode
from m3et_ros.msg import ActionAnticipation, Answer
from m3et_ros.ros.convert import stamp_msg, to_image_msg
from m3et_ros.srv import AskQuestion

EXAMPLES = Path(__file__).resolve().parents[2] / 'examples'
WIDTH, HEIGHT = 160, 120
CUP = 'Is there a cup in view?'


def command(name, *words, namespace='/robot', parameters=()):
    given = [word for one in parameters for word in ('-p', one)]
    return [sys.executable, str(EXAMPLES / name), *words, '--ros-args', '-r', f'__ns:={namespace}', *given]


def result_of(*args):
    return subprocess.run(command(*args), capture_output=True, text=True, timeout=200)


class Program:
    """An example that runs until it is stopped; its lines are collected."""

    def __init__(self, *args, **options):
        self.lines = []
        self.process = subprocess.Popen(command(*args, **options), stdout=subprocess.PIPE, text=True)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        self.lines.extend(iter(self.process.stdout.readline, ''))

    def end(self, signum=signal.SIGINT):
        self.process.send_signal(signum)
        code = self.process.wait(60)
        self._reader.join(60)
        self.process.stdout.close()
        return code


@pytest.fixture
def program():
    programs = []

    def start(*args, **options):
        programs.append(Program(*args, **options))
        return programs[-1]

    yield start
    for one in programs:
        if one.process.poll() is None:
            one.end(signal.SIGKILL)


class Feeder:
    """Shows a robot the same picture again and again."""

    def __init__(self, robot, picture):
        self.robot, self.picture = robot, picture
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        while not self._stopping.wait(0.5):
            self.robot.show(time.time(), *self.picture)

    def stop(self):
        self._stopping.set()
        self._thread.join(60)


@pytest.fixture(scope='module')
def hand():
    """Colour and depth of the first moment of a kitchen: a hand is 0.4 m away."""
    episode = Episode(3, width=WIDTH, height=HEIGHT, fps=2.0, version=1)
    with Camera(episode, backend='raycast', shadows=False) as camera:
        seen = camera.observe(next(iter(episode.run(1))))
    return seen.rgb, depth_to_mm(seen.depth)


@pytest.fixture(scope='module')
def kitchen(module_robot, hand):
    """A robot with the shipped model in front of the hand, and all that it says."""
    robot = module_robot('robot', model='kitchen').ready()
    robot.listen(Answer, 'answer', 10)
    robot.listen(ActionAnticipation, 'anticipation', 10)
    feeder = Feeder(robot, hand)
    robot.ros.until(lambda: robot.received['anticipation'])
    yield robot
    feeder.stop()


def printed(kitchen, **fields):
    """The answers with these fields that were published, as the examples print them."""
    found = [a for a in kitchen.received['answer'] if all(getattr(a, name) == fields[name] for name in fields)]
    return {f'{a.text} ({a.confidence:.0%})' if a.answerable else f'{a.text}: {a.explanation}' for a in found}


def test_a_question_is_answered_refused_or_asked_for(kitchen):
    # On a busy machine the newest image may be too old for a moment.
    done = kitchen.ros.until(lambda: (one := result_of('ask.py', *CUP.split())).returncode == 0 and one)
    kitchen.ros.until(lambda: done.stdout.strip() in printed(kitchen, question=CUP))
    long, none = result_of('ask.py', 'what ' * 300), result_of('ask.py')
    assert (long.returncode, long.stdout) == (1, '') and long.stderr.startswith('The question has ')
    assert none.returncode == 2 and none.stderr.startswith('usage')


def test_actions_are_printed_as_they_are_published(kitchen, program):
    following = program('follow_actions.py', parameters=['least_score:=0.0'])
    kitchen.ros.until(lambda: following.lines)
    now, after = re.fullmatch(r'\d+\.\d{3}  now: (.+)  next: (.+)\n', following.lines[0]).groups()
    messages = kitchen.received['anticipation']
    kitchen.ros.until(lambda: (now, after) in {(m.current_actions[0].label, m.actions[0].label) for m in messages})


@pytest.mark.parametrize(('limit', 'stops'), [('0.6', True), ('0.1', False)], ids=['near', 'beyond the limit'])
def test_a_near_hand_stops_the_robot(kitchen, program, limit, stops):
    said = []
    subscription = kitchen.node.create_subscription(Bool, '/robot/stop', lambda m: said.append(m.data), 10)
    # No word without a result, so that each is about the hand.
    program('stop_for_hands.py', parameters=[f'limit_m:={limit}', 'silent_s:=1000.0'])
    kitchen.ros.until(lambda: len(said) > 2)
    kitchen.ros.do(kitchen.node.destroy_subscription, subscription)
    assert set(said) == {stops}


def test_a_robot_without_results_is_stopped(module_ros, program):
    said = []
    module_ros.node('driver').create_subscription(Bool, '/nobody/stop', lambda m: said.append(m.data), 10)
    program('stop_for_hands.py', namespace='/nobody', parameters=['silent_s:=0.2'])
    module_ros.until(lambda: said)
    assert set(said) == {True}


def test_answers_are_logged_across_restarts_of_node_and_program(robot_here, program, tmp_path):
    path = tmp_path / 'answers.jsonl'
    image = to_image_msg(np.zeros((48, 64, 3), np.uint8), 'rgb8', Header(stamp=stamp_msg(7 * 10**9)))

    def logged():
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def ask_until_logged(one, question):
        one.ros.until(one.asker.service_is_ready)
        request = AskQuestion.Request(question=question, image=image)

        def asked():
            one.asker.call_async(request)
            one.pause(0.5)
            return any(line['question'] == question for line in logged())

        one.ros.until(asked)

    logger = program('log_answers.py', str(path), namespace='/logged')
    first = robot_here('logged')
    ask_until_logged(first, 'one?')
    first.stop()
    second = robot_here('logged')
    ask_until_logged(second, 'two?')
    logger.end(signal.SIGKILL)
    program('log_answers.py', str(path), namespace='/logged')
    ask_until_logged(second, 'three?')
    lines = logged()
    assert sorted({line['question'] for line in lines}) == ['one?', 'three?', 'two?']
    assert (lines[0]['stamp'], lines[0]['scope'], lines[0]['model_id']) == ('7.000000000', 'frame', 'tiny-random-0')


def test_cups_are_counted_in_the_image_and_in_the_episode(kitchen, program):
    counting = program('count_cups.py', parameters=['every_s:=0.5'])
    kitchen.ros.until(lambda: len({line.split(':')[0] for line in counting.lines}) == 2)
    for line in counting.lines[:2]:
        where, _, sentence = line.strip().partition(': ')
        scope, question = {
            'in view': ('frame', 'How many cups are in view?'),
            'so far': ('episode', 'How many cups have you seen?'),
        }[where]
        kitchen.ros.until(lambda: sentence in printed(kitchen, scope=scope, question=question))  # noqa: B023


def behaviour_tree():
    spec = importlib.util.spec_from_file_location('behaviour_tree', EXAMPLES / 'behaviour_tree.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_leaf_succeeds_with_the_expected_answer_alone(kitchen):
    node, leaf = kitchen.ros.node('tree', namespace='/robot'), behaviour_tree().AskRobot

    def ended(*args, **options):
        """Tick a leaf to its end; return its status and the answer."""
        one = leaf(CUP, *args, node, patience_s=100.0, **options)
        kitchen.ros.until(lambda: (one.tick_once() or one.status) != Status.RUNNING)
        return one.status, one.feedback_message.partition(' (')[0]

    def answered(*args, **options):
        # On a busy machine the newest image may be too old for a moment.
        return kitchen.ros.until(lambda: (end := ended(*args, **options))[1] in ('yes', 'no') and end)

    for expected in ('yes', 'no'):
        status, text = answered(expected, least=0.0)
        assert status == (Status.SUCCESS if text == expected else Status.FAILURE)
        assert answered(expected, least=1.0)[0] == Status.FAILURE


@pytest.mark.parametrize(
    ('patience_s', 'status'), [(1e6, Status.RUNNING), (-1.0, Status.FAILURE)], ids=['patient', 'impatient']
)
def test_a_leaf_waits_for_a_robot_as_long_as_it_may(module_ros, patience_s, status):
    node = module_ros.node(f'waiting_{status.value.lower()}', namespace='/nobody')
    one = behaviour_tree().AskRobot(CUP, 'yes', node, patience_s=patience_s)
    one.tick_once()
    assert (one.status, one.feedback_message) == (status, 'no answer yet')


def test_the_tree_decides_by_its_leaves(kitchen):
    done = result_of('behaviour_tree.py')
    first, second = done.stdout.splitlines()
    assert done.returncode == (0 if first.startswith('SUCCESS') and second.startswith('SUCCESS') else 1)
    # The second leaf is not entered if the first one fails.
    entered = re.match(f'(SUCCESS|FAILURE)  {re.escape(CUP)} (.+)', first)
    assert entered and second.startswith('INVALID') == (entered[1] == 'FAILURE')
