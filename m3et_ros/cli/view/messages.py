"""The streams of a robot by name, and their images as Rerun and Foxglove take them."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from m3et_ros.data.images.compressed import (
    DEPTH_HEADER,
    depth_from_compressed,
    encode_depth,
    encode_rgb,
    rgb_from_compressed,
)
from m3et_ros.data.images.messages import depth_from_msg, rgb_from_msg
from m3et_ros.data.images.sizes import JPEG
from m3et_ros.ros import interfaces
from m3et_ros.ros.convert import stamp_ns
from m3et_ros.ros.interfaces import Interface

QUALITY = 80
"""Quality of JPEG for colours that the camera sends raw."""
RESULTS: dict[str, Interface] = {
    'completed': interfaces.DEPTH_COMPLETED,
    'mask': interfaces.MASK,
    'overlay': interfaces.OVERLAY,
    'labels': interfaces.LABELS,
    'markers': interfaces.MARKERS,
    'answer': interfaces.ANSWER,
    'anticipation': interfaces.ANTICIPATION,
}
"""Results of the model node by the name of their stream."""
THINGS = 'things'
"""Name of the markers that show what is seen, apart from those of answers."""
CUBE, TEXT = 1, 9
"""Types of markers (visualization_msgs/Marker)."""


@dataclass(frozen=True)
class SeenBox:
    """A thing in space: its name, colour (R G B in 0..255), middle and extent (x, y, z) in metres."""

    name: str
    color: tuple[int, int, int]
    center: tuple[float, float, float]
    size: tuple[float, float, float]


def jpeg_of(message: Any) -> bytes:
    """Return a colour image as JPEG; one that came so is passed on.

    Args:
        message: sensor_msgs/Image or CompressedImage of rclpy or rosbags.

    Raises:
        InputError: as the image codec.
    """
    if not hasattr(message, 'format'):
        return encode_jpeg(rgb_from_msg(message))
    data = bytes(memoryview(message.data))
    if data.startswith(JPEG) and not message.format.startswith('bayer'):
        return data
    return encode_jpeg(rgb_from_compressed(message))


def encode_jpeg(rgb: np.ndarray) -> bytes:
    """Encode colours (H, W, 3) uint8 as JPEG."""
    return encode_rgb(rgb, quality=QUALITY)[1]


def depth_of(message: Any) -> np.ndarray:
    """Return depth (H, W) float32 in metres, NaN where unknown, of an Image or CompressedImage.

    Raises:
        InputError: as the image codec.
    """
    return depth_from_compressed(message) if hasattr(message, 'format') else depth_from_msg(message)


def png_of_depth(metres: np.ndarray) -> bytes:
    """Return depth (H, W) float32 in metres as a PNG of 16 bits in millimetres, 0 where unknown."""
    return encode_depth(metres)[1][DEPTH_HEADER.size :]


def boxes_of(message: Any) -> tuple[int, str, list[SeenBox]] | None:
    """Return the boxes of a MarkerArray of ~/markers with the stamp in ns and the frame; None for that of an answer."""
    markers = [marker for marker in message.markers if marker.ns == THINGS]
    if not markers:
        return None
    # A box has an even number, and the next one is that of its name.
    names = {marker.id - 1: marker.text for marker in markers if marker.action == 0 and marker.type == TEXT}
    boxes = []
    for marker in markers:
        if marker.action == 0 and marker.type == CUBE:
            at, size, color = marker.pose.position, marker.scale, marker.color
            rgb = (round(255 * color.r), round(255 * color.g), round(255 * color.b))
            boxes.append(SeenBox(names.get(marker.id, ''), rgb, (at.x, at.y, at.z), (size.x, size.y, size.z)))
    header = markers[0].header
    return stamp_ns(header.stamp), header.frame_id, boxes
