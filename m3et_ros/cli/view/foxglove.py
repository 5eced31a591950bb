"""`m3et view --foxglove`: running robots on a WebSocket of this machine, to which the program Foxglove connects."""

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from m3et_ros.cli.output import Refused, print_line, print_status
from m3et_ros.cli.robots import Robots
from m3et_ros.cli.view.foxglove_messages import (
    ANTICIPATION_SCHEMA,
    HEALTH_SCHEMA,
    Messages,
    anticipation_json,
    health_json,
)
from m3et_ros.cli.view.messages import boxes_of
from m3et_ros.cli.view.streams import RobotStreams
from m3et_ros.data.errors import InputError
from m3et_ros.ros.convert import stamp_ns

PORT = 8765
"""The port to which Foxglove connects unless it is told another one."""
LOOPBACK = '127.0.0.1'
BACKLOG = 64
"""Messages that wait for a slow client before the oldest is dropped; an image may have a megabyte."""
POLL_S = 0.25
"""Seconds between two looks at what is subscribed to."""
HEALTH_S = 1.0
LAYOUT = 'm3et.foxglove.json'


def run_foxglove(robots: Robots, stopped: threading.Event, *, namespaces: Sequence[str] = (), port: int = PORT) -> None:
    """Serve robots until `stopped` is set; only what a client subscribes to is received and encoded.

    Args:
        robots: connection to the graph.
        stopped: ends it.
        namespaces: the robots; none for all that are there, also those that come later.
        port: port on loopback; 0 takes a free one.

    Raises:
        Refused: the port is in use.
    """
    import foxglove

    from m3et_ros.ros.process import share

    context = foxglove.Context()
    try:
        server = foxglove.start_server(
            name='m3et', host=LOOPBACK, port=port, context=context, message_backlog_size=BACKLOG
        )
    except RuntimeError as error:
        raise Refused(
            f'{LOOPBACK}:{port} cannot be listened on ({error}); give another --port, or 0 for a free one.'
        ) from error
    try:
        print_line(f'Robots are served on ws://{LOOPBACK}:{server.port}')
        print_status(f'm3et: open it in Foxglove and import the layout {share("config", LAYOUT)}; Ctrl-C ends it.')
        LiveServer(robots, context, namespaces).run(stopped)
    finally:
        server.stop()


class LiveServer:
    """Robots that are served as clients subscribe to them."""

    def __init__(self, robots: Robots, context: Any, namespaces: Sequence[str]):
        self._robots, self._context, self._namespaces = robots, context, namespaces
        self._arrived = threading.Event()
        self._served: dict[str, ServedRobot] = {}

    def run(self, stopped: threading.Event) -> None:
        """Serve until `stopped` is set."""
        polled = float('-inf')
        try:
            while not stopped.is_set():
                if time.monotonic() - polled >= POLL_S:
                    polled = time.monotonic()
                    for namespace in self._namespaces or self._robots.namespaces():
                        if namespace not in self._served:
                            streams = RobotStreams(self._robots.robot(namespace), self._arrived)
                            self._served[namespace] = ServedRobot(streams, self._context)
                            print_status(f'm3et: serving {namespace}.')
                    for robot in self._served.values():
                        robot.follow()
                self._arrived.wait(POLL_S)
                self._arrived.clear()
                for robot in self._served.values():
                    robot.send()
        finally:
            for robot in self._served.values():
                robot.streams.close()


class ServedRobot:
    """The channels of a robot.

    Args:
        streams: its messages.
        context: context of foxglove, to which the server belongs.
    """

    def __init__(self, streams: RobotStreams, context: Any):
        from foxglove import Channel, channels

        self.streams = streams
        namespace = streams.robot.namespace
        self._messages = Messages(namespace)
        self._health_s = 0.0
        self._newest_ns = 0
        make: dict[str, Callable[[str], Any]] = {
            'rgb': lambda topic: channels.CompressedImageChannel(topic, context=context),
            'depth': lambda topic: channels.RawImageChannel(topic, context=context),
            'camera_info': lambda topic: channels.CameraCalibrationChannel(topic, context=context),
            'tf': lambda topic: channels.FrameTransformChannel(topic, context=context),
            'model/depth': lambda topic: channels.RawImageChannel(topic, context=context),
            'model/overlay': lambda topic: channels.CompressedImageChannel(topic, context=context),
            'model/answer': lambda topic: channels.LogChannel(topic, context=context),
            'model/boxes': lambda topic: channels.ImageAnnotationsChannel(topic, context=context),
            'model/places': lambda topic: channels.SceneUpdateChannel(topic, context=context),
            'model/things': lambda topic: channels.SceneUpdateChannel(topic, context=context),
            'model/anticipation': lambda topic: Channel(topic, schema=ANTICIPATION_SCHEMA, context=context),
            'model/health': lambda topic: Channel(topic, schema=HEALTH_SCHEMA, context=context),
        }
        self._channels = {name: create(f'{namespace}/{name}') for name, create in make.items()}

    def follow(self) -> None:
        """Receive what a client subscribes to, and no more."""
        self.streams.want({SOURCES[name] for name in SOURCES if self._wanted(name)})

    def send(self) -> None:
        """Encode and send what has arrived, and the health once a second."""
        for stream, message in self.streams.take():
            try:
                self._send(stream, message)
            except InputError as error:
                self.streams.report(error)
        if time.monotonic() - self._health_s >= HEALTH_S and self._wanted('model/health'):
            self._health_s = time.monotonic()
            self._log('model/health', health_json(self.streams.robot.health), self._newest_ns or time.time_ns())

    def _send(self, stream: str, message: Any) -> None:
        make = self._messages
        if stream == 'markers':
            if found := boxes_of(message):
                self._log('model/things', make.things(*found), found[0])
            return
        stamp = stamp_ns(message.header.stamp)
        self._newest_ns = max(self._newest_ns, stamp)
        if stream == 'rgb':
            self._log('rgb', make.picture(message), stamp)
        elif stream == 'overlay':
            self._log('model/overlay', make.picture(message), stamp)
        elif stream in ('depth', 'completed'):
            self._log('depth' if stream == 'depth' else 'model/depth', make.depth(message), stamp)
        elif stream == 'info':
            if self._wanted('camera_info'):
                self._log('camera_info', make.calibration(message), stamp)
            if self._wanted('tf'):
                self._log('tf', make.transform(message), stamp)
        elif stream == 'anticipation':
            self._log('model/anticipation', anticipation_json(message), stamp)
        elif stream == 'answer':
            if self._wanted('model/answer'):
                self._log('model/answer', make.log(message), stamp)
            if message.places and self._wanted('model/boxes'):
                self._log('model/boxes', make.boxes(message), stamp)
            if message.places and self._wanted('model/places'):
                self._log('model/places', make.scene(message), stamp)

    def _wanted(self, name: str) -> bool:
        return self._channels[name].has_sinks()

    def _log(self, name: str, message: Any, stamp: int) -> None:
        self._channels[name].log(message, log_time=stamp)


SOURCES = {
    'rgb': 'rgb',
    'depth': 'depth',
    'camera_info': 'info',
    'tf': 'info',
    'model/depth': 'completed',
    'model/overlay': 'overlay',
    'model/answer': 'answer',
    'model/boxes': 'answer',
    'model/places': 'answer',
    'model/things': 'markers',
    'model/anticipation': 'anticipation',
}
"""Stream from which each channel is made; health comes with the connection."""
