"""Decode sensor_msgs/Image to arrays, without ROS: cv_bridge breaks on NumPy 2.

Duck typing lets messages of rclpy and of rosbags go through the same code. Every field is checked with plain integers
before NumPy touches the buffer; a message that fails a check is refused with an InputError.
"""

from collections.abc import Iterable
from typing import Any

import cv2
import numpy as np

from m3et_ros.data.errors import InputError

MAX_PIXELS = 64_000_000
"""Largest number of pixels of an image: robot cameras make fewer, and a corrupt header must not allocate gigabytes."""

COLOUR = {'rgb8': 3, 'bgr8': 3, 'rgba8': 4, 'bgra8': 4, 'mono8': 1, 'yuv422': 2, 'uyvy': 2, 'yuv422_yuy2': 2, 'yuyv': 2}
"""Supported colour encodings and their bytes per pixel; yuv422 is U Y V Y (sensor_msgs/image_encodings)."""

DEPTH = {'16UC1': 2, 'mono16': 2, '32FC1': 4}
"""Supported depth encodings and their bytes per pixel: millimetres, millimetres, metres (REP 118)."""

CONVERSIONS = {
    'bgr8': cv2.COLOR_BGR2RGB,
    'bgra8': cv2.COLOR_BGRA2RGB,
    'yuv422': cv2.COLOR_YUV2RGB_UYVY,
    'uyvy': cv2.COLOR_YUV2RGB_UYVY,
    'yuv422_yuy2': cv2.COLOR_YUV2RGB_YUY2,
    'yuyv': cv2.COLOR_YUV2RGB_YUY2,
}
"""Conversions to rgb8. OpenCV reads YUV as BT.601 with video range, which UVC cameras send, and luma below 16 as 16."""

NOT_MM = 65535
"""Millimetres that mean unknown depth to some drivers, besides the 0 of REP 118."""
NAN = np.float32('nan')


def empty(msg: Any) -> bool:
    """Return True if the message holds no image, like an unset field of a service request."""
    return not (msg.height or msg.width or len(msg.data))


def rgb_from_msg(msg: Any) -> np.ndarray:
    """Decode a colour image.

    Args:
        msg: sensor_msgs/Image of rclpy or rosbags in one of the encodings of COLOUR, any step that holds a row.

    Returns:
        (H, W, 3) uint8, R G B. A view of the message where no byte has to move (rgb8, rgba8, mono8), so it may be
        read-only; no stride is negative.

    Raises:
        InputError: empty_image, too_large, unknown_encoding, odd_width, step_too_short, data_too_short, data_type.
    """
    encoding = msg.encoding
    if encoding not in COLOUR:
        raise _unknown('colour', encoding, COLOUR)
    channels = COLOUR[encoding]
    if channels == 2 and msg.width % 2:
        raise InputError(
            'odd_width',
            f'{encoding} image is {msg.width} pixels wide, but two neighbours share their '
            'colour; set an even width in the camera driver',
        )
    pixels = _rows(msg, channels, 'colour').reshape(msg.height, msg.width, channels)
    if encoding in CONVERSIONS:
        return cv2.cvtColor(pixels, CONVERSIONS[encoding])
    return np.broadcast_to(pixels, (*pixels.shape[:2], 3)) if channels == 1 else pixels[..., :3]


def depth_from_msg(msg: Any) -> np.ndarray:
    """Decode a depth image.

    Args:
        msg: sensor_msgs/Image of rclpy or rosbags in one of the encodings of DEPTH, any step, either endianness.

    Returns:
        (H, W) float32, metres along the optical axis (REP 118), NaN where unknown: 0 and 65535 of the integer
        encodings; zero, negative and infinite values of 32FC1. REP 117 distinguishes 'too near' (-inf) from 'too far'
        (+inf); both become NaN here, because neither is a distance.

    Raises:
        InputError: empty_image, too_large, unknown_encoding, step_too_short, data_too_short, data_type.
    """
    encoding = msg.encoding
    if encoding not in DEPTH:
        raise _unknown('depth', encoding, DEPTH)
    order = '>' if msg.is_bigendian else '<'
    rows = _rows(msg, DEPTH[encoding], 'depth')
    if encoding == '32FC1':
        return known_depth(rows.view(f'{order}f4'))
    return metres(rows.view(f'{order}u2'))


def metres(millimetres: np.ndarray) -> np.ndarray:
    """Convert millimetres (H, W) uint16 to metres float32; 0 (REP 118) and 65535 (Kinect) become NaN."""
    depth = np.divide(millimetres, np.float32(1000), dtype=np.float32)
    # One comparison for both: 65535 + 1 wraps to 0.
    np.copyto(depth, NAN, where=millimetres + np.uint16(1) < 2)
    return depth


def depth_to_mm(depth: np.ndarray) -> np.ndarray:
    """Convert metres (H, W) float to millimetres uint16; 0 where unknown (REP 118) or beyond 65.534 m."""
    with np.errstate(invalid='ignore', over='ignore'):
        millimetres = np.rint(np.multiply(depth, np.float32(1000), dtype=np.float32))
    np.copyto(millimetres, np.float32(0), where=~((millimetres > 0) & (millimetres < NOT_MM)))
    return millimetres.astype(np.uint16)


def known_depth(depth: np.ndarray) -> np.ndarray:
    """Return a native float32 copy of depth (H, W) in metres, NaN where it is not a positive finite number."""
    with np.errstate(invalid='ignore', over='ignore'):
        depth = depth.astype(np.float32)
        np.copyto(depth, NAN, where=depth <= 0)
        np.copyto(depth, NAN, where=depth == np.inf)
    return depth


def _rows(msg: Any, pixel_bytes: int, what: str) -> np.ndarray:
    """Check size, step and length, and return a view of the pixels' bytes, (H, W * pixel_bytes) uint8."""
    height, width, step = int(msg.height), int(msg.width), int(msg.step)
    if height <= 0 or width <= 0:
        raise InputError(
            'empty_image',
            f'{what} image is {width}x{height} and holds no pixel; check that the camera '
            'is running and its resolution is set',
        )
    check_pixels(width, height, what)
    row = width * pixel_bytes
    if step < row:
        raise InputError(
            'step_too_short',
            f'{what} image has step {step}, but a row of {width} {msg.encoding} pixels '
            f'takes {row} bytes; correct step or width in the publisher',
        )
    try:
        view = memoryview(msg.data)
        contiguous = view.c_contiguous
    except TypeError:
        raise InputError(
            'data_type',
            f'{what} image carries its data as {type(msg.data).__name__}; give bytes, array.array or a NumPy array',
        ) from None
    if view.nbytes < step * height:
        raise InputError(
            'data_too_short',
            f'{what} image has {view.nbytes} bytes of data, but step {step} x height '
            f'{height} takes {step * height}; it was cut off, correct the publisher',
        )
    if not contiguous:
        raise InputError('data_type', f'{what} image carries its data with gaps; give one contiguous block')
    return np.frombuffer(view, np.uint8, step * height).reshape(height, step)[:, :row]


def check_pixels(width: int, height: int, what: str) -> None:
    """Refuse sizes above MAX_PIXELS with an InputError 'too_large'."""
    if width * height > MAX_PIXELS:
        raise InputError(
            'too_large',
            f'{what} image claims {width}x{height} pixels, more than the '
            f'{MAX_PIXELS // 1_000_000} million allowed; the header is corrupt or the camera needs a '
            'lower resolution',
        )


def _unknown(what: str, encoding: str, known: Iterable[str]) -> InputError:
    return InputError(
        'unknown_encoding',
        f'{what} image has encoding {str(encoding)[:40]!r}, which is not supported for '
        f'{what}; set the camera to one of {", ".join(known)}',
    )
