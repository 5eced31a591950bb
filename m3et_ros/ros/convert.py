"""Convert stamps, arrays and engine results to ROS messages.

The header of a result is that of its input image, never restamped.
"""

import array
import sys
from math import isnan

import numpy as np
from builtin_interfaces.msg import Time
from geometry_msgs.msg import Point, Vector3
from rclpy.time import Time as RclpyTime
from sensor_msgs.msg import CameraInfo, Image, RegionOfInterest
from std_msgs.msg import ColorRGBA, Header

from m3et_ros import msg
from m3et_ros.data.frame import NANOSECONDS, Labels
from m3et_ros.msg import ActionAnticipation, Answer, LabelMap, ScoredLabel
from m3et_ros.runtime.results import Anticipation, Place, Ranked, Reply

# Type and number of channels of each encoding that to_image_msg writes; 0 channels is a plain (H, W) array.
PIXELS = {
    'rgb8': ('u1', 3),
    'bgr8': ('u1', 3),
    'rgba8': ('u1', 4),
    'bgra8': ('u1', 4),
    'mono8': ('u1', 0),
    'mono16': ('u2', 0),
    '16UC1': ('u2', 0),
    '32FC1': ('f4', 0),
}


def stamp_ns(stamp: Time) -> int:
    """Return a message stamp in nanoseconds since the epoch."""
    return stamp.sec * NANOSECONDS + stamp.nanosec


def stamp_msg(nanoseconds: int) -> Time:
    """Return nanoseconds since the epoch as a message stamp."""
    return Time(sec=nanoseconds // NANOSECONDS, nanosec=nanoseconds % NANOSECONDS)


def age_s(header: Header, now: RclpyTime) -> float:
    """Return the seconds from a header's stamp to now; negative when the clocks disagree.

    NaN where the image has no stamp, and where simulated time has not begun.
    """
    if not now.nanoseconds or not stamp_ns(header.stamp):
        return float('nan')
    return (now.nanoseconds - stamp_ns(header.stamp)) / NANOSECONDS


def to_image_msg(pixels: np.ndarray, encoding: str, header: Header) -> Image:
    """Return an array as an image message; data/images/messages.py reads it back.

    Args:
        pixels: (H, W, C) or (H, W), of the type that the encoding requires.
        encoding: one of rgb8 bgr8 rgba8 bgra8 mono8 mono16 16UC1 32FC1.
        header: header of the image from which the array was computed.

    Raises:
        ValueError: type or shape of the array does not match the encoding.
    """
    if encoding not in PIXELS:
        raise ValueError(f'encoding is {encoding!r}; give one of {", ".join(PIXELS)}')
    kind, channels = PIXELS[encoding]
    if pixels.dtype != np.dtype(kind) or pixels.shape[2:] != ((channels,) if channels else ()) or pixels.ndim < 2:
        shape = f'(H, W, {channels})' if channels else '(H, W)'
        raise ValueError(f'pixels are {pixels.dtype} {pixels.shape}; {encoding} needs {np.dtype(kind)} {shape}')
    # With check_fields the setter of data keeps the array it is given; without, it makes one more copy.
    message = Image(header=header, height=pixels.shape[0], width=pixels.shape[1], encoding=encoding, check_fields=True)
    message.is_bigendian = int(sys.byteorder == 'big')
    message.step = pixels.shape[1] * pixels.itemsize * max(channels, 1)
    # rclpy takes an array.array as it is (0.1 ms an image) but visits every element of an ndarray (100 ms).
    data = array.array('B')
    data.frombytes(np.ascontiguousarray(pixels).reshape(-1).view(np.uint8))
    message.data = data
    return message


def intrinsics_of(info: CameraInfo | None) -> np.ndarray | None:
    """Return the pinhole intrinsics (3, 3) of images as they arrive, after region and binning (REP 104).

    None without a message, and for a camera that is not calibrated. Distortion is not read: rectify the images of wide
    lenses.
    """
    if info is None:
        return None
    K = np.array(info.k, np.float64).reshape(3, 3)
    if not (np.isfinite(K).all() and K[0, 0] > 0 and K[1, 1] > 0):
        return None
    K[0, 2] -= info.roi.x_offset
    K[1, 2] -= info.roi.y_offset
    K[0] /= max(info.binning_x, 1)
    K[1] /= max(info.binning_y, 1)
    return K


def scored(candidates: tuple[Ranked, ...]) -> list[ScoredLabel]:
    """Return ranked candidates as ScoredLabel messages."""
    return [ScoredLabel(id=c.id, label=c.label, score=float(c.score)) for c in candidates]


def place_msg(place: Place) -> msg.Place:
    """Return a place as a message; what is unknown becomes NaN."""
    x, y, width, height = place.box
    unknown = (float('nan'),) * 3
    at, size = place.position_m or unknown, place.size_m or unknown
    return msg.Place(
        label=place.label,
        confidence=float(place.confidence),
        u=float(place.pixel[0]),
        v=float(place.pixel[1]),
        box=RegionOfInterest(x_offset=x, y_offset=y, width=width, height=height),
        position=Point(x=float(at[0]), y=float(at[1]), z=float(at[2])),
        size=Vector3(x=float(size[0]), y=float(size[1]), z=float(size[2])),
        distance=unknown[0] if place.distance_m is None else float(place.distance_m),
        measured=unknown[0] if place.measured is None else float(place.measured),
    )


def place_of(message: msg.Place) -> Place:
    """Return a message as a place; NaN becomes None."""
    box, at, size = message.box, message.position, message.size
    return Place(
        message.label,
        message.confidence,
        (message.u, message.v),
        (box.x_offset, box.y_offset, box.width, box.height),
        None if isnan(at.x) else (at.x, at.y, at.z),
        None if isnan(size.x) else (size.x, size.y, size.z),
        None if isnan(message.distance) else message.distance,
        None if isnan(message.measured) else message.measured,
    )


def answer_msg(reply: Reply, header: Header, model_id: str, now: RclpyTime) -> Answer:
    """Return a reply as an Answer message.

    Args:
        reply: reply of the session.
        header: header of the newest image that the reply is about.
        model_id: model that answered.
        now: time of publication, for the age.
    """
    return Answer(
        header=header,
        question=reply.question,
        text=reply.text,
        confidence=float(reply.confidence),
        alternatives=scored(reply.alternatives),
        answerable=reply.answerable,
        reason=reply.reason,
        explanation=reply.explanation,
        suggestions=list(reply.suggestions),
        read_as=reply.read_as,
        scope=reply.scope,
        frames_used=reply.frames_used,
        span_start=stamp_msg(reply.first_ns),
        places=[place_msg(place) for place in reply.places],
        model_id=model_id,
        latency_s=float(reply.latency_s),
        age_s=age_s(header, now),
    )


def anticipation_msg(result: Anticipation, header: Header, model_id: str, now: RclpyTime) -> ActionAnticipation:
    """Return an anticipation as a message; the arguments are those of answer_msg."""
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
    """Return the segmentation classes as a LabelMap message; colours are scaled from 0..255 to 0..1."""
    colors = [ColorRGBA(r=r / 255, g=g / 255, b=b / 255, a=1.0) for r, g, b in labels.colors]
    return LabelMap(header=header, ids=list(range(len(labels.classes))), names=list(labels.classes), colors=colors)
