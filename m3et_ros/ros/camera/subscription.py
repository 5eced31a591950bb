"""Subscribe to the transport and with the reliability that a camera offers, and explain why nothing arrives.

With the defaults of Fast DDS, best effort loses most raw images above half a megabyte, and a reliable subscription
receives nothing from a best-effort camera. Therefore 'auto' takes what the publishers offer, as rosbag2 and
`ros2 topic echo` do; keep-last 1 keeps reliability from building a backlog; and every mismatch is logged once.

Messages do not pass through this file: camera/wait_thread.py takes them and calls the callback given to TopicReader.
"""

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol

from rcl_interfaces.msg import ParameterDescriptor, SetParametersResult
from rclpy.event_handler import PublisherEventCallbacks, SubscriptionEventCallbacks
from rclpy.exceptions import ParameterAlreadyDeclaredException
from rclpy.node import Node
from rclpy.qos import (
    DurabilityPolicy,
    HistoryPolicy,
    QoSPolicyKind,
    QoSProfile,
    ReliabilityPolicy,
    qos_policy_name_from_kind,
)
from rclpy.qos_overriding_options import QoSOverridingOptions
from rclpy.subscription import Subscription

from m3et_ros.data.errors import InputError
from m3et_ros.ros.camera.wait_thread import WaitThread

RELIABILITIES = {'reliable': ReliabilityPolicy.RELIABLE, 'best_effort': ReliabilityPolicy.BEST_EFFORT}
FIXES = {
    'RELIABILITY': 'ask for best_effort here (parameter reliability: auto does so by itself) or offer reliable there',
    'DURABILITY': 'offer transient_local there or ask for volatile here',
}
DEFAULT_FIX = 'give both sides the same policy, for example through the qos_overrides parameters'


class Counts(Protocol):
    """Counts events by reason, from any thread; such as diagnostics.Counters."""

    def count(self, reason: str, times: int = 1) -> int:
        """Add to the count of a reason and return the new total."""


class Transport(Protocol):
    """A topic that may carry the messages; such as interfaces.Interface."""

    @property
    def name(self) -> str:
        """Relative, private or absolute name."""

    @property
    def kind(self) -> type:
        """Message type."""

    @property
    def type_name(self) -> str:
        """ROS name of the type, for example 'sensor_msgs/msg/Image'."""


def newest(reliability: ReliabilityPolicy = ReliabilityPolicy.RELIABLE) -> QoSProfile:
    """Return a keep-last 1, volatile profile; a new one each time, because rclpy writes qos_overrides into it."""
    return QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=1, reliability=reliability)


def latched() -> QoSProfile:
    """Return a reliable, transient-local profile of depth 1, which gives late subscribers the last message."""
    profile = newest()
    profile.durability = DurabilityPolicy.TRANSIENT_LOCAL
    return profile


def overrides(*, reliability: bool = True) -> QoSOverridingOptions:
    """Return options that let users override the history, depth and (if asked for) reliability of a topic."""
    kinds = [QoSPolicyKind.HISTORY, QoSPolicyKind.DEPTH]
    if reliability:
        kinds.append(QoSPolicyKind.RELIABILITY)
    return QoSOverridingOptions(kinds, callback=_check_depth)


def _check_depth(profile: QoSProfile) -> SetParametersResult:
    if profile.history == HistoryPolicy.KEEP_ALL or profile.depth >= 1:
        return SetParametersResult(successful=True)
    return SetParametersResult(successful=False, reason=f'depth is {profile.depth}; give at least 1')


def reliability_of_publishers(node: Node, topic: str) -> ReliabilityPolicy:
    """Return reliable if every publisher of the topic offers it or there is none yet, else best effort.

    Args:
        node: node that queries the graph; discovery of another process takes up to some seconds.
        topic: relative, private or absolute name; remapping applies.
    """
    offered = {info.qos_profile.reliability for info in node.get_publishers_info_by_topic(topic)}
    return ReliabilityPolicy.RELIABLE if offered <= {ReliabilityPolicy.RELIABLE} else ReliabilityPolicy.BEST_EFFORT


def durability_of_publishers(node: Node, topic: str) -> DurabilityPolicy:
    """Return transient local if every publisher offers it and there is one, else volatile.

    A message that was published once before this node came, such as a latched camera_info, reaches it only so.

    Args:
        node: node that queries the graph.
        topic: relative, private or absolute name; remapping applies.
    """
    offered = {info.qos_profile.durability for info in node.get_publishers_info_by_topic(topic)}
    return (
        DurabilityPolicy.TRANSIENT_LOCAL if offered == {DurabilityPolicy.TRANSIENT_LOCAL} else DurabilityPolicy.VOLATILE
    )


def subscription_events(
    node: Node, topic: str, counters: Counts, *, follows: Sequence[str] = ()
) -> SubscriptionEventCallbacks:
    """Return event callbacks that count publishers we cannot receive from and log topic, policy and fix once.

    Args:
        node: node that logs.
        topic: relative, private or absolute name.
        counters: counts the mismatches as 'incompatible_qos'.
        follows: policies, such as RELIABILITY, that the subscription will adopt from the publishers; a mismatch of
            these is ignored.
    """
    callback = _incompatible_qos(node, topic, counters, 'Nothing can be received', follows)
    return SubscriptionEventCallbacks(incompatible_qos=callback)


def publisher_events(node: Node, topic: str, counters: Counts) -> PublisherEventCallbacks:
    """Return event callbacks that count subscribers who cannot receive from us and log topic, policy and fix once."""
    callback = _incompatible_qos(node, topic, counters, 'A subscriber gets nothing')
    return PublisherEventCallbacks(incompatible_qos=callback)


def _incompatible_qos(
    node: Node, topic: str, counters: Counts, effect: str, ignored: Sequence[str] = ()
) -> Callable[[Any], None]:
    """Return the callback of both kinds of event; rclpy has no public type for the event."""
    logged: set[str] = set()

    def callback(event: Any) -> None:
        policy = qos_policy_name_from_kind(event.last_policy_kind)
        if policy in ignored:
            return
        counters.count('incompatible_qos', event.total_count_change)
        if policy not in logged:
            logged.add(policy)
            node.get_logger().warning(
                f'{effect} on {node.resolve_topic_name(topic)} from an endpoint whose '
                f'{policy.lower()} does not match; {FIXES.get(policy, DEFAULT_FIX)}.'
            )

    return callback


class FollowingSubscription:
    """A keep-last-1 subscription whose reliability follows the publishers, even when they appear later or change.

    So does its durability, if asked for. `refresh`, called about once a second, recreates the subscription when one of
    them has to change. The user's
    `qos_overrides.<topic>.subscription.reliability` (auto, reliable or best_effort) wins over `reliability`.
    """

    def __init__(
        self,
        node: Node,
        kind: type,
        topic: str,
        callback: Callable[[Any], None],
        *,
        counters: Counts,
        reliability: str = 'auto',
        wait_thread: WaitThread | None = None,
        raw: bool = False,
        follow_durability: bool = False,
    ):
        """Subscribe.

        Args:
            node: node that subscribes.
            kind: message type.
            topic: relative, private or absolute name.
            callback: called with every message, on the wait thread if there is one, else by the executor.
            counters: counts 'incompatible_qos'.
            reliability: 'auto', 'reliable' or 'best_effort'.
            wait_thread: takes the messages instead of the executor.
            raw: pass the serialized bytes of a message to the callback.
            follow_durability: ask for the last message of publishers that keep it, else volatile.

        Raises:
            InputError: 'parameter', the user's override is not one of the three words.
        """
        self._node, self._kind, self._topic, self._callback = node, kind, topic, callback
        self._counters, self._wait_thread, self._raw = counters, wait_thread, raw
        self._reliability = _reliability_override(node, topic, reliability)
        self.policy = RELIABILITIES.get(self._reliability) or reliability_of_publishers(node, topic)
        """Current reliability."""
        self._follow_durability = follow_durability
        self._durability = self._offered_durability()
        self.subscription = self._create()

    def refresh(self) -> bool:
        """Follow the publishers; return True when the subscription was recreated."""
        # Without a publisher there is no reason to change.
        if not self._node.get_publishers_info_by_topic(self._topic):
            return False
        policy = reliability_of_publishers(self._node, self._topic) if self._reliability == 'auto' else self.policy
        durability = self._offered_durability()
        if (policy, durability) == (self.policy, self._durability):
            return False
        name, now = self._node.resolve_topic_name(self._topic), f'{policy.name} and {durability.name}'.lower()
        self._node.get_logger().info(f'Reliability and durability of {name} follow its publishers: now {now}.')
        self.policy, self._durability = policy, durability
        self.destroy()
        self.subscription = self._create()
        return True

    def destroy(self) -> None:
        """Unsubscribe."""
        if self._wait_thread is not None:
            self._wait_thread.remove(self.subscription)
        self._node.destroy_subscription(self.subscription)

    def _offered_durability(self) -> DurabilityPolicy:
        return (
            durability_of_publishers(self._node, self._topic) if self._follow_durability else DurabilityPolicy.VOLATILE
        )

    def _create(self) -> Subscription:
        profile = newest(self.policy)
        profile.durability = self._durability
        follows = ['RELIABILITY'] * (self._reliability == 'auto') + ['DURABILITY'] * self._follow_durability
        subscription = self._node.create_subscription(
            self._kind,
            self._topic,
            self._callback,
            profile,
            callback_group=self._wait_thread.group if self._wait_thread is not None else None,
            raw=self._raw,
            event_callbacks=subscription_events(self._node, self._topic, self._counters, follows=follows),
            # A declared override would keep the reliability of the first subscription forever.
            qos_overriding_options=overrides(reliability=False),
        )
        if self._wait_thread is not None:
            self._wait_thread.add(subscription)
        return subscription


def _reliability_override(node: Node, topic: str, reliability: str) -> str:
    """Return the user's qos_overrides parameter, or `reliability` if it is not set."""
    name = f'qos_overrides.{node.resolve_topic_name(topic)}.subscription.reliability'
    descriptor = ParameterDescriptor(
        read_only=True,
        description=f'Reliability of the subscription to {topic}.',
        additional_constraints='One of auto, reliable or best_effort.',
    )
    try:
        chosen = node.declare_parameter(name, reliability, descriptor).value
    except ParameterAlreadyDeclaredException:
        chosen = node.get_parameter(name).value
    if chosen != 'auto' and chosen not in RELIABILITIES:
        raise InputError('parameter', f'parameter {name} is {chosen!r}; give auto, reliable or best_effort')
    return chosen


class SilenceMonitor:
    """Warns that nothing arrives on a topic, and why where the graph shows it; once per silence."""

    def __init__(self, node: Node, topic: str, kind: str, *, clock: Callable[[], float] = time.monotonic):
        """Start the timer.

        Args:
            node: node that queries the graph and logs.
            topic: relative, private or absolute name.
            kind: expected type, for example 'sensor_msgs/msg/Image'.
            clock: seconds that never go back; not the ROS clock, which stands still without /clock.
        """
        self._node, self._topic, self._kind, self._clock = node, topic, kind, clock
        self._since = clock()
        self._any_message = False
        self._warned = False

    def message_arrived(self) -> None:
        """End the silence."""
        self._since, self._any_message, self._warned = self._clock(), True, False

    @property
    def silent_s(self) -> float:
        """Seconds since the last message, or since the start."""
        return self._clock() - self._since

    def warn_after(self, seconds: float, fix: str = '') -> str | None:
        """Warn if the topic has been silent for `seconds`; 0 never warns.

        Args:
            seconds: the silence.
            fix: a further fix, which ends the sentence.

        Returns:
            The warning, the first time after each message; else None.
        """
        if self._warned or not seconds or self.silent_s < seconds:
            return None
        self._warned = True
        sentence = f'{self.explain()[:-1]}{fix}.'
        self._node.get_logger().warning(sentence)
        return sentence

    def explain(self) -> str:
        """Return one sentence: what was expected, what the graph shows, and the fix."""
        name = self._node.resolve_topic_name(self._topic)
        any_more = ' any more' if self._any_message else ''
        return f'No {self._kind} has arrived on {name} for {self.silent_s:.1f} s{any_more}; {self._reason()}.'

    def _reason(self) -> str:
        publishers = self._node.get_publishers_info_by_topic(self._topic)
        if not publishers:
            return f'nobody publishes it; {self._remapping()}'
        endpoints = {
            f'{info.node_namespace.rstrip("/")}/{info.node_name} '
            f'({info.topic_type}, {info.qos_profile.reliability.name.lower()})'
            for info in publishers
        }
        found = ', '.join(sorted(endpoints))
        if all(info.topic_type != self._kind for info in publishers):
            return f'it is published as another type by {found}; subscribe to a topic of this type or remap'
        return f'published by {found}; check that it is running and its quality of service matches (ros2 topic info -v)'

    def _remapping(self) -> str:
        """Return the fix where nobody publishes the topic: a remapping to a topic of its type, if there is one."""
        # Colour must not be offered as depth, nor the other way round.
        own = {self._node.resolve_topic_name(self._topic), *(s.topic_name for s in self._node.subscriptions)}
        published = []
        for name, kinds in sorted(self._node.get_topic_names_and_types()):
            # Nodes of the same name in other namespaces belong to other robots; their topics do not come from cameras.
            publishers = {info.node_name for info in self._node.get_publishers_info_by_topic(name)}
            if name not in own and self._kind in kinds and publishers - {self._node.get_name()}:
                published.append(name)
        if not published:
            return 'start the camera, the replay or the simulator'
        return (
            f'{self._kind} is published on {", ".join(published[:4])}: remap with '
            f'--ros-args -r {self._topic}:={published[0]}'
        )


class TopicReader:
    """A subscription to one of several transports of the same topic.

    The first transport that somebody publishes is read, in the order given. `follow`, called every half second or so,
    adapts to publishers that come and go.
    """

    def __init__(
        self,
        node: Node,
        transports: Sequence[Transport],
        callback: Callable[[Transport, Any], None],
        *,
        counters: Counts,
        reliability: str = 'auto',
        wait_thread: WaitThread | None = None,
        raw: bool = False,
        follow_durability: bool = False,
    ):
        """Prepare; `open` subscribes.

        Args:
            node: node that subscribes.
            transports: topics that may carry the messages, preferred first.
            callback: called with the transport and each message, on the wait thread if there is one.
            counters: counts 'incompatible_qos'.
            reliability: 'auto' (that of the publishers), 'reliable' or 'best_effort'.
            wait_thread: takes the messages instead of the executor.
            raw: pass the serialized bytes of a message to the callback.
            follow_durability: ask for the last message of publishers that keep it.
        """
        self._node, self._transports, self._callback, self._counters = node, transports, callback, counters
        self._reliability, self._wait_thread, self._raw = reliability, wait_thread, raw
        self._follow_durability = follow_durability
        self._subscription: FollowingSubscription | None = None

    def open(self) -> None:
        """Subscribe to the preferred transport; `follow` corrects the choice."""
        self._subscribe(self._transports[0])

    def follow(self) -> None:
        """Change transport or reliability as the publishers require."""
        assert self._subscription is not None, 'open comes first'
        # count_publishers does not apply remappings by itself.
        offered = [t for t in self._transports if self._node.count_publishers(self._node.resolve_topic_name(t.name))]
        if offered and self.transport not in offered:
            self.close()
            self._subscribe(offered[0])
            return
        self._subscription.refresh()

    @property
    def best_effort(self) -> bool:
        """True while messages may get lost on the way."""
        return self._subscription is not None and self._subscription.policy == ReliabilityPolicy.BEST_EFFORT

    def close(self) -> None:
        """Unsubscribe; do nothing before `open`."""
        if self._subscription is not None:
            self._subscription.destroy()
            self._subscription = None

    def _subscribe(self, transport: Transport) -> None:
        self.transport = transport
        """Current transport."""
        self.silence = SilenceMonitor(self._node, transport.name, transport.type_name)
        """Monitor of the current transport; the owner reports messages and checks it."""
        self._subscription = FollowingSubscription(
            self._node,
            transport.kind,
            transport.name,
            partial(self._callback, transport),
            counters=self._counters,
            reliability=self._reliability,
            wait_thread=self._wait_thread,
            raw=self._raw,
            follow_durability=self._follow_durability,
        )
