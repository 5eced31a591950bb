"""Results of the engine as messages; headers are those of the input frame, never restamped."""

import array
import sys

import numpy as np
from builtin_interfaces.msg import Time
from rclpy.time import Time as Clock
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import ColorRGBA, Header

from m3et_ros.data.frame import Labels
from m3et_ros.data.images.compressed import encode_depth, encode_rgb
from m3et_ros.msg import ActionAnticipation, Answer, LabelMap, ScoredLabel
from m3et_ros.runtime.results import Anticipation, Ranked, Reply

NANOSECONDS = 1_000_000_000


def stamp_ns(stamp: Time) -> int:
    """Nanoseconds since the epoch of a message stamp."""
    return stamp.sec * NANOSECONDS + stamp.nanosec


def stamp_msg(nanoseconds: int) -> Time:
    """Message stamp of nanoseconds since the epoch."""
    return Time(sec=nanoseconds // NANOSECONDS, nanosec=nanoseconds % NANOSECONDS)


def age_s(header: Header, now: Clock) -> float:
    """Seconds from a header's stamp to now; negative when the clocks disagree."""
    return (now.nanoseconds - stamp_ns(header.stamp)) / NANOSECONDS


def scored(candidates: tuple[Ranked, ...]) -> list[ScoredLabel]:
    """ScoredLabel messages of ranked candidates."""
    return [ScoredLabel(id=c.id, label=c.label, score=float(c.score)) for c in candidates]


def answer_msg(reply: Reply, header: Header, model_id: str, now: Clock) -> Answer:
    """Answer message of a reply about the image with this header."""
    return Answer(
        header=header,
        question=reply.question,
        text=reply.text,
        confidence=float(reply.confidence),
        alternatives=scored(reply.alternatives),
        scope=reply.scope,
        frames_used=reply.frames_used,
        span_start=stamp_msg(reply.first_ns),
        model_id=model_id,
        latency_s=float(reply.latency_s),
        age_s=age_s(header, now),
    )


def anticipation_msg(result: Anticipation, header: Header, model_id: str, now: Clock) -> ActionAnticipation:
    """ActionAnticipation message of a result for the image with this header."""
    return ActionAnticipation(
        header=header,
        horizon_s=float(result.horizon_s),
        verbs=scored(result.next.verbs),
        nouns=scored(result.next.nouns),
        actions=scored(result.next.actions),
        current_verbs=scored(result.now.verbs),
        current_nouns=scored(result.now.nouns),
        current_actions=scored(result.now.actions),
        model_id=model_id,
        latency_s=float(result.latency_s),
        age_s=age_s(header, now),
    )


def label_map_msg(labels: Labels, header: Header) -> LabelMap:
    """LabelMap message of the segmentation classes."""
    colors = [ColorRGBA(r=r / 255, g=g / 255, b=b / 255, a=1.0) for r, g, b in labels.colors]
    return LabelMap(header=header, ids=list(range(len(labels.classes))), names=list(labels.classes), colors=colors)


# MERGED m3et_ros/ros/compressed: Compressed image messages of arrays; data/images/compressed.py holds the codec.
def compress_rgb(rgb: np.ndarray, header: Header, *, kind: str = 'jpeg', quality: int = 90) -> CompressedImage:
    """A JPEG or PNG message of colours; `header` is that of the image, the rest as for encode_rgb."""
    return _message(header, *encode_rgb(rgb, kind=kind, quality=quality))


def compress_depth(depth: np.ndarray, header: Header, *, encoding: str = '16UC1') -> CompressedImage:
    """A compressedDepth message of distances; `header` is that of the image, the rest as for encode_depth."""
    return _message(header, *encode_depth(depth, encoding=encoding))


def _message(header: Header, form: str, data: bytes) -> CompressedImage:
    return CompressedImage(header=header, format=form, data=byte_array(data))


# MERGED m3et_ros/ros/images: Image messages of arrays; data/images/messages.py reads them.
# What to_image_msg writes: type and channels (0: a plain (H, W) array).
WRITTEN = {
    'rgb8': ('u1', 3),
    'bgr8': ('u1', 3),
    'rgba8': ('u1', 4),
    'bgra8': ('u1', 4),
    'mono8': ('u1', 0),
    'mono16': ('u2', 0),
    '16UC1': ('u2', 0),
    '32FC1': ('f4', 0),
}


def to_image_msg(pixels: np.ndarray, encoding: str, header: Header) -> Image:
    """An image message of an array.

    Args:
        pixels: (H, W, C) or (H, W), of the type that the encoding asks for.
        encoding: one of rgb8 bgr8 rgba8 bgra8 mono8 mono16 16UC1 32FC1.
        header: header of the image it was made from, never restamped.

    Raises:
        ValueError: the array does not have the type or shape of the encoding.
    """
    if encoding not in WRITTEN:
        raise ValueError(f'encoding is {encoding!r}; give one of {", ".join(WRITTEN)}')
    kind, channels = WRITTEN[encoding]
    if pixels.dtype != np.dtype(kind) or pixels.shape[2:] != ((channels,) if channels else ()) or pixels.ndim < 2:
        shape = f'(H, W, {channels})' if channels else '(H, W)'
        raise ValueError(f'pixels are {pixels.dtype} {pixels.shape}; {encoding} needs {np.dtype(kind)} {shape}')
    # With checks the setter of data keeps the array it is given; without, it copies it once more.
    message = Image(header=header, height=pixels.shape[0], width=pixels.shape[1], encoding=encoding, check_fields=True)
    message.is_bigendian = int(sys.byteorder == 'big')
    message.step = pixels.shape[1] * pixels.itemsize * max(channels, 1)
    message.data = byte_array(pixels)
    return message


def byte_array(data) -> array.array:
    """Bytes in the one form that rclpy takes without a walk over every element (100 ms for an ndarray, 0.1 ms here)."""
    filled = array.array('B')
    if isinstance(data, np.ndarray):
        data = np.ascontiguousarray(data).reshape(-1).view(np.uint8)
    filled.frombytes(data)
    return filled
