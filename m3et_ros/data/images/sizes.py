"""Read the size that a picture claims from its header, before anything is decoded.

A decoder allocates what the header says, so a small file can ask for gigabytes. These readers are stricter than the
decoders: what they cannot follow to the end is refused, and what they find is compared with the decoded picture.
"""

import struct
from collections.abc import Iterator

import numpy as np

from m3et_ros.data.errors import InputError
from m3et_ros.data.images.messages import check_pixels

PNG = b'\x89PNG\r\n\x1a\n'
JPEG = b'\xff\xd8\xff'
TIFF = {b'II*\0': '<', b'MM\0*': '>'}
"""First bytes of a TIFF file, and its byte order for struct."""
PNG_SIZE = struct.Struct('>II')
JPEG_SIZE = struct.Struct('>HH')
JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""Markers of frame segments: baseline, progressive and rarer ones; C4, C8 and CC in between are tables."""
JPEG_ALONE = frozenset({0x01, *range(0xD0, 0xD8)})
"""Markers without a length: TEM and the restart markers."""
TIFF_WIDTH, TIFF_HEIGHT, TIFF_DEPTH = 256, 257, 32997
TIFF_FORMATS = {1: 'B', 3: 'H', 4: 'I'}


def claimed_size(data: bytes) -> tuple[int, int] | None:
    """Return the width and height in pixels that a file claims; None for another format than PNG, JPEG and TIFF.

    Args:
        data: the whole file.

    Raises:
        InputError: 'compressed_truncated', the file was cut off; 'compressed_damaged', its header is not well-formed.
    """
    if data.startswith(PNG):
        return _png_size(data)
    if data.startswith(JPEG):
        return _jpeg_size(data)
    if data[:4] in TIFF:
        return _tiff_size(data, TIFF[data[:4]])
    return None


def check_decoded(decoded: np.ndarray, claimed: tuple[int, int]) -> None:
    """Refuse a picture that has decoded to another size than its header claims.

    Args:
        decoded: (H, W) or (H, W, channels), as decoded without regard to EXIF orientation.
        claimed: width and height.

    Raises:
        InputError: 'compressed_damaged'.
    """
    if decoded.shape[1::-1] != claimed:
        raise _damaged(f'it claims {claimed[0]}x{claimed[1]} pixels and holds {decoded.shape[1]}x{decoded.shape[0]}')


def check_claimed(data: bytes, what: str) -> tuple[int, int] | None:
    """Refuse a file that claims more than messages.MAX_PIXELS pixels; return what claimed_size does.

    Args:
        data: the whole file.
        what: name of the image, for the sentence.

    Raises:
        InputError: as claimed_size; 'too_large'.
    """
    size = claimed_size(data)
    if size is not None:
        check_pixels(*size, what)
    return size


def _png_size(data: bytes) -> tuple[int, int]:
    if len(data) < 33 or data.rfind(b'IEND') < 0:
        raise _truncated('PNG')
    if data[8:16] != b'\0\0\0\x0dIHDR':
        raise _damaged('its first chunk is no IHDR')
    return PNG_SIZE.unpack_from(data, 16)


def _jpeg_size(data: bytes) -> tuple[int, int]:
    """Return width and height of the only frame segment; refuse a JPEG without its end marker, that is a truncated one.

    The decoder itself fills a truncated JPEG with grey and reports nothing.
    """
    size, position = None, 2
    for marker, position in jpeg_segments(data):
        if marker == 0xDA:
            # After the start of scan 0xFF 0xD9 can only be the end: in scan data a zero follows every other 0xFF.
            if size is None or data.find(b'\xff\xd9', position) < 0:
                break
            return size
        if marker in JPEG_FRAMES and position + 7 <= len(data):
            if size is not None:
                raise _damaged('it has two frames')
            size = JPEG_SIZE.unpack_from(data, position + 3)[::-1]
    raise _truncated('JPEG')


def jpeg_segments(data: bytes) -> Iterator[tuple[int, int]]:
    """Yield each marker before the pixels and the position of its length."""
    position = 2
    while position + 4 <= len(data):
        if data[position] != 0xFF:
            raise _damaged('bytes stand between its segments')
        marker = data[position + 1]
        if marker == 0xFF:
            position += 1
        elif marker in JPEG_ALONE:
            position += 2
        elif marker in (0x00, 0xD8, 0xD9):
            raise _damaged(f'the marker {marker:02X} stands before its pixels')
        else:
            yield marker, position + 2
            length = int.from_bytes(data[position + 2 : position + 4], 'big')
            if length < 2:
                raise _damaged('a segment has no length')
            position += 2 + length


def _tiff_size(data: bytes, order: str) -> tuple[int, int]:
    """Return width and height of the first picture of a TIFF."""
    values: dict[int, int] = {}
    try:
        (start,) = struct.unpack_from(f'{order}I', data, 4)
        (count,) = struct.unpack_from(f'{order}H', data, start)
        for number in range(count):
            entry = start + 2 + 12 * number
            tag, kind, length = struct.unpack_from(f'{order}HHI', data, entry)
            if tag not in (TIFF_WIDTH, TIFF_HEIGHT, TIFF_DEPTH):
                continue
            if tag in values or tag == TIFF_DEPTH or length != 1 or kind not in TIFF_FORMATS:
                raise _damaged(f'its tag {tag} is not one whole number')
            (values[tag],) = struct.unpack_from(f'{order}{TIFF_FORMATS[kind]}', data, entry + 8)
        return values[TIFF_WIDTH], values[TIFF_HEIGHT]
    except struct.error:
        raise _truncated('TIFF') from None
    except KeyError:
        raise _damaged('it names no width or no height') from None


def _truncated(kind: str) -> InputError:
    return InputError(
        'compressed_truncated',
        f'compressed image is a {kind} without its end; it was cut off on the '
        'way, correct the publisher or the recording',
    )


def _damaged(why: str) -> InputError:
    return InputError(
        'compressed_damaged',
        f'compressed image cannot be decoded: {why}; its bytes are damaged, correct the publisher or the recording',
    )
