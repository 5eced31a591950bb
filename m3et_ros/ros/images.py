"""Image messages of arrays; data/images.py reads them."""

import array
import sys

import numpy as np
from sensor_msgs.msg import Image
from std_msgs.msg import Header

# What to_image_msg writes: type and channels (0: a plain (H, W) array).
WRITTEN = {'rgb8': ('u1', 3), 'bgr8': ('u1', 3), 'rgba8': ('u1', 4), 'bgra8': ('u1', 4), 'mono8': ('u1', 0),
           'mono16': ('u2', 0), '16UC1': ('u2', 0), '32FC1': ('f4', 0)}


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
