"""Compressed image messages of arrays; data/compressed.py holds the codec."""

import numpy as np
from sensor_msgs.msg import CompressedImage
from std_msgs.msg import Header

from m3et_ros.data.compressed import encode_depth, encode_rgb
from m3et_ros.ros.images import byte_array


def compress_rgb(rgb: np.ndarray, header: Header, *, kind: str = 'jpeg', quality: int = 90) -> CompressedImage:
    """A JPEG or PNG message of colours; `header` is that of the image, the rest as for encode_rgb."""
    return _message(header, *encode_rgb(rgb, kind=kind, quality=quality))


def compress_depth(depth: np.ndarray, header: Header, *, encoding: str = '16UC1') -> CompressedImage:
    """A compressedDepth message of distances; `header` is that of the image, the rest as for encode_depth."""
    return _message(header, *encode_depth(depth, encoding=encoding))


def _message(header: Header, form: str, data: bytes) -> CompressedImage:
    return CompressedImage(header=header, format=form, data=byte_array(data))
