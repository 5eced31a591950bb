"""Fixtures of every test with a node: one context, one executor thread, a fixed order of tear-down."""

import gc
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.msg import Log
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from m3et_ros.ros import process
from m3et_ros.ros.convert import stamp_msg, to_image_msg
from m3et_ros.ros.model_node import ModelNode
from m3et_ros.srv import AskQuestion


@pytest.fixture(scope='module', autouse=True)
def collector_of_the_tests():
    """Let a node that starts in this process collect only what the file has made, not visit the whole suite.

    It must collect: the nodes of earlier tests leave the graph with their last reference.
    """
    gc.collect()
    gc.freeze()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(process, 'freeze_garbage_collector', gc.collect)
        yield
    gc.unfreeze()


class Ros:
    """A context with an executor thread; its nodes discover each other at once.

    Discovery across processes takes 0.1 s mostly and 3 s at times: wait for it with `until`.
    """

    def __init__(self):
        self.context = rclpy.Context()
        rclpy.init(context=self.context, args=[])
        self.executor = SingleThreadedExecutor(context=self.context)
        self.nodes = []
        self.errors = []
        self.stopping = False
        self.thread = threading.Thread(target=self._spin, daemon=True)
        self.thread.start()

    def _spin(self):
        while not self.stopping:
            try:
                self.executor.spin_once(timeout_sec=0.05)
            except ExternalShutdownException:
                return
            except Exception as error:
                self.errors.append(error)

    def node(self, name, **options):
        """Create a node and add it to the executor."""
        return self.add(rclpy.create_node(name, context=self.context, **options))

    def add(self, node):
        """Add a node created with context=ros.context to the executor; it is destroyed at the end."""
        self.nodes.append(node)
        self.executor.add_node(node)
        return node

    def read_log(self, callback):
        """Hand every message on /rosout to a callback, also those that were written before this reader was found.

        A node of an earlier test that the garbage collector finds later would take the log of its name with it.
        """
        gc.collect()
        kept = QoSProfile(depth=100, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self.node('log_reader').create_subscription(Log, '/rosout', callback, kept)

    def until(self, condition, timeout=120):
        """Wait until condition() is true and return its value; fail after timeout seconds."""
        end = time.monotonic() + timeout
        while not (value := condition()):
            assert time.monotonic() < end, 'the condition stayed false'
            time.sleep(0.01)
        return value

    def do(self, action, *arguments):
        """Call action(*arguments) in the executor's thread; what it waits for is destroyed only there."""
        task = self.executor.create_task(action, *arguments)
        self.until(task.done)
        return task.result()

    def close(self):
        """Close thread, executor, nodes and context, in this order."""
        self.stopping = True
        self.thread.join(10)
        assert not self.thread.is_alive(), 'a callback hangs'
        self.executor.shutdown(timeout_sec=5)
        for node in self.nodes:
            node.destroy_node()
        rclpy.shutdown(context=self.context)


def running():
    one = Ros()
    yield one
    one.close()
    assert not one.errors, one.errors


@pytest.fixture
def ros():
    """A running Ros; errors raised in callbacks fail the test."""
    yield from running()


@pytest.fixture(scope='module')
def module_ros():
    """A running Ros for all tests of a file."""
    yield from running()


class Robot:
    """A model node in its own process, with the camera, listener and client of a robot."""

    def __init__(self, ros, name='robot', *parameters, model='tiny', autostart=True, **options):
        self.ros, self.name = ros, name
        self.received = {}
        self.node = ros.node(f'{name}_tester')
        values = [f'model:={model}', f'autostart:={str(autostart).lower()}', *parameters]
        self.start(['--ros-args', '-r', f'__ns:=/{name}', *(w for v in values for w in ('-p', v))], **options)
        self.rgb = self.node.create_publisher(Image, f'/{name}/rgb/image_raw', 1)
        self.depth = self.node.create_publisher(Image, f'/{name}/depth/image_raw', 1)
        self.listen(DiagnosticArray, '/diagnostics')
        self.asker = self.node.create_client(AskQuestion, f'/{name}/model/ask')

    def start(self, arguments, command=('-m', 'm3et_ros.ros.model_node')):
        """Start the node with these arguments."""
        self.process = subprocess.Popen(
            [sys.executable, *command, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def listen(self, kind, topic, profile=1):
        """Return a list that gets every message of a topic; relative names are results of the model node."""
        name = topic if topic.startswith('/') else f'/{self.name}/model/{topic}'
        if topic not in self.received:
            self.received[topic] = []
            self.node.create_subscription(kind, name, self.received[topic].append, profile)
        return self.received[topic]

    def ready(self):
        """Wait until the node is active and subscribes to the camera."""
        self.ros.until(
            lambda: (
                self.rgb.get_subscription_count()
                and self.depth.get_subscription_count()
                and self.asker.service_is_ready()
            ),
            60,
        )
        return self

    def diagnosis(self):
        """Return the newest diagnostics of this node as a dictionary."""
        for array in reversed(self.received['/diagnostics']):
            for status in array.status:
                if status.name == f'/{self.name}/model':
                    return {'message': status.message, **{kv.key: kv.value for kv in status.values}}
        return {}

    def count(self, reason):
        """Return how many refusals for this reason the node reports."""
        return int(self.diagnosis().get(f'dropped/{reason}', 0))

    def show(self, stamp, rgb=None, depth=None, frame_id='camera_color_optical_frame'):
        """Publish a colour image, and depth if given, with a stamp in seconds; return the header."""
        header = Header(stamp=stamp_msg(round(stamp * 1e9)), frame_id=frame_id)
        rgb = np.full((48, 64, 3), 90, np.uint8) if rgb is None else rgb
        if depth is not None:
            encoding = '16UC1' if depth.dtype == np.uint16 else '32FC1'
            self.depth.publish(to_image_msg(depth, encoding, header))
        self.rgb.publish(to_image_msg(rgb, 'rgb8', header))
        return header

    def show_until(self, stamp, condition, **images):
        """Show the same frame again and again until the condition holds."""
        self.ros.until(lambda: (self.show(stamp, **images) and self.pause()) or condition(), 60)

    def ask(self, question, **fields):
        """Return the response of the service to a question."""
        return self.ros.until(self.asker.call_async(AskQuestion.Request(question=question, **fields)).result, 60)

    @staticmethod
    def pause(seconds=0.2):
        """Wait a little and return False, for a condition that acts again and again."""
        time.sleep(seconds)
        return False

    def stop(self, signum=signal.SIGTERM):
        """Stop the node; return its exit code and output."""
        if self.process.poll() is None:
            self.process.send_signal(signum)
        try:
            output, _ = self.process.communicate(timeout=120)
        except subprocess.TimeoutExpired:
            self.process.kill()
            output, _ = self.process.communicate()
        return self.process.returncode, output


class RobotHere(Robot):
    """A robot whose model node runs in the process of the tests, where torch is imported already."""

    def start(self, arguments):
        """Create the node with these arguments; it starts on the executor."""
        self.model = self.ros.add(ModelNode(context=self.ros.context, cli_args=arguments))

    def stop(self):
        """Destroy the node."""
        if self.model in self.ros.nodes:
            self.ros.nodes.remove(self.model)
            self.ros.executor.remove_node(self.model)
            self.ros.do(self.model.destroy_node)


def robots_of(ros, kind=Robot):
    robots = []

    def start(*words, **options):
        robots.append(kind(ros, *words, **options))
        return robots[-1]

    yield start
    while robots:
        robots.pop().stop()


@pytest.fixture
def robot(ros):
    """Start model nodes in their own processes and stop them all at the end."""
    yield from robots_of(ros)


@pytest.fixture
def robot_here(ros):
    """Start model nodes in this process and destroy them all at the end."""
    yield from robots_of(ros, RobotHere)
    # The action server of a node leaves the graph with its last reference.
    gc.collect()


@pytest.fixture(scope='module')
def module_robot(module_ros):
    """Start model nodes in their own processes for all tests of a file."""
    yield from robots_of(module_ros)
