"""Several robots in one process of its own: real DDS, real messages, one model."""

import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rclpy.parameter import Parameter
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from m3et_ros.data.errors import InputError
from m3et_ros.msg import ActionAnticipation
from m3et_ros.ros import fleet_node
from m3et_ros.ros.convert import stamp_msg, to_image_msg
from m3et_ros.ros.fleet_node import namespaces
from m3et_ros.srv import AskQuestion


class Fleet:
    """The process, and cameras, listeners and clients for its robots."""

    def __init__(self, ros, *parameters):
        self.ros, self.node = ros, ros.node('around')
        words = ['autostart:=true', 'model:=tiny', *parameters]
        self.process = subprocess.Popen(
            [sys.executable, '-m', 'm3et_ros.ros.fleet_node', '--ros-args', *(w for p in words for w in ('-p', p))],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.cameras, self.served, self.askers = {}, {}, {}

    def robot(self, name):
        """Give a robot a camera, a listener and a client, and wait until they are connected."""
        self.cameras[name] = self.node.create_publisher(Image, f'/{name}/rgb/image_raw', 1)
        self.served[name] = []
        self.node.create_subscription(ActionAnticipation, f'/{name}/model/anticipation', self.served[name].append, 1)
        self.askers[name] = self.node.create_client(AskQuestion, f'/{name}/model/ask')
        self.ros.until(lambda: self.cameras[name].get_subscription_count() and self.askers[name].service_is_ready(), 60)

    def show(self, name, seconds):
        """Show a frame again and again until the robot has served it."""
        header = Header(stamp=stamp_msg(seconds * 10**9), frame_id=name)
        image = to_image_msg(np.full((48, 64, 3), 90, np.uint8), 'rgb8', header)

        def shown():
            self.cameras[name].publish(image)
            time.sleep(0.1)
            return any(message.header.stamp.sec == seconds for message in self.served[name])

        self.ros.until(shown)

    def ask(self, name):
        """Response of a robot to a question about its episode."""
        request = AskQuestion.Request(question='what was there?', scope='episode')
        return self.ros.until(self.askers[name].call_async(request).result, 60)

    def stop(self):
        """End the process; its exit code and output."""
        self.process.send_signal(signal.SIGINT)
        output, _ = self.process.communicate(timeout=120)
        return self.process.returncode, output


@pytest.fixture
def fleet(ros):
    started = []

    def start(*parameters):
        started.append(Fleet(ros, *parameters))
        return started[-1]

    yield start
    for one in started:
        if one.process.poll() is None:
            one.process.kill()
            one.process.communicate()


def test_each_robot_has_its_own_frames_and_memory_and_one_may_be_attacked_or_deactivated(fleet, ros):
    both = fleet('robots:=left,arm/right', 'batch_window_s:=0.02')
    for name in ('left', 'arm/right'):
        both.robot(name)
    for second in (100, 101):
        both.show('left', second)
    both.show('arm/right', 200)
    assert {message.header.frame_id for message in both.served['left']} == {'left'}
    assert {message.header.stamp.sec for message in both.served['arm/right']} == {200}
    left, right = both.ask('left').answer, both.ask('arm/right').answer
    assert (left.span_start.sec, left.header.stamp.sec) == (100, 101) and left.frames_used >= 2
    assert (right.span_start.sec, right.header.stamp.sec) == (200, 200)

    client = both.node.create_client(ChangeState, '/left/model/change_state')
    ros.until(client.service_is_ready)
    hostile = ChangeState.Request(transition=Transition(id=99))
    assert ros.until(client.call_async(hostile).result).success is False
    assert all(both.ask(name).success for name in ('left', 'arm/right'))
    rest = ChangeState.Request(transition=Transition(id=Transition.TRANSITION_DEACTIVATE))
    assert ros.until(client.call_async(rest).result).success
    both.show('arm/right', 201)
    assert not both.ask('left').success and both.ask('arm/right').success
    code, output = both.stop()
    assert code == 0 and 'Traceback' not in output, output
    assert (
        '2 robots share one process and its models; frames wait up to 0.02 s for each other.' in output
        and 'does not exist' not in output
    )


def test_a_fleet_with_wrong_names_is_refused_in_a_sentence(fleet):
    process = fleet('robots:=left,left').process
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 1 and 'has /left twice' in output and 'Traceback' not in output, output


def test_names_become_namespaces():
    assert namespaces(' left, /arm/right/') == ['/left', '/arm/right']
    for names, words in (('1st', 'not a namespace'), ('a b', 'not a namespace'), ('', 'robots is empty')):
        with pytest.raises(InputError, match=words):
            namespaces(names)


def test_every_parameter_arrives_at_the_shared_models_and_the_robots(ros, monkeypatch):
    calls = []

    def record(name):
        inner = getattr(fleet_node, name)

        def recorded(**options):
            calls.append((name, options))
            return inner(**options)

        monkeypatch.setattr(fleet_node, name, recorded)

    record('SharedModels')
    record('ModelNode')
    values = {'robots': 'left,arm/right', 'batch_window_s': 0.5, 'batch_most': 3}
    assert set(values) == {spec.name for spec in fleet_node.PARAMETERS}
    given = [Parameter(name, value=value) for name, value in values.items()]
    fleet = ros.add(fleet_node.Fleet(context=ros.context, parameter_overrides=given))
    (_, shared), *robots = calls
    assert shared == {'window_s': 0.5, 'most': 3}
    assert [options.pop('namespace') for _, options in robots] == ['/left', '/arm/right']
    assert robots[0][1]['models'] is robots[1][1]['models']
    assert all(options['parameters_beside'] == fleet_node.PARAMETERS for _, options in robots)
    names = [robot.get_fully_qualified_name() for robot in fleet.robots]
    assert names == ['/left/model', '/arm/right/model']
