"""A robot as the pages show it: its pictures, answers, actions and health, made once for all browsers."""

import json
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from m3et_ros.cli.ask.app import answer_dict
from m3et_ros.cli.output import json_text
from m3et_ros.cli.robots import Listening, Robots
from m3et_ros.cli.view.pictures import DepthPainter, NewestWorker, Pace, PagePicture, colour_picture, mask_picture
from m3et_ros.cli.view.recording import LastMinute
from m3et_ros.data.bags.cdr import from_cdr, typestore
from m3et_ros.data.errors import InputError
from m3et_ros.data.frame import NANOSECONDS
from m3et_ros.data.images.compressed import encode_rgb
from m3et_ros.data.images.messages import rgb_from_msg
from m3et_ros.ros import interfaces

PICTURES = ('colour', 'depth', 'mask')
PACED = (*PICTURES, 'measured', 'anticipation')
ANSWERS = 50
"""Answers that a page shows."""
STANDING_S = 3.0
"""An answer to the question of the one before, at most so much later, takes its place: a standing instruction is
answered for every frame."""
MEASURED = 40
"""Depth images of the camera that wait for the completed one of their stamp."""
TOP = 3
"""Candidates of each list of actions."""
META = struct.Struct('<I')
"""Length of the JSON in front of a picture."""
IMAGE, PACKED = 'sensor_msgs/msg/Image', 'sensor_msgs/msg/CompressedImage'
Send = Callable[[Hashable, str | bytes], None]


@dataclass(frozen=True)
class FeedOptions:
    """Rate and size of pictures.

    Attributes:
        rate: pictures per second of each kind.
        width: largest width in pixels.
    """

    rate: float = 10.0
    width: int = 640


@dataclass(frozen=True)
class Source:
    """A topic that is read.

    Attributes:
        topic: full name.
        kind: message type.
        callback: receives the message in CDR.
        latched: also ask for the last message.
    """

    topic: str
    kind: type
    callback: Callable[[bytes], None]
    latched: bool = False


class RobotFeed:
    """The pictures and messages of one robot, for the browsers that look at it; closed when the last of them leaves.

    Args:
        robots: connection to the graph.
        namespace: namespace of the robot.
        options: rate and size of pictures.
        send: receives a name and a message for all browsers of the robot, on any thread; of two messages of a name
            the newer counts.
    """

    def __init__(self, robots: Robots, namespace: str, options: FeedOptions, send: Send):
        self.namespace, self.robot, self.last_minute = namespace, robots.robot(namespace), LastMinute()
        # Sentence by kind for pictures that cannot be shown.
        self.troubles: dict[str, str] = {}
        self._robots, self._options, self._send = robots, options, send
        self._reading: dict[str, tuple[type, Listening]] = {}
        self._paces = {kind: Pace(options.rate) for kind in PACED}
        self._painter = DepthPainter(options.width)
        self._measured: deque[tuple[int, str, bytes]] = deque(maxlen=MEASURED)
        self._lock = threading.Lock()
        self._answers: deque[dict[str, Any]] = deque(maxlen=ANSWERS)
        self._answered = 0
        # The newest message of each name but answers, for browsers that come later.
        self._newest: dict[Hashable, str | bytes] = {}
        self._worker = NewestWorker(self._failed)

    def refresh(self, wanted: set[str]) -> None:
        """Follow the topics of the robot, and read only what somebody looks at.

        Args:
            wanted: kinds of pictures, of PICTURES.
        """
        desired = {source.topic: source for source in self._desired(wanted)}
        for topic, (kind, listening) in list(self._reading.items()):
            if topic not in desired or desired[topic].kind is not kind:
                listening.close()
                del self._reading[topic]
        for topic, source in desired.items():
            if topic not in self._reading:
                listening = self._robots.listen(topic, source.kind, source.callback, raw=True, latched=source.latched)
                self._reading[topic] = source.kind, listening
        for name in set(PICTURES) - wanted:
            self._newest.pop(name, None)

    def close(self) -> None:
        """Read nothing any more."""
        for _, listening in self._reading.values():
            listening.close()
        self._reading.clear()
        self._worker.close()
        self.last_minute.clear()

    def snapshot(self) -> dict[Hashable, str | bytes]:
        """Return what a browser that comes now has missed."""
        with self._lock:
            answers: dict[Hashable, str | bytes] = {('answer', one['id']): json_text(one) for one in self._answers}
        return dict(self._newest) | answers

    def add_answer(self, answer: Any) -> int:
        """Add an answer of the robot once, be it from a topic or to a question from here; return its number.

        Args:
            answer: m3et_ros/msg/Answer.
        """
        now = time.time()
        told = answer_dict(answer)
        alike = ('question', 'scope', 'stamp_ns', 'text')
        with self._lock:
            for one in self._answers:
                if all(one['answer'][key] == told[key] for key in alike):
                    return one['id']
            newest = self._answers[-1] if self._answers else None
            if newest and now - newest['at'] < STANDING_S and newest['answer']['question'] == told['question']:
                number, times = newest['id'], newest['times'] + 1
                self._answers.pop()
            else:
                self._answered += 1
                number, times = self._answered, 1
            entry = {'type': 'answer', 'id': number, 'at': now, 'times': times, 'answer': told}
            self._answers.append(entry)
        self._send(('answer', number), json_text(entry))
        return number

    def metres_at(self, u: float, v: float) -> float | None:
        """Return the completed depth at a place of the newest picture, as `DepthPainter.metres_at`."""
        return self._painter.metres_at(u, v)

    def _desired(self, wanted: set[str]) -> list[Source]:
        camera = self.robot.camera_topics
        sources = [
            self._own(interfaces.ANSWER, self._on_answer),
            self._own(interfaces.ANTICIPATION, self._on_anticipation),
            self._own(interfaces.LABELS, self._on_labels, latched=True),
        ]
        if 'colour' in wanted and camera.get('rgb'):
            sources.append(self._image(camera['rgb'], self._on_colour))
            name = camera.get('camera_info')
            # The first one is enough for the recording.
            if name and not self.last_minute.holds(name):
                sources.append(Source(name, CameraInfo, partial(self._on_info, name), latched=True))
        if 'depth' in wanted:
            sources.append(self._own(interfaces.DEPTH_COMPLETED, self._on_depth))
            if camera.get('depth'):
                sources.append(self._image(camera['depth'], self._on_measured))
        if 'mask' in wanted:
            sources.append(self._own(interfaces.MASK, self._on_mask))
        return sources

    def _own(
        self, interface: interfaces.Interface, callback: Callable[[str, bytes], None], *, latched: bool = False
    ) -> Source:
        topic = f'{self.namespace}/model{interface.name.removeprefix("~")}'
        return Source(topic, interface.kind, partial(callback, topic), latched)

    def _image(self, topic: str, callback: Callable[[str, str, bytes], None]) -> Source:
        # Only a topic that is not read yet is looked up, because that costs as much as a picture.
        if topic in self._reading:
            packed = self._reading[topic][0] is CompressedImage
        else:
            packed = PACKED in dict(self._robots.node.get_topic_names_and_types()).get(topic, [])
        kind, name = (CompressedImage, PACKED) if packed else (Image, IMAGE)
        return Source(topic, kind, partial(callback, topic, name))

    def _publish(self, name: Hashable, message: str | bytes) -> None:
        self._newest[name] = message
        self._send(name, message)

    def _failed(self, kind: str, sentence: str) -> None:
        self.troubles[kind] = sentence

    # The callbacks run on the thread of the connection: they choose messages and leave the rest to the worker.

    def _on_colour(self, topic: str, kind: str, raw: bytes) -> None:
        if self._paces['colour'].due(stamp_of(raw)):
            self._worker.submit('colour', lambda: self._colour(topic, kind, raw))

    def _on_measured(self, topic: str, kind: str, raw: bytes) -> None:
        stamp = stamp_of(raw)
        self._measured.append((stamp, kind, raw))
        if self._paces['measured'].due(stamp):
            self.last_minute.add(topic, kind, raw)

    def _on_depth(self, _: str, raw: bytes) -> None:
        if self._paces['depth'].due(stamp_of(raw)):
            self._worker.submit('depth', lambda: self._depth(raw))

    def _on_mask(self, _: str, raw: bytes) -> None:
        if self._paces['mask'].due(stamp_of(raw)):
            self._worker.submit('mask', lambda: self._show(mask_picture(from_cdr(raw, IMAGE), self._options.width)))

    def _on_info(self, topic: str, raw: bytes) -> None:
        self.last_minute.add(topic, 'sensor_msgs/msg/CameraInfo', raw, standing=True)

    def _on_labels(self, topic: str, raw: bytes) -> None:
        self.last_minute.add(topic, 'm3et_ros/msg/LabelMap', raw, standing=True)
        labels = from_cdr(raw, 'm3et_ros/msg/LabelMap')
        classes = [
            {'id': int(number), 'name': name, 'colour': [round(255 * c) for c in (colour.r, colour.g, colour.b)]}
            for number, name, colour in zip(labels.ids, labels.names, labels.colors, strict=True)
        ]
        self._publish('labels', json_text({'type': 'labels', 'classes': classes}))

    def _on_anticipation(self, topic: str, raw: bytes) -> None:
        if not self._paces['anticipation'].due(stamp_of(raw)):
            return
        self.last_minute.add(topic, 'm3et_ros/msg/ActionAnticipation', raw)
        message = from_cdr(raw, 'm3et_ros/msg/ActionAnticipation')
        document: dict[str, Any] = {'type': 'actions', 'stamp': stamp_of(raw) / NANOSECONDS}
        document['horizon_s'] = message.horizon_s
        for name, actions in (('now', message.current_actions), ('next', message.actions)):
            document[name] = [{'label': one.label, 'score': one.score} for one in actions[:TOP]]
        self._publish('actions', json_text(document))

    def _on_answer(self, topic: str, raw: bytes) -> None:
        self.last_minute.add(topic, 'm3et_ros/msg/Answer', raw)
        self.add_answer(from_cdr(raw, 'm3et_ros/msg/Answer'))

    def _colour(self, topic: str, kind: str, raw: bytes) -> None:
        message = from_cdr(raw, kind)
        picture = colour_picture(message, self._options.width)
        self._show(picture)
        if kind == PACKED:
            self.last_minute.add(topic, kind, raw)
            return
        # Depth and camera_info belong to the whole image, so a smaller picture will not do.
        whole = picture.data if picture.size[0] <= self._options.width else encode_rgb(rgb_from_msg(message))[1]
        store = typestore()
        packed = store.types[PACKED](
            header=message.header, format='rgb8; jpeg compressed bgr8', data=np.frombuffer(whole, np.uint8)
        )
        self.last_minute.add(f'{topic}/compressed', PACKED, bytes(store.serialize_cdr(packed, PACKED)))

    def _depth(self, raw: bytes) -> None:
        stamp = stamp_of(raw)
        measured = next((from_cdr(data, kind) for at, kind, data in list(self._measured) if at == stamp), None)
        self._show(self._painter.paint(from_cdr(raw, IMAGE), measured))

    def _show(self, picture: PagePicture) -> None:
        self.troubles.pop(picture.kind, None)
        facts = {'kind': picture.kind, 'stamp': picture.stamp_ns / NANOSECONDS, 'size': picture.size, **picture.facts}
        head = json.dumps(facts).encode()
        self._publish(picture.kind, META.pack(len(head)) + head + picture.data)


def stamp_of(raw: bytes) -> int:
    """Return the stamp in ns of a message in CDR that begins with a header.

    Raises:
        InputError: 'message', it is too short.
    """
    if len(raw) < 12:
        raise InputError('message', f'{len(raw)} bytes hold no header; correct their publisher')
    seconds, rest = struct.unpack_from('<iI' if raw[1] & 1 else '>iI', raw, 4)
    return seconds * NANOSECONDS + rest
