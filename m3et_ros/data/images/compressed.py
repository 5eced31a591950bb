"""Encode and decode sensor_msgs/CompressedImage without ROS: JPEG and PNG colour, and the compressedDepth transport.

compressedDepth is a 12-byte header (int32 kind, float32 A, float32 B, little endian) before a 16-bit PNG. The PNG of a
16UC1 image holds millimetres; that of a 32FC1 image holds A / metres + B, which is inverse depth, 0 where unknown
(image_transport_plugins, compressed_depth_image_transport).
"""

import struct
from typing import Any

import cv2
import numpy as np

from m3et_ros.data.errors import InputError
from m3et_ros.data.images.messages import check_pixels, depth_to_mm, known_depth, metres

PNG = b'\x89PNG\r\n\x1a\n'
JPEG = b'\xff\xd8\xff'
DEPTH_HEADER = struct.Struct('<iff')
PNG_SIZE = struct.Struct('>II')
JPEG_SIZE = struct.Struct('>HH')
JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""Markers of frame segments: baseline, progressive and rarer ones; C4, C8 and CC in between are tables."""
DEPTH_QUANTISATION, DEPTH_MAX = 100.0, 10.0
"""Defaults of the transport for 32FC1: resolution at z = 0, and the distance in metres from which depth is unknown."""


def rgb_from_compressed(msg: Any) -> np.ndarray:
    """Decode a JPEG or PNG image.

    The first bytes decide the format; the `format` field only appears in error messages, since drivers fill it freely.

    Args:
        msg: sensor_msgs/CompressedImage of rclpy or rosbags.

    Returns:
        (H, W, 3) uint8, R G B, C-contiguous.

    Raises:
        InputError: empty_image, too_large, unknown_compression, compressed_truncated, compressed_damaged, data_type.
    """
    data = _bytes(msg)
    check_pixels(*_size(data, msg.format), 'compressed colour')
    # A rotation by an EXIF tag would separate the pixels from camera_info and depth.
    decoded = _decode(data, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION, 'colour')
    return cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB)


def depth_from_compressed(msg: Any) -> np.ndarray:
    """Decode a compressedDepth image.

    Args:
        msg: sensor_msgs/CompressedImage of rclpy or rosbags, format '16UC1; compressedDepth' or
            '32FC1; compressedDepth', with or without ' png' at the end.

    Returns:
        (H, W) float32 metres, NaN where unknown (0 and 65535 mm, or inverse depth 0).

    Raises:
        InputError: rvl_depth, unknown_encoding, empty_image, too_large, unknown_compression, compressed_truncated,
            compressed_damaged, data_type.
    """
    encoding, _, transport = (part.strip() for part in msg.format.partition(';'))
    if 'rvl' in transport.lower():
        raise InputError(
            'rvl_depth',
            "compressed depth is RVL, which is not supported; set the publisher's parameter "
            'compressedDepth.format (or ...compressed_depth.format) to png',
        )
    if encoding not in ('16UC1', 'mono16', '32FC1'):
        raise InputError(
            'unknown_encoding',
            f'compressed depth has format {msg.format[:60]!r}; publish "16UC1; '
            'compressedDepth" or "32FC1; compressedDepth"',
        )
    data = _bytes(msg)
    if len(data) <= DEPTH_HEADER.size:
        raise InputError(
            'empty_image',
            f'compressed depth has {len(data)} bytes, of which its header takes '
            f'{DEPTH_HEADER.size}; check that the depth camera is running',
        )
    _, a, b = DEPTH_HEADER.unpack_from(data)
    stored = _stored(data[DEPTH_HEADER.size :], msg.format)
    return _from_inverse(stored, a, b) if encoding == '32FC1' else metres(stored)


def encode_rgb(rgb: np.ndarray, *, kind: str = 'jpeg', quality: int = 90) -> tuple[str, bytes]:
    """Encode colours as the fields `format` and `data` of a JPEG or PNG message.

    Args:
        rgb: (H, W, 3) uint8, R G B.
        kind: 'jpeg' or 'png'.
        quality: quality of JPEG, 1 to 100.

    Raises:
        ValueError: another kind, or an array of another shape or type.
    """
    if kind not in ('jpeg', 'png'):
        raise ValueError(f'kind is {kind!r}; give jpeg or png')
    if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3:
        raise ValueError(f'rgb is {rgb.dtype} {rgb.shape}; give uint8 (H, W, 3)')
    options = [cv2.IMWRITE_JPEG_QUALITY, quality] if kind == 'jpeg' else [cv2.IMWRITE_PNG_COMPRESSION, 1]
    bgr = cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR)
    return f'rgb8; {kind} compressed bgr8', _encode('.jpg' if kind == 'jpeg' else '.png', bgr, options)


def encode_depth(depth: np.ndarray, *, encoding: str = '16UC1') -> tuple[str, bytes]:
    """Encode depth as the fields `format` and `data` of a compressedDepth message.

    Args:
        depth: (H, W) float metres; NaN, infinite and non-positive values become 0, 'unknown'.
        encoding: '16UC1' keeps millimetres up to 65.534 m; '32FC1' keeps inverse depth from 0.152 m to 10 m in steps
            that grow with the square of the distance (0.1 mm at 1 m, 10 mm at 10 m). Other depth becomes 0.

    Raises:
        ValueError: another encoding, or an array that is not (H, W) of floats.
    """
    if encoding not in ('16UC1', '32FC1'):
        raise ValueError(f'encoding is {encoding!r}; give 16UC1 or 32FC1')
    if depth.ndim != 2 or depth.dtype.kind != 'f':
        raise ValueError(f'depth is {depth.dtype} {depth.shape}; give metres as floats (H, W)')
    stored, a, b = (depth_to_mm(depth), 0.0, 0.0) if encoding == '16UC1' else _inverse(depth)
    png = _encode('.png', stored, [cv2.IMWRITE_PNG_COMPRESSION, 1])
    return f'{encoding}; compressedDepth png', DEPTH_HEADER.pack(0, a, b) + png


def _bytes(msg: Any) -> bytes:
    try:
        data = bytes(memoryview(msg.data))
    except TypeError:
        raise InputError(
            'data_type',
            f'compressed image carries its data as {type(msg.data).__name__}; give bytes, array.array or a NumPy array',
        ) from None
    if not data:
        raise InputError('empty_image', 'compressed image has no data; check that the camera is running')
    return data


def _size(data: bytes, form: str) -> tuple[int, int]:
    """Return the width and height that the file claims, without decoding; refuse a truncated or foreign file."""
    if data.startswith(PNG):
        return _png_size(data)
    if data.startswith(JPEG):
        return _jpeg_size(data)
    raise InputError(
        'unknown_compression',
        f'compressed image of format {form[:60]!r} is neither JPEG nor PNG; '
        'set the format of the compressed transport to jpeg or png',
    )


def _png_size(data: bytes) -> tuple[int, int]:
    if data[12:16] != b'IHDR' or data.rfind(b'IEND') < 0:
        raise _truncated('PNG')
    return PNG_SIZE.unpack_from(data, 16)


def _jpeg_size(data: bytes) -> tuple[int, int]:
    """Return width and height of the frame segment; refuse a JPEG without its end marker, that is a truncated one.

    The decoder itself fills a truncated JPEG with grey and reports nothing.
    """
    size, position = None, 2
    while position + 9 <= len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if marker in JPEG_FRAMES:
            size = JPEG_SIZE.unpack_from(data, position + 5)[::-1]
        if marker == 0xDA:
            # After the start of scan 0xFF 0xD9 can only be the end: in scan data a zero follows every other 0xFF.
            if size is None or data.find(b'\xff\xd9', position) < 0:
                break
            return size
        if marker == 0xFF:
            position += 1
            continue
        position += 2 + int.from_bytes(data[position + 2 : position + 4], 'big')
    raise _truncated('JPEG')


def _truncated(kind: str) -> InputError:
    return InputError(
        'compressed_truncated',
        f'compressed image is a {kind} without its end; it was cut off on the '
        'way, correct the publisher or the recording',
    )


def _decode(data: bytes, flags: int, what: str) -> np.ndarray:
    try:
        decoded = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:
        decoded = None
    if decoded is None:
        raise InputError(
            'compressed_damaged',
            f'compressed {what} image cannot be decoded; its bytes are damaged, correct the publisher or the recording',
        )
    return decoded


def _encode(extension: str, pixels: np.ndarray, options: list[int]) -> bytes:
    done, encoded = cv2.imencode(extension, pixels, options)
    if not done:
        raise ValueError(f'pixels {pixels.dtype} {pixels.shape} cannot be encoded as {extension}')
    return encoded.tobytes()


def _stored(data: bytes, form: str) -> np.ndarray:
    """Decode the 16-bit PNG behind the depth header, (H, W) uint16."""
    if not data.startswith(PNG):
        raise InputError(
            'unknown_compression',
            f'compressed depth of format {form[:60]!r} holds no PNG behind its '
            '12-byte header; set the compressedDepth format of the publisher to png',
        )
    check_pixels(*_png_size(data), 'compressed depth')
    stored = _decode(data, cv2.IMREAD_UNCHANGED, 'depth')
    if stored.dtype != np.uint16 or stored.ndim != 2:
        raise InputError(
            'unknown_encoding',
            f'compressed depth holds {stored.dtype} {stored.shape} instead of 16-bit '
            'grey; publish it with the compressedDepth transport',
        )
    return stored


def _from_inverse(stored: np.ndarray, a: float, b: float) -> np.ndarray:
    with np.errstate(divide='ignore', invalid='ignore', over='ignore'):
        depth = np.float32(a) / (stored.astype(np.float32) - np.float32(b))
    depth[stored == 0] = np.nan
    return known_depth(depth)


def _inverse(depth: np.ndarray) -> tuple[np.ndarray, float, float]:
    """Return inverse depth (H, W) uint16 with its factor A and offset B, the arguments of _from_inverse."""
    a = DEPTH_QUANTISATION * (DEPTH_QUANTISATION + 1)
    b = 1 - a / DEPTH_MAX
    known = known_depth(depth)
    known[known >= DEPTH_MAX] = np.nan
    stored = np.rint(a / known + b)
    stored[~(stored < 65535)] = 0
    return stored.astype(np.uint16), a, b
