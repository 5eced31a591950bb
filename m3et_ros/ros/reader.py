"""A subscription to whichever transport of an image is published, which speaks up when nothing comes."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from rclpy.node import Node

from m3et_ros.data.cdr import from_cdr
from m3et_ros.data.errors import InputError
from m3et_ros.ros.diagnostics import Counters
from m3et_ros.ros.intake import Intake
from m3et_ros.ros.interfaces import Interface
from m3et_ros.ros.qos import FollowingSubscription, SilentTopicWatch


class TopicReader:
    """Reads one of several transports of the same topic.

    With 'auto' the first transport that somebody publishes is read, in the order given. `follow` is called every half
    second or so, because publishers come and go.
    """

    def __init__(self, node: Node, transports: Mapping[str, Interface], callback: Callable[[Any], None], *,
                 counters: Counters, transport: str = 'auto', reliability: str = 'auto', watched: bool = False,
                 intake: Intake | None = None, refuse: Callable[[InputError], None] | None = None):
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
            self._node, transport.kind, transport.name, partial(self._heard, transport), reliability=self._reliability,
            counters=self._counters, intake=self._intake, raw=self._refuse is not None)

    def _heard(self, transport: Interface, message: Any) -> None:
        if self._watch is not None:
            self._watch.heard()
        if self._refuse is not None:
            try:
                message = from_cdr(message, transport.type_name)
            except InputError as error:
                return self._refuse(error)
        self._callback(message)
