"""The client against slow servers; test_app.py asks a running model node."""

import threading
import time

import pytest
import rclpy
from lifecycle_msgs.srv import GetState
from rclpy.action import ActionClient, ActionServer, CancelResponse, GoalResponse
from rclpy.executors import MultiThreadedExecutor
from rclpy.task import Future

from m3et_ros.action import AskQuestion as AskStreaming
from m3et_ros.cli.ask.client import ask, ask_streaming, ask_together, client
from m3et_ros.cli.output import Refused
from m3et_ros.ros.environment import Trouble
from m3et_ros.srv import AskQuestion


class SlowServer:
    """Writes one token and then goes on until the goal is cancelled; its service is never served."""

    def __init__(self):
        self.cancelled, self.reached, self.accept = threading.Event(), threading.Event(), threading.Event()
        self.accept.set()
        self.context = rclpy.Context()
        rclpy.init(context=self.context)
        self.node = rclpy.create_node('model', namespace='/slow', context=self.context)
        self.deaf = rclpy.create_node('model', namespace='/deaf', context=self.context)
        self.deaf.create_service(AskQuestion, '~/ask', lambda request, response: response)
        self.loading = rclpy.create_node('model', namespace='/loading', context=self.context)
        self.loading.create_service(AskQuestion, '~/ask', lambda request, response: response)
        self.loading.create_service(GetState, '~/get_state', lambda request, response: response)
        self.server = ActionServer(
            self.node,
            AskStreaming,
            '~/ask_streaming',
            self.execute,
            goal_callback=self.consider,
            cancel_callback=lambda _: CancelResponse.ACCEPT,
        )
        self.executor = MultiThreadedExecutor(2, context=self.context)
        self.executor.add_node(self.node)
        self.thread = threading.Thread(target=self.spin)
        self.thread.start()

    def spin(self):
        while self.context.ok():
            self.executor.spin_once(timeout_sec=0.05)

    def consider(self, goal):
        self.reached.set()
        assert self.accept.wait(60)
        return GoalResponse.ACCEPT

    def execute(self, goal):
        goal.publish_feedback(AskStreaming.Feedback(token='well', text='well'))
        deadline = time.monotonic() + 60
        while not goal.is_cancel_requested and time.monotonic() < deadline:
            time.sleep(0.01)
        goal.canceled()
        self.cancelled.set()
        return AskStreaming.Result(message='too late')

    def close(self):
        rclpy.shutdown(context=self.context)
        self.thread.join(10)
        self.executor.shutdown(timeout_sec=1)
        self.server.destroy()
        self.node.destroy_node()
        self.deaf.destroy_node()
        self.loading.destroy_node()


@pytest.fixture
def slow():
    server = SlowServer()
    yield server
    server.close()


def test_a_signal_cancels_the_question(slow):
    stopped, pieces = threading.Event(), []

    def piece(token):
        pieces.append(token)
        stopped.set()

    with client(stopped) as node, pytest.raises(Refused, match='The question was cancelled'):
        ask_streaming(node, '/slow', AskStreaming.Goal(question='What?'), 30, piece)
    assert pieces == ['well'] and slow.cancelled.wait(60) and stopped.is_set()


def test_a_signal_cancels_a_question_that_is_not_yet_accepted(slow):
    stopped = threading.Event()
    slow.accept.clear()

    def stop_and_accept():
        assert slow.reached.wait(60)
        stopped.set()
        time.sleep(0.5)
        slow.accept.set()

    threading.Thread(target=stop_and_accept).start()
    with client(stopped) as node, pytest.raises(Refused, match='The question was cancelled'):
        ask_streaming(node, '/slow', AskStreaming.Goal(question='What?'), 30, print)
    assert slow.cancelled.wait(60) and stopped.is_set()


def test_a_question_is_cancelled_although_its_acceptance_is_lost(slow, monkeypatch):
    def send(caller, goal, write, goal_id):
        sending(caller, goal, write, goal_id)
        assert slow.reached.wait(60)
        stopped.set()
        return Future()

    stopped, sending = threading.Event(), ActionClient.send_goal_async
    monkeypatch.setattr(ActionClient, 'send_goal_async', send)
    monkeypatch.setattr('m3et_ros.cli.ask.client.CANCEL_S', 1.0)
    with client(stopped) as node, pytest.raises(Refused, match='The question was cancelled'):
        ask_streaming(node, '/slow', AskStreaming.Goal(question='What?'), 30, print)
    assert slow.cancelled.wait(60)


def test_an_answer_that_takes_too_long_is_cancelled(slow):
    names = ('/deaf/model/ask', '/slow/model/ask_streaming/_action/send_goal')
    with client(threading.Event()) as node:
        assert node.wait(lambda: all(map(node.count_services, names)), 60)
        with pytest.raises(Refused, match='did not answer within 3 s; allow more time with --timeout'):
            ask_streaming(node, '/slow', AskStreaming.Goal(question='What?'), 3, print)
        with pytest.raises(Refused, match='did not answer within 2 s; allow more time'):
            ask_together(node, '/deaf', [('What?', 'frame')], 2)
    assert slow.cancelled.wait(60)


def test_a_robot_that_loads_its_model_is_told_apart(slow):
    words = 'within 2 s, and it answers no other request either: it is still loading'
    names = ('/loading/model/ask', '/loading/model/get_state')
    with client(threading.Event()) as node:
        assert node.wait(lambda: all(map(node.count_services, names)), 60)
        with pytest.raises(Refused, match=words):
            ask(node, '/loading', AskQuestion.Request(question='What?'), 2)


def test_shared_memory_of_another_user_explains_the_silence(slow, monkeypatch):
    trouble = Trouble('nodes of another user (root) have shared memory', 'start all nodes as one user')
    monkeypatch.setattr('m3et_ros.cli.ask.client.foreign_shared_memory', lambda: trouble)
    words = 'did not answer within 2 s: nodes of another user .root. have shared memory'
    with client(threading.Event()) as node:
        assert node.wait(lambda: node.count_services('/deaf/model/ask'), 60)
        with pytest.raises(Refused, match=words):
            ask(node, '/deaf', AskQuestion.Request(question='What?'), 2)
