"""A short-lived ROS node that asks a model node."""

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from uuid import uuid4

import rclpy
from lifecycle_msgs.srv import GetState
from rcl_interfaces.srv import GetParameters
from rclpy.action import ActionClient
from rclpy.action.client import ClientGoalHandle
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions
from rclpy.task import Future
from unique_identifier_msgs.msg import UUID

from m3et_ros.action import AskQuestion as AskStreaming
from m3et_ros.cli.output import Refused
from m3et_ros.cli.processes import stop_code
from m3et_ros.msg import Answer
from m3et_ros.ros import process
from m3et_ros.ros.environment import check_domain, foreign_shared_memory, settle
from m3et_ros.srv import AskQuestion

SPIN_S = 0.05
STATE_S = 1.0
"""Seconds that a node may take to tell its lifecycle state."""
CANCEL_S = 5.0
"""Seconds that a node may take to confirm that it dropped a question."""
ASK = '/model/ask'
"""Service of a model node, after its namespace."""
ASK_TYPE = 'm3et_ros/srv/AskQuestion'
CANCELLED = 'The question was cancelled.'


class Client(Node):
    """A node with its own context and executor; it spins only in `wait`.

    Args:
        context: rclpy context that belongs to this node alone.
        stopped: event that ends every wait.
    """

    def __init__(self, context: rclpy.Context, stopped: threading.Event):
        super().__init__(f'm3et_cli_{os.getpid()}', context=context, start_parameter_services=False)
        self.stopped = stopped
        self._executor = SingleThreadedExecutor(context=context)
        self._executor.add_node(self)

    def wait(self, done: Callable[[], bool], timeout_s: float) -> bool:
        """Spin until `done()` is true; return False if the time is up or `stopped` is set first."""
        deadline = time.monotonic() + timeout_s
        while not done():
            if self.stopped.is_set() or time.monotonic() > deadline:
                return False
            self._executor.spin_once(timeout_sec=SPIN_S)
        return True

    def spin_for(self, seconds: float) -> None:
        """Spin for a time, shorter if `stopped` is set."""
        deadline = time.monotonic() + seconds
        while not self.stopped.is_set() and (left := deadline - time.monotonic()) > 0:
            self._executor.spin_once(timeout_sec=min(SPIN_S, left))

    def discard(self, caller: ActionClient) -> None:
        """Destroy an action client."""
        caller.destroy()

    def close(self) -> None:
        """Leave the graph."""
        self._executor.shutdown(timeout_sec=1)
        self.destroy_node()


@contextmanager
def ros_context() -> Iterator[rclpy.Context]:
    """Yield a context on the domain of the environment that handles no signals.

    Raises:
        InputError: ROS_DOMAIN_ID is no domain.
    """
    check_domain()
    settle()
    process.prepare()
    context = rclpy.Context()
    rclpy.init(context=context, signal_handler_options=SignalHandlerOptions.NO)
    try:
        yield context
    finally:
        rclpy.try_shutdown(context=context)


@contextmanager
def client(stopped: threading.Event) -> Iterator[Client]:
    """Yield a client on the domain of the environment; the owner of `stopped` handles signals.

    Raises:
        InputError: ROS_DOMAIN_ID is no domain.
    """
    with ros_context() as context:
        node = Client(context, stopped)
        try:
            yield node
        finally:
            node.close()


def ask(node: Client, namespace: str, request: AskQuestion.Request, timeout_s: float) -> Answer:
    """Ask through the service <namespace>/model/ask.

    Args:
        node: sends the request.
        namespace: namespace of the model node.
        request: the question.
        timeout_s: longest wait in seconds.

    Raises:
        Refused: no node answers, the answer takes too long, or the node refuses the question.
    """
    deadline = time.monotonic() + timeout_s
    caller = node.create_client(AskQuestion, f'{namespace}{ASK}')
    try:
        if not node.wait(caller.service_is_ready, timeout_s):
            raise _absent(node, namespace)
        reply = caller.call_async(request)
        if not node.wait(reply.done, deadline - time.monotonic()):
            raise _silent(node, namespace, timeout_s)
        return _answer(reply.result())
    finally:
        node.destroy_client(caller)


def ask_together(node: Client, namespace: str, questions: Sequence[tuple[str, str]], timeout_s: float) -> list[Answer]:
    """Ask (question, scope) pairs at once, so that they are about the same frame or nearly so.

    Args:
        node: sends the requests.
        namespace: namespace of the model node.
        questions: questions with their scopes.
        timeout_s: longest wait for the node, and again for the answers, in seconds.

    Raises:
        Refused: as `ask`.
    """
    caller = node.create_client(AskQuestion, f'{namespace}{ASK}')
    try:
        if not node.wait(caller.service_is_ready, timeout_s):
            raise _absent(node, namespace)
        replies = [caller.call_async(AskQuestion.Request(question=q, scope=scope)) for q, scope in questions]
        if not node.wait(lambda: all(reply.done() for reply in replies), timeout_s):
            raise _silent(node, namespace, timeout_s)
        return [_answer(reply.result()) for reply in replies]
    finally:
        node.destroy_client(caller)


def ask_streaming(
    node: Client, namespace: str, goal: AskStreaming.Goal, timeout_s: float, write: Callable[[str], None]
) -> Answer:
    """Ask through the action <namespace>/model/ask_streaming; a signal cancels the goal.

    Args:
        node: sends the goal.
        namespace: namespace of the model node.
        goal: the question.
        timeout_s: longest time for everything, in seconds.
        write: receives every new part of the answer; the parts together are the whole answer.

    Raises:
        Refused: as `ask`, or the question was cancelled.
    """
    deadline = time.monotonic() + timeout_s
    caller = ActionClient(node, AskStreaming, f'{namespace}/model/ask_streaming')
    written = ''

    def write_new(text: str) -> None:
        nonlocal written
        if len(text) > len(written):
            write(text[len(written) :])
            written = text

    try:
        if not node.wait(caller.server_is_ready, timeout_s):
            raise _absent(node, namespace)
        goal_id = UUID(uuid=list(uuid4().bytes))
        sent = caller.send_goal_async(goal, lambda message: write_new(message.feedback.text), goal_id)
        if not node.wait(sent.done, deadline - time.monotonic()):
            _cancel(node, ClientGoalHandle(caller, goal_id, None), sent)
            raise _silent(node, namespace, timeout_s)
        if not sent.result().accepted:
            raise Refused(f'The model node in {namespace} refused the question; see its log.')
        result = sent.result().get_result_async()
        if not node.wait(result.done, deadline - time.monotonic()):
            _cancel(node, ClientGoalHandle(caller, goal_id, None), sent)
            raise _silent(node, namespace, timeout_s)
        answer = _answer(result.result().result)
        # Feedback and result travel separately: the last words may be missing, and will not come any more.
        write_new(answer.text)
        return answer
    finally:
        node.discard(caller)


def ask_as_configured(
    node: Client, namespace: str, question: str, timeout_s: float, write: Callable[[str], None], scope: str = ''
) -> Answer:
    """Ask through the action where the robot writes its answers, else through the service, which ranks them.

    Args:
        node: sends the question.
        namespace: namespace of the model node.
        question: the question.
        timeout_s: longest wait in seconds.
        write: receives every new part of a written answer; a ranked answer has no parts.
        scope: 'frame', 'episode', or '' for 'frame'.

    Raises:
        Refused: as `ask_streaming`.
    """
    found = read_parameters(node, namespace, ['answerer', 'answer_mode'], timeout_s)
    if found['answerer'] in ('', 'm3et') and found['answer_mode'] != 'generate':
        return ask(node, namespace, AskQuestion.Request(question=question, scope=scope), timeout_s)
    return ask_streaming(node, namespace, AskStreaming.Goal(question=question, scope=scope), timeout_s, write)


def robot_namespaces(node: Node) -> list[str]:
    """Return the namespaces in which a model node answers, in alphabetical order."""
    return sorted(
        name.removesuffix(ASK)
        for name, kinds in node.get_service_names_and_types()
        if ASK_TYPE in kinds and name.endswith(ASK)
    )


def read_parameters(node: Client, namespace: str, names: Sequence[str], timeout_s: float) -> dict[str, str]:
    """Return text parameters of the model node in a namespace; those that it does not have are ''.

    Args:
        node: sends the request.
        namespace: namespace of the model node.
        names: names of the parameters.
        timeout_s: longest wait in seconds.

    Raises:
        Refused: no node answers, or it takes too long.
    """
    caller = node.create_client(GetParameters, f'{namespace}/model/get_parameters')
    try:
        if not node.wait(caller.service_is_ready, timeout_s):
            raise _absent(node, namespace)
        reply = caller.call_async(GetParameters.Request(names=names))
        if not node.wait(reply.done, timeout_s):
            raise _silent(node, namespace, timeout_s)
        return dict(zip(names, (value.string_value for value in reply.result().values), strict=True))
    finally:
        node.destroy_client(caller)


def _cancel(node: Client, goal: ClientGoalHandle, sent: Future) -> None:
    """Cancel a goal that was sent and wait until the node confirms it, even after a signal.

    A node knows no goal before it has accepted it, so the acceptance is waited for. Its reply may be lost, because DDS
    drops replies to a client that the node has not yet discovered; the goal is cancelled then, too.
    """
    stop_requested = node.stopped.is_set()
    node.stopped.clear()
    node.wait(sent.done, CANCEL_S)
    node.wait(goal.cancel_goal_async().done, CANCEL_S)
    if stop_requested:
        node.stopped.set()


def _answer(reply) -> Answer:
    if not reply.success:
        raise Refused(reply.message)
    return reply.answer


def _silent(node: Client, namespace: str, timeout_s: float) -> Refused:
    """Return the error for a node that did not answer in time."""
    if node.stopped.is_set():
        return Refused(CANCELLED, stop_code(node.stopped))
    if trouble := foreign_shared_memory():
        return Refused(f'The model node in {namespace} did not answer within {timeout_s:g} s: {trouble}')
    if not _responds(node, namespace):
        return Refused(
            f'The model node in {namespace} did not answer within {timeout_s:g} s, and it answers no other request '
            'either: it is still loading its model, or it hangs; ask again in a moment, or allow more time with '
            '--timeout.'
        )
    return Refused(
        f'The model node in {namespace} did not answer within {timeout_s:g} s; allow more time with --timeout.'
    )


def _responds(node: Client, namespace: str) -> bool:
    """Return True if the model node tells its lifecycle state, which it cannot while it loads its model."""
    caller = node.create_client(GetState, f'{namespace}/model/get_state')
    try:
        if not node.wait(caller.service_is_ready, STATE_S):
            return True  # no lifecycle node of ours, so its silence means nothing
        return node.wait(caller.call_async(GetState.Request()).done, STATE_S)
    finally:
        node.destroy_client(caller)


def _absent(node: Client, namespace: str) -> Refused:
    """Return the error for a missing node, with the namespaces that do answer and the way to start a robot."""
    if node.stopped.is_set():
        return Refused(CANCELLED, stop_code(node.stopped))
    others = [other for other in robot_namespaces(node) if other != namespace]
    if others:
        fix = f'one answers in {", ".join(others)}, so give --namespace {others[0]}'
    else:
        fix = f'start one with "m3et robot --namespace {namespace}", or check ROS_DOMAIN_ID and --namespace'
    domain = os.environ.get('ROS_DOMAIN_ID') or 0
    return Refused(f'No model node answers in namespace {namespace} on ROS domain {domain}; {fix}.')
