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

MOSAICS = {
    'bayer_rggb': cv2.COLOR_BayerRGGB2RGB,
    'bayer_bggr': cv2.COLOR_BayerBGGR2RGB,
    'bayer_gbrg': cv2.COLOR_BayerGBRG2RGB,
    'bayer_grbg': cv2.COLOR_BayerGRBG2RGB,
}
"""Conversions of mosaics, by the colours of the first two rows; an encoding adds the bits, 8 or 16."""

PLANES = {'nv12': cv2.COLOR_YUV2RGB_NV12, 'nv21': cv2.COLOR_YUV2RGB_NV21, 'nv24': cv2.COLOR_YUV2RGB_NV12}
"""Conversions of encodings with a plane of luma and one of chroma behind it."""

GREY = ('mono8', '8UC1', 'mono16')
"""Encodings of colour topics that hold one grey value: infrared, masks and monochrome cameras."""

COLOUR = {
    'rgb8': 3,
    'bgr8': 3,
    'rgba8': 4,
    'bgra8': 4,
    'mono8': 1,
    'rgb16': 6,
    'bgr16': 6,
    'rgba16': 8,
    'bgra16': 8,
    'mono16': 2,
    '8UC1': 1,
    '8UC3': 3,
    '8UC4': 4,
    '16UC3': 6,
    '16UC4': 8,
    'yuv422': 2,
    'uyvy': 2,
    'yuv422_yuy2': 2,
    'yuyv': 2,
    **dict.fromkeys(PLANES, 1),
    **{f'{name}8': 1 for name in MOSAICS},
    **{f'{name}16': 2 for name in MOSAICS},
}
"""Supported colour encodings and their bytes per pixel, for PLANES those of the luma.

yuv422 is U Y V Y (sensor_msgs/image_encodings). The encodings of OpenCV, such as 8UC3, name no order of colours: it is
B G R as in OpenCV and RViz."""

DEPTH = {'16UC1': 2, 'mono16': 2, '32FC1': 4}
"""Supported depth encodings and their bytes per pixel: millimetres, millimetres, metres (REP 118)."""

CONVERSIONS = {
    'bgr8': cv2.COLOR_BGR2RGB,
    'bgra8': cv2.COLOR_BGRA2RGB,
    'bgr16': cv2.COLOR_BGR2RGB,
    'bgra16': cv2.COLOR_BGRA2RGB,
    '8UC3': cv2.COLOR_BGR2RGB,
    '8UC4': cv2.COLOR_BGRA2RGB,
    '16UC3': cv2.COLOR_BGR2RGB,
    '16UC4': cv2.COLOR_BGRA2RGB,
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
        InputError: empty_image, too_large, unknown_encoding, odd_width, odd_height, small_mosaic, step_too_short,
            data_too_short, data_type.
    """
    encoding = msg.encoding
    if encoding not in COLOUR:
        raise _unknown('colour', encoding, COLOUR)
    if encoding in PLANES:
        return _from_planes(msg)
    wide = encoding.endswith('16') or encoding.startswith('16U')
    channels = COLOUR[encoding] // (2 if wide else 1)
    if channels == 2:
        _require_even(encoding, width=msg.width)
    pixels = _rows(msg, COLOUR[encoding], 'colour')
    if wide:
        pixels = to_8_bits(pixels.view('>u2' if msg.is_bigendian else '<u2'))
    if encoding.startswith('bayer'):
        return demosaic(pixels, encoding)
    pixels = pixels.reshape(msg.height, msg.width, channels)
    if encoding in CONVERSIONS:
        return cv2.cvtColor(pixels, CONVERSIONS[encoding])
    return np.broadcast_to(pixels, (*pixels.shape[:2], 3)) if channels == 1 else pixels[..., :3]


def to_8_bits(values: np.ndarray) -> np.ndarray:
    """Scale uint16 (H, W') of the whole range, 0..65535, to uint8, 0..255, as cv_bridge does."""
    return cv2.convertScaleAbs(np.ascontiguousarray(values, np.uint16), alpha=1 / 257)


def demosaic(mosaic: np.ndarray, encoding: str) -> np.ndarray:
    """Interpolate the colours of a mosaic bilinearly.

    Args:
        mosaic: (H, W) uint8, one colour per pixel.
        encoding: bayer_rggb8 or any other of COLOUR that begins with bayer_.

    Returns:
        (H, W, 3) uint8, R G B.

    Raises:
        InputError: small_mosaic, fewer than three rows or columns.
    """
    height, width = mosaic.shape
    if height < 3 or width < 3:
        raise InputError(
            'small_mosaic',
            f'{encoding} image is {width}x{height}, too small for a mosaic of colours; set a higher resolution',
        )
    return cv2.cvtColor(np.ascontiguousarray(mosaic), MOSAICS[encoding.rstrip('0123456789')])


def depth_from_msg(msg: Any, unit_m: float = 0.0) -> np.ndarray:
    """Decode a depth image.

    Args:
        msg: sensor_msgs/Image of rclpy or rosbags in one of the encodings of DEPTH, any step, either endianness.
        unit_m: metres of one unit of the stored numbers; 0 = by the encoding: 0.001 for integers, 1 for 32FC1.

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
        return stored_depth(rows.view(f'{order}f4'), unit_m)
    return metres(rows.view(f'{order}u2'), unit_m)


def stored_depth(stored: np.ndarray, unit_m: float = 0.0) -> np.ndarray:
    """Convert depth as files and messages store it to metres, (H, W) float32, NaN where unknown.

    Args:
        stored: (H, W) integers of at least 16 bits, or floats.
        unit_m: metres of one; 0 = 0.001 for integers, 1 for floats (REP 118).
    """
    if stored.dtype.kind == 'u' and stored.dtype.itemsize == 2:
        return metres(stored, unit_m)
    depth = known_depth(stored)
    unit_m = unit_m or (1.0 if stored.dtype.kind == 'f' else 0.001)
    return depth if unit_m == 1 else depth * np.float32(unit_m)


def metres(stored: np.ndarray, unit_m: float = 0.0) -> np.ndarray:
    """Convert integers (H, W) uint16 to metres float32; 0 (REP 118) and 65535 (Kinect) become NaN.

    Args:
        stored: the integers.
        unit_m: metres of one of them; 0 = 0.001 (REP 118).
    """
    depth = np.divide(stored, np.float32(1 / unit_m if unit_m else 1000), dtype=np.float32)
    # One comparison for both: 65535 + 1 wraps to 0.
    np.copyto(depth, NAN, where=stored + np.uint16(1) < 2)
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


def _from_planes(msg: Any) -> np.ndarray:
    """Convert an image with a plane of luma (H rows) and one of chroma behind it; both have rows of `step` bytes."""
    half = msg.encoding != 'nv24'
    if half:
        _require_even(msg.encoding, width=msg.width, height=msg.height)
    lines = msg.height * 3 // 2 if half else msg.height * 3
    pixels = _rows(msg, 1, 'colour', lines=lines, whole=not half)
    if half:
        return cv2.cvtColor(np.ascontiguousarray(pixels), PLANES[msg.encoding])
    # OpenCV reads no nv24: its chroma is that of an nv12 image of twice the size.
    luma = pixels[: msg.height, : msg.width].repeat(2, 0).repeat(2, 1)
    chroma = pixels[msg.height :].reshape(msg.height, 2 * msg.step)[:, : 2 * msg.width]
    return np.ascontiguousarray(cv2.cvtColor(np.vstack([luma, chroma]), PLANES['nv24'])[::2, ::2])


def _require_even(encoding: str, **sides: int) -> None:
    for name, side in sides.items():
        if side % 2:
            raise InputError(
                f'odd_{name}',
                f'{encoding} image has {name} {side}, but two neighbours share their colour; set an even {name} in the '
                'camera driver',
            )


def _rows(msg: Any, pixel_bytes: int, what: str, *, lines: int = 0, whole: bool = False) -> np.ndarray:
    """Check size, step and length, and return a view of the pixels' bytes, (H, W * pixel_bytes) uint8.

    Args:
        msg: the message.
        pixel_bytes: bytes of a pixel.
        what: colour or depth, for the errors.
        lines: number of rows with those of further planes; 0 = the height.
        whole: return rows of `step` bytes.
    """
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
    lines = lines or height
    if view.nbytes < step * lines:
        raise InputError(
            'data_too_short',
            f'{what} image has {view.nbytes} bytes of data, but step {step} x height '
            f'{lines} takes {step * lines}; it was cut off, correct the publisher',
        )
    if not contiguous:
        raise InputError('data_type', f'{what} image carries its data with gaps; give one contiguous block')
    rows = np.frombuffer(view, np.uint8, step * lines).reshape(lines, step)
    return rows if whole else rows[:, :row]


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
