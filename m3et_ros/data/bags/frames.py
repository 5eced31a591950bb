"""Frames of a bag for offline use: decoded, colour paired with depth by header stamp; the same bag, the same frames."""

import itertools
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from m3et_ros.data.bags.reader import CAMERA_INFO, COMPRESSED_IMAGE, IMAGE, BagReader, decode
from m3et_ros.data.bags.writer import COLOR_TOPIC, DEPTH_TOPIC, INFO_TOPIC
from m3et_ros.data.errors import InputError
from m3et_ros.data.frame import NANOSECONDS, Frame, check_aligned
from m3et_ros.data.images.compressed import depth_from_compressed, rgb_from_compressed
from m3et_ros.data.images.messages import depth_from_msg, rgb_from_msg

PATIENCE_NS = NANOSECONDS
"""Recorded time for which a colour image waits for its depth before it is yielded without."""


@dataclass(frozen=True)
class _RecordedImage:
    """One image message with the stamp of its header, the time of recording and its type."""

    stamp_ns: int
    recorded_ns: int
    message: Any
    type: str


_Pair = tuple[_RecordedImage, _RecordedImage | None, np.ndarray | None]
"""Colour, its depth or None, and the intrinsics or None."""


def frames(
    bag: BagReader,
    *,
    rgb_topic: str = COLOR_TOPIC,
    depth_topic: str | None = DEPTH_TOPIC,
    info_topic: str | None = None,
    slop_s: float = 0.02,
    every: int = 1,
    on_damaged: Callable[[InputError], None] | None = None,
    on_unpaired: Callable[[int], None] = lambda _: None,
) -> Iterator[Frame]:
    """Yield a frame for every colour image, in the order of recording.

    Args:
        bag: the recording.
        rgb_topic: raw or compressed images; if only its '/compressed' form was recorded, that is read.
        depth_topic: likewise with '/compressedDepth'; None leaves depth out.
        info_topic: intrinsics; None takes the RealSense topic where the bag has it.
        slop_s: largest distance of the two stamps in seconds, 0 or more; the nearest depth within it is used.
        every: n for only every n-th colour image, beginning with the first; the others are not decoded.
        on_damaged: called for each frame whose images cannot be decoded or differ in size; that frame is left out.
            None raises instead.
        on_unpaired: called for each colour image without depth, also for those that `every` leaves out, where the bag
            has depth: with the stamp of depth minus that of colour in ns, estimated.

    Raises:
        InputError: 'bag_topic' or 'bag_type' for a topic that is missing or holds no images, 'depth_size' when depth
            and colour differ in size, 'bag_truncated' after the last readable frame, and the refusals of the image
            codec.
        ValueError: slop_s or every is out of range.
    """
    if slop_s < 0:
        raise ValueError(f'slop_s is {slop_s}; give 0 or more seconds')
    if every < 1:
        raise ValueError(f'every is {every}; give 1 or more')
    rgb_topic = image_topic(bag, rgb_topic, 'compressed')
    if depth_topic is not None:
        depth_topic = image_topic(bag, depth_topic, 'compressedDepth')
    if info_topic is not None:
        bag.topic_name(info_topic, CAMERA_INFO)
    elif INFO_TOPIC in bag.topics:
        info_topic = INFO_TOPIC
    pairs = _pairs(bag, rgb_topic, depth_topic, info_topic, round(slop_s * NANOSECONDS), on_unpaired)
    return _decoded(itertools.islice(pairs, 0, None, every), on_damaged)


def image_topic(bag: BagReader, name: str, suffix: str) -> str:
    """Return `name`, or `name`/`suffix` or `name`/compressed where only that was recorded.

    Raises:
        InputError: 'bag_topic' when neither is there, 'bag_type' when it holds no images.
    """
    names = (name, f'{name}/{suffix}', f'{name}/compressed')
    return bag.topic_name(next((one for one in names if one in bag.topics), name), IMAGE, COMPRESSED_IMAGE)


def _pairs(
    bag: BagReader,
    rgb_topic: str,
    depth_topic: str | None,
    info_topic: str | None,
    slop_ns: int,
    on_unpaired: Callable[[int], None],
) -> Iterator[_Pair]:
    """Walk the bag once; yield a colour image when a depth at least as new has come, or when it has waited too long."""
    waiting: deque[_RecordedImage] = deque()
    depths: deque[_RecordedImage] = deque()
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
        image = _RecordedImage(stamp.sec * NANOSECONDS + stamp.nanosec, item.stamp_ns, message, item.type)
        (waiting if item.topic == rgb_topic else depths).append(image)
        while waiting and (
            depth_topic is None
            or (depths and depths[-1].stamp_ns >= waiting[0].stamp_ns)
            or item.stamp_ns - waiting[0].recorded_ns > PATIENCE_NS
        ):
            yield _pair(waiting.popleft(), depths, K, slop_ns, on_unpaired)
    # The images that still wait were readable: they are yielded before the damage is raised.
    while waiting:
        yield _pair(waiting.popleft(), depths, K, slop_ns, on_unpaired)
    if damage:
        raise damage


def _pair(
    rgb: _RecordedImage,
    depths: deque[_RecordedImage],
    K: np.ndarray | None,
    slop_ns: int,
    on_unpaired: Callable[[int], None],
) -> _Pair:
    """Pair a colour image with the nearest depth, and drop the depths that are too old for any later image."""
    depth = min(depths, key=lambda depth: abs(depth.stamp_ns - rgb.stamp_ns), default=None)
    # The newest stays: it is the nearest one to measure from where depth is stamped too early.
    while len(depths) > 1 and depths[0].stamp_ns < rgb.stamp_ns - slop_ns:
        depths.popleft()
    if depth is not None and abs(depth.stamp_ns - rgb.stamp_ns) > slop_ns:
        # The nearest stamp may belong to another moment; the time of recording shows how far the clocks are apart.
        apart = (depth.stamp_ns - depth.recorded_ns) - (rgb.stamp_ns - rgb.recorded_ns)
        on_unpaired(apart if abs(apart) > slop_ns else depth.stamp_ns - rgb.stamp_ns)
        depth = None
    return rgb, depth, K


def _decoded(pairs: Iterator[_Pair], on_damaged: Callable[[InputError], None] | None) -> Iterator[Frame]:
    for pair in pairs:
        try:
            frame = _frame(*pair)
        except InputError as error:
            if on_damaged is None:
                raise
            on_damaged(error)
            continue
        yield frame


def _frame(rgb: _RecordedImage, depth: _RecordedImage | None, K: np.ndarray | None) -> Frame:
    """Decode one colour image and its depth."""
    colours = (rgb_from_msg if rgb.type == IMAGE else rgb_from_compressed)(rgb.message)
    metres = None
    if depth is not None:
        metres = (depth_from_msg if depth.type == IMAGE else depth_from_compressed)(depth.message)
        check_aligned(colours.shape, metres.shape, 'record the depth that is aligned to colour')
    return Frame(colours, metres, rgb.stamp_ns, frame_id=rgb.message.header.frame_id, K=K)
