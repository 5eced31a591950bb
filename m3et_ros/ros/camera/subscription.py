"""Quality of service: reliability that follows the publisher, and one sentence when nothing can arrive.

Best effort loses most raw images above half a megabyte with Fast DDS defaults, and a reliable subscription hears
nothing of a best-effort camera. So 'auto' looks at what is offered (as rosbag2 and ros2 topic echo do), keep-last 1
keeps reliability from building a backlog, and every mismatch is said aloud.
"""

import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

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

from m3et_ros.data.bags.cdr import from_cdr
from m3et_ros.data.errors import InputError
from m3et_ros.ros.camera.wait_thread import WaitThread
from m3et_ros.ros.diagnostics import Counters
from m3et_ros.ros.interfaces import Interface

RELIABILITIES = {'reliable': ReliabilityPolicy.RELIABLE, 'best_effort': ReliabilityPolicy.BEST_EFFORT}
FIXES = {
    'RELIABILITY': 'ask for best_effort here (parameter reliability: auto does so by itself) or offer reliable there',
    'DURABILITY': 'offer transient_local there or ask for volatile here',
}
DEFAULT_FIX = 'give both sides the same policy, for example through the qos_overrides parameters'


def newest(reliability: ReliabilityPolicy = ReliabilityPolicy.RELIABLE) -> QoSProfile:
    """Keep-last 1, volatile. A new profile each time: rclpy writes qos_overrides into the profile that it is given."""
    return QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=1, reliability=reliability)


def latched() -> QoSProfile:
    """Reliable, transient local, depth 1: late subscribers get the last message. A new profile each time."""
    profile = newest()
    profile.durability = DurabilityPolicy.TRANSIENT_LOCAL
    return profile


def overrides(*, reliability: bool = True) -> QoSOverridingOptions:
    """Options that let users set history, depth and (unless followed) reliability of a topic by qos_overrides."""
    kinds = [QoSPolicyKind.HISTORY, QoSPolicyKind.DEPTH]
    return QoSOverridingOptions(kinds + [QoSPolicyKind.RELIABILITY] * reliability, callback=_check_overrides)


def _check_overrides(profile: QoSProfile) -> SetParametersResult:
    good = profile.history == HistoryPolicy.KEEP_ALL or profile.depth >= 1
    return SetParametersResult(successful=good, reason='' if good else f'depth is {profile.depth}; give at least 1')


def reliability_of_publishers(node: Node, topic: str) -> ReliabilityPolicy:
    """Reliable if every publisher of the topic offers it (or there is none yet), else best effort.

    Args:
        node: asks the graph; discovery of another process takes up to some seconds.
        topic: relative, private or absolute; remapping applies.
    """
    offered = {info.qos_profile.reliability for info in node.get_publishers_info_by_topic(topic)}
    return ReliabilityPolicy.RELIABLE if offered <= {ReliabilityPolicy.RELIABLE} else ReliabilityPolicy.BEST_EFFORT


def subscription_events(
    node: Node, topic: str, counters: Counters, *, followed: bool = False
) -> SubscriptionEventCallbacks:
    """Event callbacks that count publishers we cannot hear as 'incompatible_qos' and name topic, policy and fix once.

    Args:
        node: logs.
        topic: relative, private or absolute.
        counters: counts.
        followed: whether reliability is about to follow the publisher; then a mismatch of it is no event.
    """
    return SubscriptionEventCallbacks(
        incompatible_qos=_incompatible(
            node, topic, counters, 'Nothing can be received', ignored='RELIABILITY' if followed else ''
        )
    )


def publisher_events(node: Node, topic: str, counters: Counters) -> PublisherEventCallbacks:
    """Event callbacks that count subscribers who cannot hear us as 'incompatible_qos' and name topic, policy, fix."""
    return PublisherEventCallbacks(incompatible_qos=_incompatible(node, topic, counters, 'A subscriber gets nothing'))


def _incompatible(node: Node, topic: str, counters: Counters, what: str, ignored: str = '') -> Callable[[Any], None]:
    said: set[str] = set()

    def callback(event) -> None:
        policy = qos_policy_name_from_kind(event.last_policy_kind)
        if policy == ignored:
            return
        counters.count('incompatible_qos', event.total_count_change)
        if policy not in said:
            said.add(policy)
            node.get_logger().warning(
                f'{what} on {node.resolve_topic_name(topic)} from an endpoint whose '
                f'{policy.lower()} does not match; {FIXES.get(policy, DEFAULT_FIX)}.'
            )

    return callback


class FollowingSubscription:
    """A keep-last-1 subscription whose reliability follows the publishers, also when they come later or change.

    `refresh`, called about once a second, makes the subscription anew when another reliability is due. The parameter
    `qos_overrides.<topic>.subscription.reliability` (auto, reliable or best_effort) wins over `reliability`.
    """

    def __init__(
        self,
        node: Node,
        kind: type,
        topic: str,
        callback: Callable[[Any], None],
        *,
        reliability: str = 'auto',
        counters: Counters,
        intake: WaitThread | None = None,
        raw: bool = False,
    ):
        """Subscribe.

        Args:
            node: the node that listens.
            kind: message type.
            topic: relative, private or absolute.
            callback: called with every message on the executor's thread, or on that of `intake`.
            reliability: 'auto', 'reliable' or 'best_effort'.
            counters: counts 'incompatible_qos'.
            intake: takes the messages instead of the executor.
            raw: whether the callback gets a message's bytes instead.

        Raises:
            InputError: 'parameter', the override of the user is none of the three words.
        """
        self._node, self._kind, self._topic, self._callback = node, kind, topic, callback
        self._counters, self._intake, self._raw = counters, intake, raw
        self._reliability = _reliability_override(node, topic, reliability)
        self._policy = self._wanted()
        self.subscription = self._create()

    @property
    def policy(self) -> ReliabilityPolicy:
        """The reliability of now."""
        return self._policy

    def refresh(self) -> bool:
        """Follow the publishers; True when the subscription was made anew."""
        wanted = self._wanted()
        if wanted == self._policy:
            return False
        name = self._node.resolve_topic_name(self._topic)
        self._node.get_logger().info(f'Reliability of {name} follows its publishers: now {wanted.name.lower()}.')
        self._policy = wanted
        self.destroy()
        self.subscription = self._create()
        return True

    def destroy(self) -> None:
        """Stop listening."""
        if self._intake is not None:
            self._intake.remove(self.subscription)
        self._node.destroy_subscription(self.subscription)

    def _wanted(self) -> ReliabilityPolicy:
        if self._reliability != 'auto':
            return RELIABILITIES[self._reliability]
        if not self._node.get_publishers_info_by_topic(self._topic) and hasattr(self, '_policy'):
            return self._policy
        return reliability_of_publishers(self._node, self._topic)

    def _create(self) -> Subscription:
        subscription = self._node.create_subscription(
            self._kind,
            self._topic,
            self._callback,
            newest(self._policy),
            callback_group=self._intake.group if self._intake is not None else None,
            raw=self._raw,
            event_callbacks=subscription_events(
                self._node, self._topic, self._counters, followed=self._reliability == 'auto'
            ),
            # A declared override would hold the reliability of the first subscription for ever.
            qos_overriding_options=overrides(reliability=False),
        )
        if self._intake is not None:
            self._intake.add(subscription)
        return subscription


def _reliability_override(node: Node, topic: str, reliability: str) -> str:
    """What the user says in qos_overrides, else `reliability`."""
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


class SilentTopicWatch:
    """Says that nothing arrives on a topic, and why where the graph shows it; once per silence."""

    def __init__(
        self, node: Node, topic: str, kind: str, *, seconds: float = 5.0, clock: Callable[[], float] = time.monotonic
    ):
        """Start waiting.

        Args:
            node: asks the graph and logs.
            topic: relative, private or absolute.
            kind: expected type, for example 'sensor_msgs/msg/Image'.
            seconds: silence before the warning; 0 never warns. May be changed at any time.
            clock: seconds that never go back; not the ROS clock, which stands still without /clock.
        """
        self.seconds = seconds
        self._node, self._topic, self._kind, self._clock = node, topic, kind, clock
        self._heard_at = clock()
        self._ever = False
        self._warned = False

    def heard(self) -> None:
        """A message came."""
        self._heard_at, self._ever, self._warned = self._clock(), True, False

    @property
    def silent_s(self) -> float:
        """Seconds since the last message, or since the start."""
        return self._clock() - self._heard_at

    def check(self) -> str | None:
        """Warn when the topic has been silent for too long; the sentence, the first time after each message."""
        if self._warned or not self.seconds or self.silent_s < self.seconds:
            return None
        self._warned = True
        sentence = self.explain()
        self._node.get_logger().warning(sentence)
        return sentence

    def explain(self) -> str:
        """One sentence: what was looked for, what the graph shows, how to mend it."""
        name = self._node.resolve_topic_name(self._topic)
        again = ' any more' if self._ever else ''
        publishers = self._node.get_publishers_info_by_topic(self._topic)
        return f'No {self._kind} has arrived on {name} for {self.silent_s:.1f} s{again}; {self._reason(publishers)}.'

    def _reason(self, publishers: list) -> str:
        if not publishers:
            return f'nobody publishes it; {self._remapping()}'
        seen = ', '.join(sorted({_described(info) for info in publishers}))
        if all(info.topic_type != self._kind for info in publishers):
            return f'it is published as another type by {seen}; subscribe to a topic of this type or remap'
        return f'published by {seen}; check that it is running and its quality of service matches (ros2 topic info -v)'

    def _remapping(self) -> str:
        own = {self._node.resolve_topic_name(self._topic)}
        topics = sorted({name for name, kinds in self._node.get_topic_names_and_types() if self._kind in kinds} - own)
        published = [name for name in topics if self._others_publish(name)]
        if not published:
            return 'start the camera, the replay or the simulator'
        return (
            f'{self._kind} is published on {", ".join(published[:4])}: remap with '
            f'--ros-args -r {self._topic}:={published[0]}'
        )

    def _others_publish(self, topic: str) -> bool:
        # Nodes of the same name in other namespaces are those of other robots, which read cameras and are none.
        return any(
            publisher.node_name != self._node.get_name() for publisher in self._node.get_publishers_info_by_topic(topic)
        )


def _described(info) -> str:
    node = f'{info.node_namespace.rstrip("/")}/{info.node_name}'
    return f'{node} ({info.topic_type}, {info.qos_profile.reliability.name.lower()})'


# MERGED m3et_ros/ros/reader: A subscription to whichever transport of an image is published, which speaks up when nothing comes.
class TopicReader:
    """Reads one of several transports of the same topic.

    With 'auto' the first transport that somebody publishes is read, in the order given. `follow` is called every half
    second or so, because publishers come and go.
    """

    def __init__(
        self,
        node: Node,
        transports: Mapping[str, Interface],
        callback: Callable[[Any], None],
        *,
        counters: Counters,
        transport: str = 'auto',
        reliability: str = 'auto',
        watched: bool = False,
        intake: WaitThread | None = None,
        refuse: Callable[[InputError], None] | None = None,
    ):
        """Subscribe to the first transport; `follow` mends the choice.

        Args:
            node: subscribes.
            transports: name to topic, preferred first.
            callback: called with each message on the executor's thread, or on that of `intake`.
            counters: counts 'incompatible_qos'.
            transport: 'auto' or one of the names.
            reliability: 'auto' (as the publishers), 'reliable' or 'best_effort'.
            watched: whether silence is worth a warning.
            intake: takes the messages instead of the executor.
            refuse: told why bytes do not read as a message. With it the callback gets messages as rosbags reads them,
                whose pixels have not been copied: duck types of rclpy's.
        """
        self._node, self._callback, self._counters = node, callback, counters
        self._transports = list(transports.values()) if transport == 'auto' else [transports[transport]]
        self._reliability, self._watched, self._intake, self._refuse = reliability, watched, intake, refuse
        self._subscription: FollowingSubscription | None = None
        self._open(self._transports[0])

    def follow(self, silent_s: float) -> None:
        """Follow the publishers to another transport or reliability; warn after `silent_s` seconds of silence."""
        # count_publishers does not apply remappings by itself.
        offered = [t for t in self._transports if self._node.count_publishers(self._node.resolve_topic_name(t.name))]
        if offered and self._read not in offered:
            self.close()
            self._open(offered[0])
        self._subscription.refresh()
        if self._watch is not None:
            self._watch.seconds = silent_s
            self._watch.check()

    def close(self) -> None:
        """Stop reading."""
        self._subscription.destroy()

    @property
    def silent_s(self) -> float:
        """Seconds since the last message, or since this transport was chosen; 0 where nobody watches."""
        return self._watch.silent_s if self._watch is not None else 0.0

    def _open(self, transport: Interface) -> None:
        self._read = transport
        watched = SilentTopicWatch(self._node, transport.name, transport.type_name)
        self._watch = watched if self._watched else None
        self._subscription = FollowingSubscription(
            self._node,
            transport.kind,
            transport.name,
            partial(self._heard, transport),
            reliability=self._reliability,
            counters=self._counters,
            intake=self._intake,
            raw=self._refuse is not None,
        )

    def _heard(self, transport: Interface, message: Any) -> None:
        if self._watch is not None:
            self._watch.heard()
        if self._refuse is not None:
            try:
                message = from_cdr(message, transport.type_name)
            except InputError as error:
                return self._refuse(error)
        self._callback(message)
