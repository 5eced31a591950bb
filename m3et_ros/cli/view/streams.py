"""The topics of a robot that Rerun and Foxglove show, and their newest messages."""

import threading
from collections import deque
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from m3et_ros.cli.output import print_status
from m3et_ros.cli.robots import Listening, Robot
from m3et_ros.cli.view.messages import RESULTS
from m3et_ros.data.bags.cdr import from_cdr
from m3et_ros.data.errors import InputError
from m3et_ros.ros.interfaces import Interface

WAITING = 100
"""Messages of a small stream that wait while others are shown; of an image only the newest does."""
IMAGES = ('rgb', 'depth', 'completed', 'mask', 'overlay')
LATCHED = ('labels', 'info')


@dataclass(frozen=True)
class Stream:
    """A topic with its type."""

    topic: str
    kind: type

    @property
    def type_name(self) -> str:
        """ROS name of the type, for example 'sensor_msgs/msg/Image'."""
        return Interface(self.topic, self.kind, '').type_name


def streams_of(robot: Robot) -> dict[str, Stream]:
    """Return the streams of a robot by name: 'rgb', 'depth' and 'info' of its camera, and RESULTS.

    Those of the camera are absent until the node has reported which topics it reads.
    """
    camera = robot.camera_topics
    found = {name: Stream(result.name, result.kind) for name, result in RESULTS.items()}
    for name in ('rgb', 'depth'):
        if topic := camera.get(name):
            packed = topic.endswith(('/compressed', '/compressedDepth'))
            found[name] = Stream(topic, CompressedImage if packed else Image)
    if topic := camera.get('camera_info'):
        found['info'] = Stream(topic, CameraInfo)
    return found


class RobotStreams:
    """Newest messages of one robot, received on the thread of the connection and taken by another.

    Args:
        robot: the robot.
        arrived: set when a message comes.

    Attributes:
        replaced: images that a newer one has replaced before they were taken.
    """

    def __init__(self, robot: Robot, arrived: threading.Event):
        self.robot = robot
        self.replaced = 0
        self._arrived = arrived
        self._lock = threading.Lock()
        self._waiting: dict[str, deque[bytes]] = {}
        self._listening: dict[str, tuple[Stream, Listening]] = {}
        self._reported: set[str] = set()

    def want(self, names: Collection[str]) -> None:
        """Listen to the streams of these names, and end the others; call it about twice a second.

        The topics of a camera may change, for example from raw to compressed images; the feed follows them.
        """
        streams = streams_of(self.robot)
        for name, (stream, listening) in list(self._listening.items()):
            if streams.get(name) != stream or name not in names:
                listening.close()
                del self._listening[name]
        for name, stream in streams.items():
            if name in self._listening or name not in names:
                continue
            waiting = self._waiting[name] = deque(maxlen=1 if name in IMAGES else WAITING)
            listening = self.robot.listen(
                stream.topic,
                stream.kind,
                lambda raw, waiting=waiting: self._put(waiting, raw),
                raw=True,
                latched=name in LATCHED,
            )
            self._listening[name] = stream, listening

    def take(self) -> list[tuple[str, Any]]:
        """Return the waiting messages with the names of their streams; what cannot be read is reported once."""
        with self._lock:
            raw = [(name, message) for name, waiting in self._waiting.items() for message in waiting]
            for waiting in self._waiting.values():
                waiting.clear()
        messages = []
        for name, data in raw:
            if name not in self._listening:
                continue
            try:
                messages.append((name, from_cdr(data, self._listening[name][0].type_name)))
            except InputError as error:
                self.report(error)
        return messages

    def report(self, error: InputError) -> None:
        """Print why a message is left out, once for each reason."""
        if error.reason not in self._reported:
            self._reported.add(error.reason)
            print_status(f'm3et: {self.robot.namespace}: {error}; such messages are left out.')

    def close(self) -> None:
        """End all subscriptions."""
        for _, listening in self._listening.values():
            listening.close()
        self._listening.clear()

    def _put(self, waiting: deque[bytes], raw: bytes) -> None:
        with self._lock:
            self.replaced += waiting.maxlen == 1 and len(waiting) == 1
            waiting.append(raw)
        self._arrived.set()
