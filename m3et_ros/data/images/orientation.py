"""The orientation tag that cameras store beside the pixels of a picture (EXIF 2.3, section 4.6.4, tag 274)."""

import struct

import numpy as np

from m3et_ros.data.errors import InputError
from m3et_ros.data.images.sizes import JPEG, PNG, TIFF, jpeg_segments

ORIENTATION, SHORT = 274, 3
EXIF = b'Exif\0\0'


def orientation(data: bytes) -> int:
    """Return the orientation of a JPEG, PNG or TIFF file, 1 to 8; 1, upright, where it names none.

    Args:
        data: the whole file.
    """
    block = data if data[:4] in TIFF else _exif(data)
    order = TIFF.get(block[:4])
    try:
        if order is not None:
            (start,) = struct.unpack_from(f'{order}I', block, 4)
            (count,) = struct.unpack_from(f'{order}H', block, start)
            for number in range(count):
                tag, kind, length, value = struct.unpack_from(f'{order}HHIH', block, start + 2 + 12 * number)
                if (tag, kind, length) == (ORIENTATION, SHORT, 1) and 1 <= value <= 8:
                    return value
    except struct.error:  # a tag that is cut off says nothing
        pass
    return 1


def upright(pixels: np.ndarray, turned: int) -> np.ndarray:
    """Return pixels (H, W) or (H, W, channels) as they are to be looked at.

    Args:
        pixels: as stored.
        turned: orientation, 1 to 8; from 5 on, height and width change places.
    """
    if turned >= 5:
        pixels = pixels.swapaxes(0, 1)
    if turned in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if turned in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def _exif(data: bytes) -> bytes:
    """Return the EXIF block of a JPEG or PNG, which begins as a TIFF does; b'' for none."""
    if data.startswith(JPEG):
        try:
            for marker, position in jpeg_segments(data):
                if marker == 0xDA:
                    break
                if marker == 0xE1 and data[position + 2 : position + 8] == EXIF:
                    return data[position + 8 : position + int.from_bytes(data[position : position + 2], 'big')]
        except InputError:
            return b''
    position = len(PNG)
    while data.startswith(PNG) and position + 8 <= len(data):
        length = int.from_bytes(data[position : position + 4], 'big')
        if data[position + 4 : position + 8] == b'eXIf':
            return data[position + 8 : position + 8 + length]
        position += 12 + length
    return b''
