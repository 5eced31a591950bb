"""Play a rosbag2 recording on the topics from which it was recorded.

    ros2 run m3et_ros replay_node --ros-args -p path:=recording -r /camera/camera/color/image_raw:=/rgb
    python -m m3et_ros.ros.replay_node --ros-args -p path:=recording.mcap -p rate:=2.0 -p loop:=true

Messages are published as recorded: the CDR bytes are not decoded and header stamps stay. When the bag starts over,
stamps and /clock therefore go back; with restamp they follow the wall clock instead. Exit code 1 means that a part of
what was requested could not be played; the log names it.
"""

import importlib
import re
import sys
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from rcl_interfaces.msg import ParameterDescriptor
from rclpy.duration import Duration
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rosgraph_msgs.msg import Clock

from m3et_ros.data.bags.reader import BagMessage, BagReader, Topic
from m3et_ros.data.errors import InputError
from m3et_ros.ros import process
from m3et_ros.ros.convert import stamp_msg
from m3et_ros.ros.guards import guard_services
from m3et_ros.ros.parameters import ParameterSpec as P
from m3et_ros.ros.parameters import declare, unknown_overrides
from m3et_ros.ros.replay_clock import Timeline, restamped

CLOCK_TOPIC = '/clock'
CLOCK_PERIOD_S = 0.02
"""Longest wall time between two /clock messages."""
SPIN_PERIOD_S = 0.1
"""Longest time between two spins, which answer parameter services, even if the bag leaves no pause."""
LATE_S = 1.0
"""Delay of a message after which the node warns that it cannot keep the rate."""
SETTLE_S = 0.5
"""Time without a new subscriber before playing begins: a node subscribes to its topics one after the other."""
ACK_S = 5.0
"""Longest wait for the acknowledgement of the last messages; Fast DDS queries readers every 3 s."""
HISTORY = 100
"""Number of messages stored for a reliable subscriber that lags; a burst at a high rate must fit."""
HEADER_FIELD = ('header', 'std_msgs/Header')
MESSAGE_TYPE = re.compile(r'([a-z][a-z0-9_]*)/msg/([A-Z][A-Za-z0-9]*)')


PARAMETERS = (
    P('path', '', 'Folder of a rosbag2 recording, or its .mcap or .db3 file.'),
    P('rate', 1.0, 'Speed factor; 2.0 plays twice as fast as recorded.', 0.1, 100),
    P('loop', False, 'Starts over at the end, forever.'),
    P('start_s', 0.0, 'Start, in seconds after the first message.', 0, 1e9),
    P('publish_clock', True, 'Publishes the time of the recording on /clock, for nodes with use_sim_time.'),
    P('wait_for_subscribers', False, 'Holds the first message back until somebody subscribes.'),
    P(
        'reliability',
        'auto',
        'Reliability of the publishers; auto offers the recorded one, or reliable if none was recorded.',
        choices=('auto', 'reliable', 'best_effort'),
    ),
    P('restamp', False, 'Moves header stamps and /clock to the wall clock, as if the camera ran now.'),
)
"""Parameters of the node, except the list `topics`."""

TOPICS = "Topics to play, by their names in the bag; ['all'] plays all."


def message_class(name: str) -> type | None:
    """Return the Python class of 'package/msg/Name'; None if that package is not installed."""
    match = MESSAGE_TYPE.fullmatch(name)
    if not match:
        return None
    try:
        return getattr(importlib.import_module(f'{match[1]}.msg'), match[2], None)
    except ImportError:
        return None


class ReplayNode(Node):
    """Publishes the messages of a bag at the rate of their recording.

    Raises:
        InputError: the bag or a requested topic does not exist, or a parameter is refused.
        ParameterException: the parameter topics has the wrong type.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__('replay_node', **kwargs)
        guard_services(self)
        self.options = declare(self, PARAMETERS)
        self.topics = self.declare_parameter(
            'topics', ['all'], ParameterDescriptor(description=TOPICS, read_only=True)
        ).value
        for sentence in unknown_overrides(self, PARAMETERS):
            self.get_logger().warning(sentence)
        if not self.options.path:
            raise InputError('parameter', 'parameter path is empty; name a bag with -p path:=<folder or file>')
        self.bag = BagReader(self.options.path)
        if self.bag.damage:
            self.get_logger().error(str(self.bag.damage))
        self.sent: Counter[str] = Counter()
        self._clock_publisher = self.create_publisher(Clock, CLOCK_TOPIC, 10) if self.options.publish_clock else None
        self._clock_ns = 0
        # By topic name in the bag; ordinary remapping gives the topics other names on the graph.
        self._outputs = self._create_publishers()
        # Topics whose messages begin with a header, so that restamp can change it.
        self._with_header = {
            name
            for name, publisher in self._outputs.items()
            if next(iter(publisher.msg_type.get_fields_and_field_types().items()), None) == HEADER_FIELD
        }
        self._late = False
        self._stop: Callable[[], bool] = bool
        self._spun = time.monotonic()
        self._executor = SingleThreadedExecutor(context=self.context)
        self._executor.add_node(self)

    def destroy_node(self) -> None:
        """Close the bag and leave the graph."""
        if hasattr(self, '_executor'):
            self._executor.shutdown(timeout_sec=1)
            self.bag.close()
        super().destroy_node()

    def play(self, stop: Callable[[], bool]) -> int:
        """Play the bag once or, with loop, until stop() is true.

        Returns:
            Exit code: 0, or 1 when a part of the bag could not be read.
        """
        self._stop = stop
        if self.options.wait_for_subscribers:
            self._await_subscribers()
        code = 0
        while not self._stop():
            try:
                self._play_once()
            except InputError as damage:
                code = 1
                if damage is not self.bag.damage:  # that one has been logged when the bag was opened
                    self.get_logger().error(str(damage))
            if not self.options.loop or not self.sent:
                break
        if not self._stop():
            self._finish()
        return code

    def _create_publishers(self) -> dict[str, Publisher]:
        """Create a publisher for each requested topic whose type is installed; log the others once."""
        names = self.bag.topics if 'all' in self.topics else self.topics
        publishers, unknown = {}, []
        for topic in [self.bag.topics[self.bag.topic_name(name)] for name in names]:
            if topic.name == CLOCK_TOPIC and self._clock_publisher:
                self.get_logger().info(
                    'the /clock of the bag is not played, because publish_clock publishes one at this rate'
                )
                continue
            kind = message_class(topic.type)
            if kind is None:
                unknown.append(f'{topic.name} ({topic.type})')
            else:
                publishers[topic.name] = self.create_publisher(kind, topic.name, self._qos(topic))
        if unknown:
            self.get_logger().warning(
                f'not played, because their message packages are not installed: {", ".join(unknown)}'
            )
        if not any(self.bag.topics[name].count for name in publishers):
            raise InputError(
                'bag_empty',
                f'{self.bag.path} has no message that can be played; its topics are '
                f'{", ".join(self.bag.topics) or "none"}',
            )
        return publishers

    def _qos(self, topic: Topic) -> QoSProfile:
        reliable = self.options.reliability == 'reliable'
        if self.options.reliability == 'auto':
            reliable = topic.reliable is not False
        return QoSProfile(
            depth=HISTORY,
            reliability=ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT,
            durability=DurabilityPolicy.TRANSIENT_LOCAL if topic.latched else DurabilityPolicy.VOLATILE,
        )

    def _await_subscribers(self) -> None:
        """Wait until there is a subscriber and no further one has come for SETTLE_S."""
        self.get_logger().info('waiting for subscribers')
        known, since = 0, time.monotonic()
        while not self._stop() and (known == 0 or time.monotonic() - since < SETTLE_S):
            self._executor.spin_once(timeout_sec=0.05)
            count = sum(publisher.get_subscription_count() for publisher in self._outputs.values())
            if count != known:
                known, since = count, time.monotonic()

    def _play_once(self) -> None:
        """Play from start_s to the end."""
        first_ns = self.bag.start_ns + round(self.options.start_s * 1e9)
        # Opened before the clock starts, because seeking in a large bag takes a moment.
        messages = self.bag.messages(self._outputs, self.options.start_s)
        epoch_ns = time.time_ns() if self.options.restamp else None
        timeline = Timeline(first_ns, self.options.rate, time.monotonic(), epoch_ns)
        self._clock_ns = 0
        for message in messages:
            self._wait(timeline, message.stamp_ns)
            if self._stop():
                return
            self._publish(timeline, message)

    def _wait(self, timeline: Timeline, recorded_ns: int) -> None:
        """Serve parameters and publish the clock until a message is due."""
        due = timeline.due(recorded_ns)
        while not self._stop():
            now = time.monotonic()
            if now >= due and now - self._spun < SPIN_PERIOD_S:
                break
            self._tick(timeline.published(min(timeline.recorded(now), recorded_ns)))
            self._executor.spin_once(timeout_sec=max(0.0, min(due - now, CLOCK_PERIOD_S)))
            self._spun = time.monotonic()
        if not self._late and time.monotonic() - due > LATE_S:
            self._late = True
            self.get_logger().warning(
                f'this machine cannot play the bag at rate {self.options.rate:g}; messages are '
                'late, but none is lost: choose a lower rate or fewer topics'
            )

    def _tick(self, stamp_ns: int) -> None:
        """Publish the time, unless it has been published already."""
        if self._clock_publisher and stamp_ns > self._clock_ns:
            self._clock_ns = stamp_ns
            self._clock_publisher.publish(Clock(clock=stamp_msg(stamp_ns)))

    def _publish(self, timeline: Timeline, message: BagMessage) -> None:
        # The clock first, so that no message is in the future for a subscriber on simulated time.
        self._tick(timeline.published(message.stamp_ns))
        raw = message.raw
        if timeline.epoch_ns is not None and message.topic in self._with_header:
            raw = restamped(raw, timeline.published)
        self._outputs[message.topic].publish(raw)
        self.sent[message.topic] += 1

    def _finish(self) -> None:
        """Wait until the last messages are delivered and log the number of messages."""
        deadline = time.monotonic() + ACK_S
        publishers = self._outputs.values()
        lagging = [p.topic_name for p in publishers if not self._acknowledged(p, deadline)]
        if self._stop():
            return
        if lagging:
            self.get_logger().warning(f'not acknowledged within {ACK_S:g} s: {", ".join(lagging)}')
        counts = ', '.join(f'{self.sent[name]} on {p.topic_name}' for name, p in self._outputs.items())
        self.get_logger().info(f'end of {self.bag.path}, messages sent: {counts}')

    def _acknowledged(self, publisher: Publisher, deadline: float) -> bool:
        """Wait until every subscriber has acknowledged the messages, in short steps so that a signal ends it too."""
        while not self._stop():
            if publisher.wait_for_all_acked(Duration(seconds=0.1)):
                return True
            if time.monotonic() > deadline:
                return False
        return False


def main(args: list[str] | None = None) -> int:
    """Play a bag and return the exit code."""
    return process.run(ReplayNode, args, serve=ReplayNode.play)


if __name__ == '__main__':
    sys.exit(main())
