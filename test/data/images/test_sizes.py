"""The size of a picture is known before it is decoded, by the rules of its decoder."""

import struct

import cv2
import numpy as np
import pytest

from m3et_ros.data.errors import InputError
from m3et_ros.data.images.messages import MAX_PIXELS
from m3et_ros.data.images.sizes import check_claimed, check_decoded, claimed_size

PICTURE = np.random.default_rng(0).integers(0, 256, (13, 37, 3), np.uint8)
FILES = {kind: cv2.imencode(kind, PICTURE)[1].tobytes() for kind in ('.jpg', '.png', '.tiff', '.bmp')}
COMMENT = b'\xff\xfe\x00\x0b\xff\xc0\x00\x00\x08\x00\x08\x00\x08'
"""A comment that looks like the frame segment of a picture of 8x8."""


def jpeg(*inserted):
    """A JPEG with bytes inserted after its start."""
    data = FILES['.jpg']
    return data[:2] + b''.join(inserted) + data[2:]


@pytest.mark.parametrize('kind', ['.jpg', '.png', '.tiff'])
def test_the_claimed_size_is_that_of_the_decoder(kind):
    assert claimed_size(FILES[kind]) == (37, 13)
    check_decoded(cv2.imdecode(np.frombuffer(FILES[kind], np.uint8), cv2.IMREAD_COLOR), (37, 13))
    assert claimed_size(FILES['.bmp']) is None


@pytest.mark.parametrize('alone', [b'\xff\x01', b'\xff\xd0', b'\xff\xd7', b'\xff'])
def test_a_marker_without_a_length_does_not_hide_the_frame_of_a_jpeg(alone):
    data = jpeg(alone, COMMENT)
    assert claimed_size(data) == (37, 13)
    assert cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR).shape == (13, 37, 3)


@pytest.mark.parametrize(
    ('data', 'words'),
    [
        (jpeg(b'\xff\xd8'), 'marker D8'),
        (jpeg(b'\xff\xd9'), 'marker D9'),
        (jpeg(b'\xff\x00\x00\x02'), 'marker 00'),
        (jpeg(b'\xff\xfe\x00\x02\x00'), 'between its segments'),
        (jpeg(b'\xff\xfe\x00\x01\x00'), 'no length'),
        (jpeg(b'\xff\xc0\x00\x0b\x08\x00\x08\x00\x08\x01\x01\x11\x00'), 'two frames'),
        (FILES['.jpg'][:-2], 'without its end'),
        (FILES['.png'][:-12], 'without its end'),
        (FILES['.png'][:8] + b'\0\0\0\x0e' + FILES['.png'][12:], 'IHDR'),
        (FILES['.tiff'][:4] + b'\xff\xff\xff\x7f' + FILES['.tiff'][8:], 'TIFF without its end'),
    ],
)
def test_headers_that_are_not_well_formed_are_refused(data, words):
    with pytest.raises(InputError, match=words):
        claimed_size(data)


def test_a_tiff_that_names_its_width_twice_is_refused():
    entries = [(256, 3, 1, 8), (257, 3, 1, 8), (256, 3, 1, 9)]
    body = struct.pack('<H', 3) + b''.join(struct.pack('<HHII', *entry) for entry in entries)
    with pytest.raises(InputError, match='tag 256'):
        claimed_size(b'II*\0' + struct.pack('<I', 8) + body)


def test_more_pixels_than_allowed_are_refused_before_decoding():
    side = int(MAX_PIXELS**0.5)
    for width, fits in ((side, True), (side + 1, False)):
        data = FILES['.png'][:16] + struct.pack('>II', width, side) + FILES['.png'][24:]
        if fits:
            assert check_claimed(data, 'a') == (width, side)
        else:
            with pytest.raises(InputError, match='too_large|million'):
                check_claimed(data, 'a')
    with pytest.raises(InputError, match='claims 8x8 pixels and holds 37x13'):
        check_decoded(PICTURE, (8, 8))
