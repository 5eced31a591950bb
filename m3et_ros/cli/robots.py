"""Running robots, for a program of several threads that stays with them: a page, a server for agents, a recorder."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.action import ActionClient
from rclpy.clock import Clock, ClockType
from rclpy.exceptions import InvalidHandle

from m3et_ros.cli.ask import client
from m3et_ros.cli.output import Refused
from m3et_ros.cli.processes import use_ros
from m3et_ros.msg import Answer
from m3et_ros.ros.camera.subscription import FollowingSubscription
from m3et_ros.ros.diagnostics import Counters
from m3et_ros.ros.logs import error_sentence
from m3et_ros.srv import AskQuestion

POLL_S = 0.01
FOLLOW_S = 0.5
"""Seconds between two looks at the publishers of the topics."""
STALE_S = 5.0
"""Seconds after which a status says nothing about the node any more; a node sends one each second."""
LEVELS = {DiagnosticStatus.OK: 'ok', DiagnosticStatus.WARN: 'warn', DiagnosticStatus.ERROR: 'error'}


@dataclass(frozen=True)
class RobotHealth:
    """Report of a model node about itself.

    Attributes:
        level: 'ok', 'warn', 'error', or 'silent' if it has reported nothing for STALE_S seconds.
        sentence: what is wrong, why, and the fix; 'Running.' where nothing is.
        values: figures by name, as on /diagnostics; see docs/diagnostics.md.
    """

    level: str
    sentence: str
    values: Mapping[str, str]


class SharedClient(client.Client):
    """A client that spins in a thread of its own, so that any thread may wait for it.

    `stopped` belongs to the thread that reads it: `stopping` sets it for a block, and the event that was given holds
    everywhere else.
    """

    def __init__(self, context: rclpy.Context, stopped: threading.Event):
        self._own = threading.local()
        super().__init__(context, stopped)
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._spin, name='robots', daemon=True)
        self._thread.start()

    @property
    def stopped(self) -> threading.Event:
        """Event that ends the waits of this thread."""
        return getattr(self._own, 'stopped', self._stopped)

    @stopped.setter
    def stopped(self, event: threading.Event) -> None:
        self._stopped = event

    @contextmanager
    def stopping(self, stopped: threading.Event) -> Iterator[None]:
        """End the waits of this thread by an event of its own while the block lasts; blocks may be nested."""
        outer, self._own.stopped = self.stopped, stopped
        try:
            yield
        finally:
            self._own.stopped = outer

    def wait(self, done: Callable[[], bool], timeout_s: float) -> bool:
        """Wait until `done()` is true; return False if the time is up or `stopped` is set first."""
        deadline = time.monotonic() + timeout_s
        while not done():
            if self.stopped.is_set() or self._closing.is_set() or time.monotonic() > deadline:
                return False
            time.sleep(POLL_S)
        return True

    def discard(self, caller: ActionClient) -> None:
        """Destroy an action client between two waits, because a wait reads action clients without holding them."""
        self._executor.create_task(caller.destroy)

    def close(self) -> None:
        """Stop spinning and leave the graph."""
        self._closing.set()
        self._thread.join()
        super().close()

    def _spin(self) -> None:
        while not self._closing.is_set():
            try:
                # Another thread may close a listener between the arrival of its message and its turn.
                with suppress(InvalidHandle):
                    self._executor.spin_once(timeout_sec=client.SPIN_S)
            except Exception as error:  # one message that a listener cannot use must not end the others
                self.get_logger().error(error_sentence('a listener', error), throttle_duration_sec=10.0)


class Robot:
    """A running model node; every method may be called from any thread.

    Args:
        robots: connection to the graph.
        namespace: namespace of the model node, with a slash in front and none at the end.
    """

    def __init__(self, robots: 'Robots', namespace: str):
        self.namespace = namespace
        self._robots = robots

    def ask(self, request: AskQuestion.Request, timeout_s: float, stopped: threading.Event | None = None) -> Answer:
        """Ask through the service; it ranks its answers and takes an image of the caller.

        Args:
            request: the question.
            timeout_s: longest wait in seconds.
            stopped: event that ends the wait; None for that of the connection.

        Raises:
            Refused: as `client.ask`.
        """
        node = self._robots.node
        with node.stopping(stopped or node.stopped):
            return client.ask(node, self.namespace, request, timeout_s)

    def converse(
        self,
        question: str,
        timeout_s: float,
        write: Callable[[str], None],
        *,
        scope: str = '',
        stopped: threading.Event | None = None,
    ) -> Answer:
        """Ask as the robot is configured: its answer comes in parts where it writes its answers.

        Args:
            question: the question.
            timeout_s: longest wait in seconds.
            write: receives every new part of a written answer, on this thread or that of the connection.
            scope: 'frame', 'episode', or '' for 'frame'.
            stopped: event that cancels the question; None for that of the connection.

        Raises:
            Refused: as `client.ask_as_configured`.
        """
        node = self._robots.node
        with node.stopping(stopped or node.stopped):
            return client.ask_as_configured(node, self.namespace, question, timeout_s, write, scope)

    @property
    def health(self) -> RobotHealth:
        """Newest report of the node about itself."""
        return self._robots.health_of(self.namespace)

    @property
    def camera_topics(self) -> dict[str, str]:
        """Full names of the topics that the node reads: rgb, depth, camera_info; without those it does not read."""
        values = self.health.values
        return {key.removeprefix('topic/'): name for key, name in values.items() if key.startswith('topic/')}

    def listen(
        self, topic: str, kind: type, callback: Callable[[Any], None], *, raw: bool = False, latched: bool = False
    ) -> 'Listening':
        """Subscribe to a topic of the node, or of any other.

        Args:
            topic: full name, or '~/...' for a topic of the model node, as in ros/interfaces.py.
            kind: message type.
            callback: receives each message on the thread of the connection, so it must be quick. Messages that come
                meanwhile are dropped, except the newest.
            raw: the callback receives serialized bytes, which `data.bags.cdr.from_cdr` reads without a copy.
            latched: also receive the last message of publishers that keep it.
        """
        name = f'{self.namespace}/model{topic[1:]}' if topic.startswith('~/') else topic
        return self._robots.listen(name, kind, callback, raw=raw, latched=latched)

    def newest(self, topic: str, kind: type, timeout_s: float, *, raw: bool = False, latched: bool = False) -> Any:
        """Return the next message of a topic.

        Args:
            topic: as for `listen`.
            kind: message type.
            timeout_s: longest wait in seconds.
            raw: as for `listen`.
            latched: as for `listen`.

        Raises:
            Refused: none has come in time.
        """
        arrived: list[Any] = []
        with self.listen(topic, kind, arrived.append, raw=raw, latched=latched) as listening:
            if not self._robots.node.wait(lambda: bool(arrived), timeout_s):
                raise Refused(
                    f'No message has come on {listening.topic} within {timeout_s:g} s; '
                    f'{self.namespace} says: {self.health.sentence}'
                )
        return arrived[0]


class Listening:
    """A subscription of `Robots.listen`; `close` ends it."""

    def __init__(self, topic: str, subscription: FollowingSubscription, end: Callable[['Listening'], None]):
        self.topic = topic
        self.subscription = subscription
        self._end = end

    def close(self) -> None:
        """Unsubscribe; a second call does nothing."""
        self._end(self)

    def __enter__(self) -> 'Listening':
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class Robots:
    """The robots of a ROS graph; usable from any thread.

    Args:
        node: the connection.
    """

    def __init__(self, node: SharedClient):
        self.node = node
        self.counters = Counters()
        self._lock = threading.Lock()
        self._listening: list[Listening] = []
        self._reports: dict[str, tuple[float, RobotHealth]] = {}
        node.create_subscription(DiagnosticArray, '/diagnostics', self._on_diagnostics, 10)
        # On the steady clock, because simulated time may stand still.
        node.create_timer(FOLLOW_S, self._follow, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def namespaces(self) -> list[str]:
        """Return the namespaces in which a model node answers, in alphabetical order."""
        return client.robot_namespaces(self.node)

    def robot(self, namespace: str) -> Robot:
        """Return the robot in a namespace, be it there now or not; see `ros_names.full_namespace`."""
        return Robot(self, namespace)

    def listen(
        self, topic: str, kind: type, callback: Callable[[Any], None], *, raw: bool = False, latched: bool = False
    ) -> Listening:
        """Subscribe to a topic by its full name; arguments as for `Robot.listen`."""
        with self._lock:
            subscription = FollowingSubscription(
                self.node, kind, topic, callback, counters=self.counters, raw=raw, follow_durability=latched
            )
            self._listening.append(Listening(topic, subscription, self._close))
            return self._listening[-1]

    def health_of(self, namespace: str) -> RobotHealth:
        """Return the newest report of the model node in a namespace."""
        at, report = self._reports.get(f'{namespace}/model', (-STALE_S, RobotHealth('silent', '', {})))
        if (since := time.monotonic() - at) < STALE_S:
            return report
        words = f'has reported nothing for {since:.0f} s' if report.sentence else 'has not reported yet'
        return RobotHealth('silent', f'The model node in {namespace} {words}; it may have ended.', report.values)

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            values = {pair.key: pair.value for pair in status.values}
            report = RobotHealth(LEVELS.get(status.level, 'silent'), status.message, values)
            self._reports[status.name] = (time.monotonic(), report)

    def _follow(self) -> None:
        with self._lock:
            for listening in self._listening:
                listening.subscription.refresh()

    def _close(self, listening: Listening) -> None:
        with self._lock:
            if listening in self._listening:
                self._listening.remove(listening)
                listening.subscription.destroy()


@contextmanager
def connect(stopped: threading.Event) -> Iterator[Robots]:
    """Yield the robots on the domain of the environment.

    Args:
        stopped: event that ends every wait; its owner handles signals.

    Raises:
        InputError: ROS_DOMAIN_ID is no domain.
    """
    use_ros()
    with client.ros_context() as context:
        node = SharedClient(context, stopped)
        try:
            yield Robots(node)
        finally:
            node.close()
