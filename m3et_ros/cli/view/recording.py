"""The last minute of what the page shows, and its bag.

Colour is stored as the JPEG that the page shows; measured depth, answers, anticipations, labels and camera_info as they
came. The noise of sensors leaves nothing to a fast packer, so depth waits unpacked; the bag compresses it. The bag has
the topics and types that `m3et replay` and `m3et evaluate` read.
"""

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from m3et_ros.data.bags.writer import BagWriter
from m3et_ros.data.errors import InputError
from m3et_ros.data.frame import NANOSECONDS

SECONDS = 60.0
MOST_BYTES = 400 << 20
"""A minute of VGA depth and colour at 10 Hz takes 396 MB; beyond this the oldest messages go earlier."""


@dataclass(frozen=True)
class Stored:
    """A message that waits for a recording."""

    at_ns: int
    topic: str
    kind: str
    # CDR.
    data: bytes


class LastMinute:
    """The messages of the last minute, within a number of bytes; usable from any thread.

    Args:
        seconds: the time.
        most_bytes: limit of the stored bytes.
        clock: nanoseconds since the epoch.
    """

    def __init__(self, seconds: float = SECONDS, most_bytes: int = MOST_BYTES, clock: Callable[[], int] = time.time_ns):
        self._window_ns, self._most, self._clock = round(seconds * NANOSECONDS), most_bytes, clock
        self._lock = threading.Lock()
        self._stored: deque[Stored] = deque()
        self._standing: dict[str, Stored] = {}
        self.size = 0

    def add(self, topic: str, kind: str, data: bytes, *, standing: bool = False) -> None:
        """Store a message that came now.

        Args:
            topic: its full name.
            kind: its type, for example 'sensor_msgs/msg/Image'.
            data: the message in CDR.
            standing: the last one of the topic holds for good, so it is in every bag, however old.
        """
        now = self._clock()
        one = Stored(now, topic, kind, data)
        with self._lock:
            if standing:
                self._standing[topic] = one
                return
            self._stored.append(one)
            self.size += len(one.data)
            while self._stored and (self._stored[0].at_ns < now - self._window_ns or self.size > self._most):
                self.size -= len(self._stored.popleft().data)

    @property
    def seconds(self) -> float:
        """Seconds from the oldest message to the newest."""
        with self._lock:
            return (self._stored[-1].at_ns - self._stored[0].at_ns) / NANOSECONDS if self._stored else 0.0

    def holds(self, topic: str) -> bool:
        """Return True if there is a message of a topic that holds for good."""
        return topic in self._standing

    def clear(self) -> None:
        """Drop everything."""
        with self._lock:
            self._stored.clear()
            self._standing.clear()
            self.size = 0

    def write(self, path: Path) -> int:
        """Write a bag and return the number of its messages.

        Args:
            path: folder to create.

        Raises:
            InputError: 'recording_empty', nothing is stored yet; 'bag_exists'; 'out_unwritable'.
        """
        with self._lock:
            stored, standing = list(self._stored), list(self._standing.values())
        if not stored:
            raise InputError(
                'recording_empty', 'Nothing has been shown in the last minute, so there is nothing to record.'
            )
        try:
            with BagWriter(path, zstd=True) as bag:
                for one in standing:
                    bag.write_serialized(one.topic, one.kind, one.data, stored[0].at_ns, latched=True)
                for one in stored:
                    bag.write_serialized(one.topic, one.kind, one.data, one.at_ns)
        except OSError as error:
            raise InputError(
                'out_unwritable',
                f'{path} cannot be written ({error.strerror}); make room, or give another folder with --out.',
            ) from error
        return len(standing) + len(stored)
