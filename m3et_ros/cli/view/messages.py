"""The streams of a robot by name, and their images as Rerun and Foxglove take them."""

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
from m3et_ros.ros.interfaces import Interface

QUALITY = 80
"""Quality of JPEG for colours that the camera sends raw."""
RESULTS: dict[str, Interface] = {
    'completed': interfaces.DEPTH_COMPLETED,
    'mask': interfaces.MASK,
    'overlay': interfaces.OVERLAY,
    'labels': interfaces.LABELS,
    'answer': interfaces.ANSWER,
    'anticipation': interfaces.ANTICIPATION,
}
"""Results of the model node by the name of their stream."""


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
