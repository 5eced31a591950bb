"""Encode and decode sensor_msgs/CompressedImage without ROS: pictures of colour or depth, and compressedDepth.

The compressed transport writes JPEG, PNG or TIFF files. compressedDepth is a 12-byte header (int32 kind, float32 A,
float32 B, little endian) before a 16-bit PNG or RVL. For a 16UC1 image these hold millimetres; for a 32FC1 image
A / metres + B, which is inverse depth, 0 where unknown (image_transport_plugins, compressed_depth_image_transport).
"""

import struct
from typing import Any

import cv2
import numpy as np

from m3et_ros.data.errors import InputError
from m3et_ros.data.images.messages import COLOUR, DEPTH, demosaic, depth_to_mm, known_depth, stored_depth, to_8_bits
from m3et_ros.data.images.rvl import decode_rvl
from m3et_ros.data.images.sizes import JPEG, PNG, TIFF, check_claimed, check_decoded

DEPTH_HEADER = struct.Struct('<iff')
DEPTH_QUANTISATION, DEPTH_MAX = 100.0, 10.0
"""Defaults of the transport for 32FC1: resolution at z = 0, and the distance in metres from which depth is unknown."""


def rgb_from_compressed(msg: Any) -> np.ndarray:
    """Decode a JPEG, PNG or TIFF image.

    The first bytes decide the format, since drivers fill the `format` field freely. Of that field only the encoding of
    a mosaic is read: the transport compresses the mosaic of a Bayer camera as if it were a grey picture.

    Args:
        msg: sensor_msgs/CompressedImage of rclpy or rosbags.

    Returns:
        (H, W, 3) uint8, R G B, C-contiguous.

    Raises:
        InputError: empty_image, too_large, unknown_compression, unknown_encoding, compressed_truncated,
            compressed_damaged, data_type, mosaic_jpeg, small_mosaic.
    """
    data = _bytes(msg)
    if not data.startswith((PNG, JPEG, *TIFF)):
        raise InputError(
            'unknown_compression',
            f'compressed image of format {msg.format[:60]!r} is neither JPEG, PNG nor TIFF; '
            'set the format of the compressed transport to jpeg or png',
        )
    encoding, separator, _ = msg.format.partition(';')
    encoding = encoding.strip()
    if encoding.startswith('bayer_') and (separator or encoding in COLOUR):
        return _from_mosaic(data, encoding)
    # A rotation by an EXIF tag would separate the pixels from camera_info and depth.
    decoded = _decode(data, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION, 'colour')
    return cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB)


def depth_from_compressed(msg: Any, unit_m: float = 0.0) -> np.ndarray:
    """Decode a depth image of the compressedDepth or of the compressed transport.

    Args:
        msg: sensor_msgs/CompressedImage of rclpy or rosbags: a header and a PNG or RVL, of format
            '16UC1; compressedDepth' or '32FC1; compressedDepth', with or without ' png' or ' rvl' at the end; or a PNG
            of 16 bits or a TIFF of 16 bits or floats alone, of any format.
        unit_m: metres of one unit of the image before compression; 0 = 0.001 for 16 bits, 1 for floats.

    Returns:
        (H, W) float32 metres, NaN where unknown (0 and 65535 mm, or inverse depth 0).

    Raises:
        InputError: unknown_encoding, empty_image, too_large, unknown_compression, compressed_truncated,
            compressed_damaged, data_type.
    """
    encoding, _, transport = (part.strip() for part in msg.format.partition(';'))
    data = _bytes(msg)
    if data.startswith((PNG, *TIFF)):
        stored = _stored(data, msg.format)
        if encoding == '32FC1' and stored.dtype == np.uint16:
            raise InputError(
                'unknown_encoding',
                'compressed depth of a 32FC1 image holds 16 bits without the header that explains them; publish it '
                'with the compressedDepth transport',
            )
        return stored_depth(stored, unit_m)
    if encoding not in DEPTH:
        raise InputError(
            'unknown_encoding',
            f'compressed depth has format {msg.format[:60]!r}; publish "16UC1; '
            'compressedDepth" or "32FC1; compressedDepth"',
        )
    if len(data) <= DEPTH_HEADER.size:
        raise InputError(
            'empty_image',
            f'compressed depth has {len(data)} bytes, of which its header takes '
            f'{DEPTH_HEADER.size}; check that the depth camera is running',
        )
    _, a, b = DEPTH_HEADER.unpack_from(data)
    payload = data[DEPTH_HEADER.size :]
    stored = decode_rvl(payload) if 'rvl' in transport.lower() else _stored(payload, msg.format)
    if encoding != '32FC1':
        return stored_depth(stored, unit_m)
    depth = _from_inverse(stored, a, b)
    return depth * np.float32(unit_m) if unit_m else depth


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


def _decode(data: bytes, flags: int, what: str) -> np.ndarray:
    """Decode a PNG or JPEG, after a look at the size that it claims."""
    claimed = check_claimed(data, f'compressed {what}')
    try:
        decoded = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:
        decoded = None
    if decoded is None:
        raise InputError(
            'compressed_damaged',
            f'compressed {what} image cannot be decoded; its bytes are damaged, correct the publisher or the recording',
        )
    if claimed is not None:
        check_decoded(decoded, claimed)
    return decoded


def _encode(extension: str, pixels: np.ndarray, options: list[int]) -> bytes:
    done, encoded = cv2.imencode(extension, pixels, options)
    if not done:
        raise ValueError(f'pixels {pixels.dtype} {pixels.shape} cannot be encoded as {extension}')
    return encoded.tobytes()


def _from_mosaic(data: bytes, encoding: str) -> np.ndarray:
    """Decode the picture of a Bayer camera; (H, W, 3) uint8, R G B. Some publishers store its colours already."""
    if encoding not in COLOUR:
        raise InputError(
            'unknown_encoding',
            f'compressed image has encoding {encoding[:40]!r}, which is no mosaic of sensor_msgs; set the camera to '
            'bayer_rggb8 or another of its kind, or to rgb8',
        )
    pixels = _decode(data, cv2.IMREAD_UNCHANGED, 'colour')
    if pixels.ndim == 2 and data.startswith(JPEG):
        raise InputError(
            'mosaic_jpeg',
            f'the JPEG holds the mosaic of a {encoding} camera, whose colours JPEG has blurred into each other; set '
            'the format of the compressed transport to png, or compress image_color of image_proc',
        )
    if pixels.dtype == np.uint16:
        pixels = to_8_bits(pixels)
    return demosaic(pixels, encoding) if pixels.ndim == 2 else cv2.cvtColor(pixels[..., :3], cv2.COLOR_BGR2RGB)


def _stored(data: bytes, form: str) -> np.ndarray:
    """Decode a picture of depth, (H, W) uint16 or, from a TIFF, float32."""
    if not data.startswith((PNG, *TIFF)):
        raise InputError(
            'unknown_compression',
            f'compressed depth of format {form[:60]!r} holds neither PNG nor RVL behind its '
            '12-byte header; set the compressedDepth format of the publisher to png',
        )
    stored = _decode(data, cv2.IMREAD_UNCHANGED, 'depth')
    if stored.dtype not in (np.uint16, np.float32) or stored.ndim != 2:
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
