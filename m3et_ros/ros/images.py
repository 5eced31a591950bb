"""Image codec between sensor_msgs/Image and arrays, in NumPy alone: cv_bridge breaks on NumPy 2.

Readers work by duck typing, so messages of rclpy and of rosbags go through the same code. Every field is checked with
plain integers before NumPy sees the buffer; what does not hold is refused with an InputError.
"""

import array
import sys

import numpy as np
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from m3et_ros.data.errors import InputError

MAX_PIXELS = 64_000_000
"""Larger images are refused: no robot camera makes them, and a corrupt header must not allocate gigabytes."""

COLOUR = {'rgb8': 3, 'bgr8': 3, 'rgba8': 4, 'bgra8': 4, 'mono8': 1,
          'yuv422': 2, 'uyvy': 2, 'yuv422_yuy2': 2, 'yuyv': 2}
"""Colour encodings that are read, with their bytes per pixel; yuv422 is U Y V Y (sensor_msgs/image_encodings)."""

DEPTH = {'16UC1': 2, 'mono16': 2, '32FC1': 4}
"""Depth encodings that are read, with their bytes per pixel: millimetres, millimetres, metres (REP 118)."""

# What to_image_msg writes: type and channels (0: a plain (H, W) array).
WRITTEN = {'rgb8': ('u1', 3), 'bgr8': ('u1', 3), 'rgba8': ('u1', 4), 'bgra8': ('u1', 4), 'mono8': ('u1', 0),
           'mono16': ('u2', 0), '16UC1': ('u2', 0), '32FC1': ('f4', 0)}

# BT.601 with video range, as UVC cameras send it; terms in 1/32 so that every sum fits 16 bits.
_SHIFT = 5


def _table(gain: float, offset: int) -> np.ndarray:
    return np.round((np.arange(256) - offset) * gain * (1 << _SHIFT)).astype(np.int16)


# Half a unit goes into luma, so that the shift rounds instead of cutting.
_LUMA = _table(255 / 219, 16) + np.int16(1 << (_SHIFT - 1))
_RED_V, _GREEN_V, _GREEN_U, _BLUE_U = (_table(gain, 128) for gain in (1.596, -0.813, -0.391, 2.018))


def empty(msg) -> bool:
    """Whether the message says 'no image given', as an unset field of a service request does."""
    return not (msg.height or msg.width or len(msg.data))


def rgb_from_msg(msg) -> np.ndarray:
    """Colours of an image message.

    Args:
        msg: sensor_msgs/Image of rclpy or rosbags in one of the encodings of COLOUR, any step that holds a row.

    Returns:
        (H, W, 3) uint8, R G B. A view on the message where no byte has to move (rgb8, rgba8, mono8), so it may be
        read-only; no stride is negative.

    Raises:
        InputError: empty_image, too_large, unknown_encoding, odd_width, step_too_short, data_too_short, data_type.
    """
    encoding = msg.encoding
    if encoding not in COLOUR:
        raise _unknown('colour', encoding, COLOUR)
    channels = COLOUR[encoding]
    if channels == 2 and msg.width % 2:
        raise InputError('odd_width', f'{encoding} image is {msg.width} pixels wide, but two pixels share their '
                         'colour; set an even width in the camera driver')
    pixels = _rows(msg, channels, 'colour').reshape(msg.height, msg.width, channels)
    if channels == 1:
        return np.broadcast_to(pixels, (*pixels.shape[:2], 3))
    if channels == 2:
        return _rgb_from_yuv(pixels, luma_first=encoding in ('yuv422_yuy2', 'yuyv'))
    return _swapped(pixels[..., :3]) if encoding.startswith('bgr') else pixels[..., :3]


def depth_from_msg(msg) -> np.ndarray:
    """Distances of a depth image message.

    Args:
        msg: sensor_msgs/Image of rclpy or rosbags in one of the encodings of DEPTH, any step, either endianness.

    Returns:
        (H, W) float32, metres along the optical axis (REP 118), NaN where nothing is known: 0 and 65535 of the integer
        encodings; zero, negative and infinite values of 32FC1. REP 117 tells 'too near' (-inf) from 'too far' (+inf);
        both are folded into NaN here, because neither is a distance.

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
    """Metres (H, W) float32 of millimetres (H, W) uint16; 0 (REP 118) and 65535 (Kinect) become NaN."""
    depth = millimetres.astype(np.float32)
    depth /= np.float32(1000)
    # One comparison for both: 65535 + 1 wraps to 0.
    depth[millimetres + np.uint16(1) < 2] = np.nan
    return depth


def known_depth(depth: np.ndarray) -> np.ndarray:
    """A native float32 copy of depth (H, W) in metres, NaN where it is not a positive finite number."""
    with np.errstate(invalid='ignore', over='ignore'):
        depth = depth.astype(np.float32)
        depth[~((depth > 0) & (depth < np.inf))] = np.nan
    return depth


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


def _rows(msg, pixel_bytes: int, what: str) -> np.ndarray:
    """The pixels' bytes, (H, W * pixel_bytes) uint8, a view; checks size, step and length first."""
    height, width, step = int(msg.height), int(msg.width), int(msg.step)
    if height <= 0 or width <= 0:
        raise InputError('empty_image', f'{what} image is {width}x{height} and holds no pixel; check that the camera '
                         'is running and its resolution is set')
    check_pixels(width, height, what)
    row = width * pixel_bytes
    if step < row:
        raise InputError('step_too_short', f'{what} image has step {step}, but a row of {width} {msg.encoding} pixels '
                         f'takes {row} bytes; correct step or width in the publisher')
    try:
        view = memoryview(msg.data)
        contiguous = view.c_contiguous
    except TypeError:
        raise InputError('data_type', f'{what} image carries its data as {type(msg.data).__name__}; '
                         'give bytes, array.array or a NumPy array') from None
    if view.nbytes < step * height:
        raise InputError('data_too_short', f'{what} image has {view.nbytes} bytes of data, but step {step} x height '
                         f'{height} takes {step * height}; it was cut off, correct the publisher')
    if not contiguous:
        raise InputError('data_type', f'{what} image carries its data with gaps; give one contiguous block')
    return np.frombuffer(view, np.uint8, step * height).reshape(height, step)[:, :row]


def check_pixels(width: int, height: int, what: str) -> None:
    """Refuse sizes above MAX_PIXELS with an InputError 'too_large'."""
    if width * height > MAX_PIXELS:
        raise InputError('too_large', f'{what} image claims {width}x{height} pixels, more than the '
                         f'{MAX_PIXELS // 1_000_000} million allowed; the header is corrupt or the camera needs a '
                         'lower resolution')


def _unknown(what: str, encoding: str, known) -> InputError:
    return InputError('unknown_encoding', f'{what} image has encoding {str(encoding)[:40]!r}, which is not read as '
                      f'{what}; set the camera to one of {", ".join(known)}')


def _swapped(pixels: np.ndarray) -> np.ndarray:
    # Five times faster than copying a view with the last axis reversed.
    swapped = pixels.copy()
    swapped[..., 0] = pixels[..., 2]
    swapped[..., 2] = pixels[..., 0]
    return swapped


def _rgb_from_yuv(pixels: np.ndarray, *, luma_first: bool) -> np.ndarray:
    """(H, W, 3) of YUV 4:2:2 (H, W, 2); the even pixel of a pair carries U, the odd one V."""
    luma = _LUMA[pixels[..., 0 if luma_first else 1]]
    chroma = pixels[..., 1 if luma_first else 0]
    u, v = chroma[:, 0::2], chroma[:, 1::2]
    rgb = np.empty((*luma.shape, 3), np.uint8)
    for channel, term in enumerate((_RED_V[v], _GREEN_U[u] + _GREEN_V[v], _BLUE_U[u])):
        for parity in (0, 1):
            mixed = luma[:, parity::2] + term
            mixed >>= _SHIFT
            rgb[:, parity::2, channel] = np.clip(mixed, 0, 255, out=mixed)
    return rgb
