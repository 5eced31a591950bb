"""The newest image of a robot with what it found there: picture, classes and their distances, all of one stamp."""

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import cv2
import numpy as np
from sensor_msgs.msg import CompressedImage, Image

from m3et_ros.cli.output import Refused
from m3et_ros.cli.robots import Robot, Robots
from m3et_ros.data.bags.cdr import from_cdr
from m3et_ros.data.frame import UNLABELLED
from m3et_ros.data.images.compressed import encode_rgb, rgb_from_compressed
from m3et_ros.data.images.messages import depth_from_msg, rgb_from_msg
from m3et_ros.msg import LabelMap
from m3et_ros.ros import interfaces
from m3et_ros.ros.convert import age_s, stamp_ns

Show = Literal['overlay', 'colour', 'depth']
"""Colours with the classes over them, colours alone, or distances as colours."""

REPORT_S = 5.0
"""Seconds that a robot which was just found may take to report; it does so once a second."""
LATCHED_S = 5.0
"""Seconds that the names of the classes may take, which their publisher keeps."""
STORED = 32
"""Messages of a topic that wait for those of the other topics with the same stamp."""
LONGEST_SIDE = 1024
"""Pixels; larger pictures are made smaller, because agents pay for each pixel."""
JPEG_QUALITY = 85
LEAST_SHARE = 0.001
"""Share of the image below which a class is not named."""
LEAST_KNOWN = 0.1
"""Share of a class whose depth must be known for a distance."""
DAY_S = 86_400.0


@dataclass(frozen=True)
class Seen:
    """A class in an image."""

    name: str
    # Of the pixels, 0..1.
    share: float
    # Median depth of its pixels in metres; None where less than LEAST_KNOWN of them has one.
    distance_m: float | None


@dataclass(frozen=True)
class Sight:
    """The newest image of a robot and what was found in it."""

    # JPEG, at most LONGEST_SIDE pixels wide and high.
    jpeg: bytes
    # Size of the camera's image in pixels, and pixels of the picture per pixel of it.
    width: int
    height: int
    scale: float
    frame_id: str
    stamp_ns: int
    # None where the clock of the image is not that of this computer.
    age_s: float | None
    # Largest share first.
    seen: tuple[Seen, ...]
    # Metres from which to which the colours of 'depth' go; None for other pictures.
    depth_range_m: tuple[float, float] | None


def look(robots: Robots, robot: Robot, show: Show, timeout_s: float) -> Sight:
    """Return the next image that the robot processes.

    Args:
        robots: the connection.
        robot: the robot.
        show: picture of it.
        timeout_s: longest wait in seconds.

    Raises:
        Refused: no such image has come in time, or the camera's topic is not known.
        InputError: an image cannot be decoded.
    """
    topics = {'mask': (interfaces.MASK.name, Image), 'depth': (interfaces.DEPTH_COMPLETED.name, Image)}
    if show == 'overlay':
        topics['picture'] = interfaces.OVERLAY.name, Image
    elif show == 'colour':
        topics['picture'] = colour_topic(robots, robot)
    found = same_stamp(robots, robot, topics, timeout_s)
    labels = robot.newest(interfaces.LABELS.name, LabelMap, LATCHED_S, latched=True)
    names = dict(zip(labels.ids, labels.names, strict=True))
    mask, depth = rgb_from_msg(found['mask'])[..., 0], depth_from_msg(found['depth'])
    depth_range = None
    if show == 'depth':
        picture, depth_range = depth_picture(depth)
    else:
        message = found['picture']
        picture = rgb_from_msg(message) if hasattr(message, 'encoding') else rgb_from_compressed(message)
    jpeg, scale = encode(picture)
    header = found['mask'].header
    age = age_s(header, robots.node.get_clock().now())
    return Sight(
        jpeg,
        mask.shape[1],
        mask.shape[0],
        scale,
        header.frame_id,
        stamp_ns(header.stamp),
        age if -1 < age < DAY_S else None,
        tuple(seen_classes(mask, depth, names)),
        depth_range,
    )


def colour_topic(robots: Robots, robot: Robot) -> tuple[str, type]:
    """Return the colour topic that the robot reads, with its type.

    Raises:
        Refused: the robot has not reported it within REPORT_S.
    """
    robots.node.wait(lambda: 'rgb' in robot.camera_topics, REPORT_S)
    topic = robot.camera_topics.get('rgb')
    if not topic:
        raise Refused(f'{robot.namespace} does not say which camera it reads: {robot.health.sentence}')
    return topic, CompressedImage if topic.endswith('/compressed') else Image


def same_stamp(
    robots: Robots, robot: Robot, topics: Mapping[str, tuple[str, type]], timeout_s: float
) -> dict[str, Any]:
    """Return the newest messages of several topics that have one stamp.

    Args:
        robots: the connection.
        robot: the robot.
        topics: name, and topic and type as `Robot.listen` takes them.
        timeout_s: longest wait in seconds.

    Raises:
        Refused: none have come in time.
    """
    arrived: dict[str, dict[int, Any]] = {name: {} for name in topics}

    def store(name: str, kind: type, data: bytes) -> None:
        message, messages = from_cdr(data, f'sensor_msgs/msg/{kind.__name__}'), arrived[name]
        messages[stamp_ns(message.header.stamp)] = message
        while len(messages) > STORED:
            del messages[next(iter(messages))]

    def common() -> set[int]:
        return set.intersection(*(set(messages) for messages in arrived.values()))

    with ExitStack() as stack:
        for name, (topic, kind) in topics.items():
            stack.enter_context(robot.listen(topic, kind, partial(store, name, kind), raw=True))
        if not robots.node.wait(lambda: bool(common()), timeout_s):
            silent = ', '.join(topics[name][0] for name, messages in arrived.items() if not messages)
            what = f'Nothing has come on {silent}' if silent else 'No results of one image have come'
            raise Refused(f'{what} within {timeout_s:g} s; {robot.namespace} says: {robot.health.sentence}')
        stamp = max(common())
        return {name: messages[stamp] for name, messages in arrived.items()}


def seen_classes(mask: np.ndarray, depth: np.ndarray, names: Mapping[int, str]) -> list[Seen]:
    """Return the classes in an image, largest share first.

    Args:
        mask: class ids (H, W) uint8, 255 unlabelled.
        depth: metres (H, W) float32, NaN unknown.
        names: names of the ids.
    """
    found = []
    for number, pixels in zip(*np.unique(mask, return_counts=True), strict=True):
        if number == UNLABELLED or pixels < LEAST_SHARE * mask.size:
            continue
        metres = depth[mask == number]
        metres = metres[np.isfinite(metres)]
        distance = float(np.median(metres)) if metres.size >= LEAST_KNOWN * pixels else None
        found.append(Seen(names.get(int(number), f'class {number}'), float(pixels / mask.size), distance))
    return sorted(found, key=lambda one: -one.share)


def depth_picture(depth: np.ndarray) -> tuple[np.ndarray, tuple[float, float] | None]:
    """Return depth as colours, near red and far blue, unknown black, and the metres of both ends.

    Args:
        depth: metres (H, W) float32, NaN unknown.

    Returns:
        (H, W, 3) uint8, R G B, and (nearest, furthest); None where no depth is known.
    """
    known = np.isfinite(depth)
    if not known.any():
        return np.zeros((*depth.shape, 3), np.uint8), None
    near, far = float(depth[known].min()), float(depth[known].max())
    scaled = np.where(known, (far - depth) / max(far - near, 1e-6), 0)
    picture = cv2.cvtColor(cv2.applyColorMap((255 * scaled).astype(np.uint8), cv2.COLORMAP_TURBO), cv2.COLOR_BGR2RGB)
    picture[~known] = 0
    return picture, (near, far)


def encode(picture: np.ndarray) -> tuple[bytes, float]:
    """Return a picture (H, W, 3) uint8, R G B, as JPEG and its scale, at most 1."""
    height, width = picture.shape[:2]
    scale = min(1.0, LONGEST_SIDE / max(height, width))
    if scale < 1:
        size = max(1, round(width * scale)), max(1, round(height * scale))
        picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    return encode_rgb(np.ascontiguousarray(picture), quality=JPEG_QUALITY)[1], scale
