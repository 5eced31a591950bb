"""Orientation tags of JPEG, PNG and TIFF; the turn is that of OpenCV."""

import struct
import zlib

import cv2
import numpy as np
import pytest

from m3et_ros.data.images.orientation import orientation, upright

PIXELS = np.dstack([np.mgrid[0:16, 0:24][0] * 15, np.mgrid[0:16, 0:24][1] * 10, np.full((16, 24), 60)]).astype(np.uint8)
JPEG = cv2.imencode('.jpg', PIXELS, [cv2.IMWRITE_JPEG_QUALITY, 100])[1].tobytes()
PNG = cv2.imencode('.png', PIXELS)[1].tobytes()
TIFF = cv2.imencode('.tiff', PIXELS)[1].tobytes()


def block(value, order='<', tag=274):
    start = b'II*\0' if order == '<' else b'MM\0*'
    return start + struct.pack(f'{order}IHHHIHHI', 8, 1, tag, 3, 1, value, 0, 0)


def jpeg(exif, before=b''):
    """The JPEG with an EXIF segment."""
    body = b'Exif\0\0' + exif
    return JPEG[:2] + before + b'\xff\xe1' + struct.pack('>H', len(body) + 2) + body + JPEG[2:]


def png(exif):
    """The PNG with an EXIF chunk behind its header."""
    chunk = struct.pack('>I', len(exif)) + b'eXIf' + exif + struct.pack('>I', zlib.crc32(b'eXIf' + exif))
    return PNG[:33] + chunk + PNG[33:]


@pytest.mark.parametrize('value', range(1, 9))
@pytest.mark.parametrize('order', ['<', '>'])
def test_a_picture_is_turned_as_opencv_turns_it(value, order):
    for data in (jpeg(block(value, order)), png(block(value, order))):
        stored = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
        wanted = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        assert orientation(data) == value
        assert np.array_equal(upright(stored, value), wanted)
        assert np.array_equal(upright(stored[..., 0], value), wanted[..., 0])


def test_the_tag_of_a_tiff_is_read():
    (start,) = struct.unpack_from('<I', TIFF, 4)
    (count,) = struct.unpack_from('<H', TIFF, start)
    entries = [TIFF[start + 2 + 12 * i : start + 14 + 12 * i] for i in range(count)]
    entries = sorted([e for e in entries if e[:2] != struct.pack('<H', 274)] + [struct.pack('<HHIHH', 274, 3, 1, 6, 0)])
    directory = struct.pack('<H', len(entries)) + b''.join(entries) + bytes(4)
    assert orientation(TIFF[:4] + struct.pack('<I', len(TIFF)) + TIFF[8:] + directory) == 6


@pytest.mark.parametrize(
    'data',
    [
        JPEG,
        PNG,
        TIFF,
        b'',
        b'GIF89a',
        jpeg(block(0)),
        jpeg(block(9)),
        jpeg(block(6, tag=275)),
        jpeg(block(6)[:18]),
        jpeg(b'no block'),
        PNG[:20],
        jpeg(block(6), before=b'junk'),
    ],
    ids=range(12),
)
def test_a_file_without_a_readable_tag_is_upright(data):
    assert orientation(data) == 1


def test_a_tag_behind_other_segments_is_found():
    assert orientation(jpeg(block(8), before=b'\xff\xfe' + struct.pack('>H', 6) + b'text')) == 8
