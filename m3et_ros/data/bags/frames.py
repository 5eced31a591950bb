"""Frames out of a bag for offline use: decoded, colour paired with depth by header stamp; same bag, same frames."""

import itertools
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from m3et_ros.data.bags.reader import CAMERA_INFO, COMPRESSED_IMAGE, IMAGE, BagReader, decode
from m3et_ros.data.bags.writer import COLOR_TOPIC, DEPTH_TOPIC, INFO_TOPIC
from m3et_ros.data.errors import InputError
from m3et_ros.data.frame import Frame
from m3et_ros.data.images.compressed import depth_from_compressed, rgb_from_compressed
from m3et_ros.data.images.messages import depth_from_msg, rgb_from_msg

# A colour image waits this long (in bag time) for depth before it goes out without.
PATIENCE_NS = 1_000_000_000


@dataclass(frozen=True)
class _Look:
    """One image message: stamp of its header, time of recording, message, type."""

    stamp_ns: int
    recorded_ns: int
    message: object
    type: str


def frames(
    bag: BagReader,
    *,
    rgb_topic: str = COLOR_TOPIC,
    depth_topic: str | None = DEPTH_TOPIC,
    info_topic: str | None = None,
    slop_s: float = 0.02,
    every: int = 1,
    spoiled: Callable[[InputError], None] | None = None,
) -> Iterator[Frame]:
    """Yield a frame for every colour image, in the order of recording.

    Args:
        bag: the recording.
        rgb_topic: raw or compressed images; for a topic that is not there, its '/compressed' form is taken.
        depth_topic: likewise with '/compressedDepth'; None leaves depth out.
        info_topic: intrinsics; None takes the RealSense topic where the bag has it.
        slop_s: largest distance of the two stamps in seconds; the nearest depth within it is used, otherwise none.
        every: n for only every n-th colour image, beginning with the first; the others are not decoded.
        spoiled: called for each frame whose images cannot be decoded or differ in size, which is left out; None raises.

    Raises:
        InputError: 'bag_topic' or 'bag_type' for a topic that is missing or not an image, 'depth_size' when depth and
            colour differ in size, 'bag_truncated' after the last readable frame, and the refusals of the image codec.
    """
    if slop_s < 0:
        raise ValueError(f'slop_s is {slop_s}; give 0 or more seconds')
    if every < 1:
        raise ValueError(f'every is {every}; give 1 or more')
    rgb_topic = image_topic(bag, rgb_topic, 'compressed')
    depth_topic = depth_topic and image_topic(bag, depth_topic, 'compressedDepth')
    if info_topic is None:
        info_topic = INFO_TOPIC if INFO_TOPIC in bag.topics else None
    else:
        bag.topic_name(info_topic, CAMERA_INFO)
    looks = _pairs(bag, rgb_topic, depth_topic, info_topic, round(slop_s * 1e9))
    return _decoded(itertools.islice(looks, 0, None, every), spoiled)


def image_topic(bag: BagReader, name: str, suffix: str) -> str:
    """Return `name`, or `name`/`suffix` where only that was recorded; InputError when neither is an image topic."""
    compressed = f'{name}/{suffix}'
    return bag.topic_name(
        compressed if name not in bag.topics and compressed in bag.topics else name, IMAGE, COMPRESSED_IMAGE
    )


def _pairs(
    bag: BagReader, rgb_topic: str, depth_topic: str | None, info_topic: str | None, slop_ns: int
) -> Iterator[tuple[_Look, _Look | None, np.ndarray | None]]:
    """Walk the bag once; a colour image leaves when a depth at least as new has come, or when it waited too long."""
    waiting: deque[_Look] = deque()
    depths: deque[_Look] = deque()
    K = None
    damage = None
    messages = bag.messages([name for name in (rgb_topic, depth_topic, info_topic) if name])
    while True:
        try:
            item = next(messages, None)
        except InputError as error:
            item, damage = None, error
        if item is None:
            break
        message = decode(item)
        if item.topic == info_topic:
            K = message.k.reshape(3, 3)
            continue
        stamp = message.header.stamp
        look = _Look(stamp.sec * 10**9 + stamp.nanosec, item.stamp_ns, message, item.type)
        (waiting if item.topic == rgb_topic else depths).append(look)
        while waiting and (
            depth_topic is None
            or (depths and depths[-1].stamp_ns >= waiting[0].stamp_ns)
            or item.stamp_ns - waiting[0].recorded_ns > PATIENCE_NS
        ):
            yield _pair(waiting.popleft(), depths, K, slop_ns)
    # The images that still wait were readable: they go out before the damage is told.
    while waiting:
        yield _pair(waiting.popleft(), depths, K, slop_ns)
    if damage:
        raise damage


def _pair(
    look: _Look, depths: deque[_Look], K: np.ndarray | None, slop_ns: int
) -> tuple[_Look, _Look | None, np.ndarray | None]:
    """One colour image with the nearest depth; depths that no later image can want are dropped."""
    while depths and depths[0].stamp_ns < look.stamp_ns - slop_ns:
        depths.popleft()
    near = min(depths, key=lambda depth: abs(depth.stamp_ns - look.stamp_ns), default=None)
    return look, near if near is not None and abs(near.stamp_ns - look.stamp_ns) <= slop_ns else None, K


def _decoded(pairs: Iterator[tuple], spoiled: Callable[[InputError], None] | None) -> Iterator[Frame]:
    """Decode one pair after the other."""
    for pair in pairs:
        try:
            frame = _frame(*pair)
        except InputError as error:
            if spoiled is None:
                raise
            spoiled(error)
            continue
        yield frame


def _frame(look: _Look, near: _Look | None, K: np.ndarray | None) -> Frame:
    """Decode one colour image and its depth."""
    rgb = (rgb_from_msg if look.type == IMAGE else rgb_from_compressed)(look.message)
    depth = None
    if near is not None:
        depth = (depth_from_msg if near.type == IMAGE else depth_from_compressed)(near.message)
        if depth.shape != rgb.shape[:2]:
            raise InputError(
                'depth_size',
                f'depth is {depth.shape[1]}x{depth.shape[0]} beside colour of '
                f'{rgb.shape[1]}x{rgb.shape[0]}; record the depth that is aligned to colour',
            )
    return Frame(rgb, depth, look.stamp_ns, frame_id=look.message.header.frame_id, K=K)
