"""The other end of a model node: a short-lived ROS node that asks it."""

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import rclpy
from rclpy.action import ActionClient
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

from m3et_ros.action import AskQuestion as AskStreaming
from m3et_ros.cli.output import Refused
from m3et_ros.msg import Answer
from m3et_ros.ros import process
from m3et_ros.srv import AskQuestion

SPIN_S = 0.05
CANCEL_S = 5.0
"""How long a node may take to say that it dropped a question."""
ASK_TYPE = 'm3et_ros/srv/AskQuestion'
CANCELLED = 'The question was cancelled.'


class Client(Node):
    """A node with its own context and executor; spun only while something is waited for."""

    def __init__(self, context: rclpy.Context, stopped: threading.Event):
        super().__init__(f'm3et_cli_{os.getpid()}', context=context, start_parameter_services=False)
        self.stopped = stopped
        self._executor = SingleThreadedExecutor(context=context)
        self._executor.add_node(self)

    def wait(self, done: Callable[[], bool], timeout_s: float) -> bool:
        """Spin until `done()`, and return whether it came true before the time was up or a signal came."""
        deadline = time.monotonic() + timeout_s
        while not done():
            if self.stopped.is_set() or time.monotonic() > deadline:
                return False
            self._executor.spin_once(timeout_sec=SPIN_S)
        return True

    def close(self) -> None:
        """Leave the graph."""
        self._executor.shutdown(timeout_sec=1)
        self.destroy_node()


@contextmanager
def client(stopped: threading.Event) -> Iterator[Client]:
    """A client on the domain of the environment; signals are left to whoever owns `stopped`."""
    process.prepare()
    context = rclpy.Context()
    rclpy.init(context=context, signal_handler_options=SignalHandlerOptions.NO)
    node = Client(context, stopped)
    try:
        yield node
    finally:
        node.close()
        rclpy.try_shutdown(context=context)


def ask(node: Client, below: str, request: AskQuestion.Request, timeout_s: float) -> Answer:
    """Ask through the service <below>/model/ask.

    Raises:
        Refused: nobody is there, the answer took too long, or the node refused the question; with its reason.
    """
    deadline = time.monotonic() + timeout_s
    caller = node.create_client(AskQuestion, f'{below}/model/ask')
    if not node.wait(caller.service_is_ready, timeout_s):
        raise _absent(node, below)
    reply = caller.call_async(request)
    if not node.wait(reply.done, deadline - time.monotonic()):
        raise _silent(node, below, timeout_s)
    return _answer(reply.result())


def ask_together(node: Client, below: str, questions: Sequence[tuple[str, str]], timeout_s: float) -> list[Answer]:
    """Ask (question, scope) pairs at once, so that they are about the same frame or nearly so.

    Raises:
        Refused: as `ask`.
    """
    caller = node.create_client(AskQuestion, f'{below}/model/ask')
    try:
        if not node.wait(caller.service_is_ready, timeout_s):
            raise _absent(node, below)
        replies = [caller.call_async(AskQuestion.Request(question=q, scope=scope)) for q, scope in questions]
        if not node.wait(lambda: all(reply.done() for reply in replies), timeout_s):
            raise _silent(node, below, timeout_s)
        return [_answer(reply.result()) for reply in replies]
    finally:
        node.destroy_client(caller)


def ask_streaming(
    node: Client, below: str, goal: AskStreaming.Goal, timeout_s: float, piece: Callable[[str], None]
) -> Answer:
    """Ask through the action <below>/model/ask_streaming; a signal cancels the goal.

    Args:
        node: asks.
        below: namespace of the model node.
        goal: the question.
        timeout_s: longest time for the whole.
        piece: called with every part of the answer as it comes; together they are the whole answer.

    Raises:
        Refused: as `ask`, or the question was cancelled.
    """
    deadline = time.monotonic() + timeout_s
    caller = ActionClient(node, AskStreaming, f'{below}/model/ask_streaming')
    told = ''

    def tell(text: str) -> None:
        nonlocal told
        if len(text) > len(told):
            piece(text[len(told) :])
            told = text

    try:
        if not node.wait(caller.server_is_ready, timeout_s):
            raise _absent(node, below)
        sent = caller.send_goal_async(goal, feedback_callback=lambda message: tell(message.feedback.text))
        if not node.wait(sent.done, deadline - time.monotonic()):
            raise _silent(node, below, timeout_s)
        if not sent.result().accepted:
            raise Refused(f'The model node in {below} refused the question; see its log.')
        result = sent.result().get_result_async()
        if not node.wait(result.done, deadline - time.monotonic()):
            _cancel(node, sent.result())
            raise _silent(node, below, timeout_s)
        answer = _answer(result.result().result)
        # Feedback and result travel apart: the last words may not have come, and no longer will.
        tell(answer.text)
        return answer
    finally:
        caller.destroy()


def _cancel(node: Client, goal) -> None:
    """Take a question back and give the node a moment to hear of it, whatever signal came before."""
    taken_back = goal.cancel_goal_async()
    asked_to_stop = node.stopped.is_set()
    node.stopped.clear()
    node.wait(taken_back.done, CANCEL_S)
    if asked_to_stop:
        node.stopped.set()


def _answer(reply) -> Answer:
    if not reply.success:
        raise Refused(reply.message)
    return reply.answer


def _silent(node: Client, below: str, timeout_s: float) -> Refused:
    if node.stopped.is_set():
        return Refused(CANCELLED)
    return Refused(f'The model node in {below} did not answer within {timeout_s:g} s; give it more with --timeout.')


def _absent(node: Client, below: str) -> Refused:
    """Why nobody answers: who does, on which domain, and how to start a robot."""
    if node.stopped.is_set():
        return Refused(CANCELLED)
    others = sorted(
        name.rpartition('/model/ask')[0]
        for name, kinds in node.get_service_names_and_types()
        if ASK_TYPE in kinds and name.endswith('/model/ask') and not name.startswith(f'{below}/')
    )
    there = (
        f'; one answers in {", ".join(others)}, so give --namespace {others[0]}'
        if others
        else f'; start one with "m3et robot --namespace {below}", or check ROS_DOMAIN_ID and --namespace'
    )
    domain = os.environ.get('ROS_DOMAIN_ID') or 0
    return Refused(f'No model node answers in namespace {below} on ROS domain {domain}{there}.')
