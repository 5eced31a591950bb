"""JPEG, PNG and compressedDepth: round trips, and the refusal of what is cut off, damaged or foreign."""

import struct
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stored_images import CELLS, encode_rvl, mosaic_of

from m3et_ros.data.errors import InputError
from m3et_ros.data.images import compressed

ROWS, COLUMNS = np.mgrid[0:32, 0:48]
RGB = np.dstack([5 * COLUMNS, 5 * ROWS, np.full((32, 48), 90)]).astype(np.uint8)
DEPTH = np.linspace(0.4, 9.0, 32 * 48, dtype=np.float32).reshape(32, 48)


def message(encoded, **fields):
    form, data = encoded
    return SimpleNamespace(**{'format': form, 'data': data, **fields})


@pytest.mark.parametrize('kind,error', [('png', 0), ('jpeg', 12)])
def test_colour_round_trip(kind, error):
    msg = message(compressed.encode_rgb(RGB, kind=kind))
    assert kind in msg.format
    rgb = compressed.rgb_from_compressed(msg)
    assert rgb.dtype == np.uint8 and np.abs(rgb.astype(int) - RGB).max() <= error


def test_grey_and_sixteen_bit_files_become_rgb():
    for pixels in (RGB[..., 0], RGB.astype(np.uint16) * 257):
        data = cv2.imencode('.png', pixels)[1].tobytes()
        assert compressed.rgb_from_compressed(SimpleNamespace(format='png', data=data)).shape == RGB.shape


def test_the_bytes_decide_not_the_format_field():
    msg = message(compressed.encode_rgb(RGB, kind='png'), format='')
    assert np.array_equal(compressed.rgb_from_compressed(msg), RGB)


def test_an_orientation_tag_does_not_turn_the_image():
    data = JPEG
    turned = b'Exif\0\0II*\0' + struct.pack('<IHHHIHHI', 8, 1, 0x0112, 3, 1, 6, 0, 0)
    data = data[:2] + b'\xff\xe1' + struct.pack('>H', len(turned) + 2) + turned + data[2:]
    assert cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR).shape[:2] == RGB.shape[1::-1]
    assert compressed.rgb_from_compressed(SimpleNamespace(format='jpeg', data=data)).shape == RGB.shape


def test_bytes_after_the_end_are_allowed():
    for kind in ('jpeg', 'png'):
        form, data = compressed.encode_rgb(RGB, kind=kind)
        assert compressed.rgb_from_compressed(message((form, data + bytes(40)))).shape == RGB.shape


def test_millimetres_round_trip():
    known = DEPTH.copy()
    known[0, :5] = [np.nan, 0, -1, np.inf, 70]
    msg = message(compressed.encode_depth(known))
    assert msg.format == '16UC1; compressedDepth png'
    depth = compressed.depth_from_compressed(msg)
    assert np.isnan(depth[0, :5]).all()
    np.testing.assert_allclose(depth[1:], DEPTH[1:], atol=0.00051)


def test_both_unknown_values_of_a_sensor_become_nan():
    stored = np.array([[0, 65535, 1500]], np.uint16)
    data = struct.pack('<iff', 0, 0, 0) + cv2.imencode('.png', stored)[1].tobytes()
    depth = compressed.depth_from_compressed(SimpleNamespace(format='16UC1; compressedDepth', data=data))
    np.testing.assert_array_equal(depth, np.float32([[np.nan, np.nan, 1.5]]))


def test_inverse_depth_round_trip():
    known = DEPTH.copy()
    known[0, :5] = [np.nan, 0, 0.1, np.inf, 11]
    depth = compressed.depth_from_compressed(message(compressed.encode_depth(known, encoding='32FC1')))
    assert np.isnan(depth[0, :5]).all()
    # Half a step of 1/A in 1/z is z^2 / (2 A) in z.
    assert (np.abs(depth[1:] - DEPTH[1:]) <= DEPTH[1:] ** 2 / (2 * 100 * 101) + 1e-6).all()


def test_inverse_depth_is_that_of_the_transport():
    a, b = 100.0 * 101.0, 1 - 100.0 * 101.0 / 10
    stored = np.array([[0, int(a / 2.0 + b)]], np.uint16)
    data = struct.pack('<iff', 0, a, b) + cv2.imencode('.png', stored)[1].tobytes()
    depth = compressed.depth_from_compressed(SimpleNamespace(format='32FC1; compressedDepth png', data=data))
    np.testing.assert_allclose(depth, [[np.nan, 2.0]], rtol=1e-3)


@pytest.mark.parametrize(
    'form', ['16UC1; png compressed ', 'mono16; png compressed', '16UC1; compressedDepth png', 'png', '']
)
def test_millimetres_in_a_png_without_a_header_are_read(form):
    stored = np.array([[0, 65535, 1500]], np.uint16)
    msg = SimpleNamespace(format=form, data=cv2.imencode('.png', stored)[1].tobytes())
    np.testing.assert_array_equal(compressed.depth_from_compressed(msg), np.float32([[np.nan, np.nan, 1.5]]))
    np.testing.assert_allclose(compressed.depth_from_compressed(msg, 1e-4), [[np.nan, np.nan, 0.15]], rtol=1e-6)


def test_depth_in_a_tiff_is_read():
    floats = np.array([[0, np.nan, np.inf, 1.25]], np.float32)
    for stored, expected in (
        (floats, [[np.nan, np.nan, np.nan, 1.25]]),
        (np.array([[0, 65535, 7, 1250]], np.uint16), [[np.nan, np.nan, 0.007, 1.25]]),
    ):
        msg = SimpleNamespace(format='32FC1; tiff compressed ', data=cv2.imencode('.tiff', stored)[1].tobytes())
        msg.format = msg.format if stored is floats else '16UC1; tiff compressed '
        np.testing.assert_allclose(compressed.depth_from_compressed(msg), expected, rtol=1e-6)


@pytest.mark.parametrize('encoding', ['16UC1', '32FC1'])
def test_rvl_holds_what_a_png_holds(encoding):
    png = message(compressed.encode_depth(DEPTH, encoding=encoding))
    stored = cv2.imdecode(np.frombuffer(png.data[12:], np.uint8), cv2.IMREAD_UNCHANGED)
    rvl = SimpleNamespace(format=f'{encoding}; compressedDepth rvl', data=png.data[:12] + encode_rvl(stored))
    for unit in (0.0, 1e-4):
        np.testing.assert_array_equal(
            compressed.depth_from_compressed(rvl, unit), compressed.depth_from_compressed(png, unit)
        )


def test_the_unit_holds_for_inverse_depth_too():
    msg = message(compressed.encode_depth(DEPTH, encoding='32FC1'))
    ratio = compressed.depth_from_compressed(msg, 0.001) / compressed.depth_from_compressed(msg)
    np.testing.assert_allclose(ratio, 0.001, rtol=1e-5)


@pytest.mark.parametrize('order', CELLS)
def test_a_lossless_mosaic_gets_its_colours_back(order):
    rgb = np.full((8, 10, 3), (200, 120, 40), np.uint8)
    for mosaic, bits in ((mosaic_of(rgb, order), 8), (mosaic_of(rgb.astype(np.uint16) * 257, order), 16)):
        msg = SimpleNamespace(
            format=f'bayer_{order}{bits}; png compressed ', data=cv2.imencode('.png', mosaic)[1].tobytes()
        )
        assert np.array_equal(compressed.rgb_from_compressed(msg), rgb)


def test_the_jpeg_of_a_mosaic_is_refused_but_not_that_of_its_colours():
    grey = cv2.imencode('.jpg', RGB[..., 0])[1].tobytes()
    for form in ('bayer_rggb8; jpeg compressed ', 'bayer_rggb8', ' bayer_gbrg16 ; jpeg compressed'):
        with pytest.raises(InputError, match='png') as refused:
            compressed.rgb_from_compressed(SimpleNamespace(format=form, data=grey))
        assert refused.value.reason == 'mosaic_jpeg'
    colours = compressed.rgb_from_compressed(SimpleNamespace(format='bayer_rggb8; jpeg compressed bgr8', data=JPEG))
    assert np.abs(colours.astype(int) - RGB).max() <= 12
    for form in ('mono8; jpeg compressed ', 'bayer_0001.jpg'):
        assert compressed.rgb_from_compressed(SimpleNamespace(format=form, data=grey)).shape == RGB.shape
    with pytest.raises(InputError, match='bayer_xxxx8') as refused:
        compressed.rgb_from_compressed(SimpleNamespace(format='bayer_xxxx8; png compressed', data=PNG))
    assert refused.value.reason == 'unknown_encoding'


def test_colours_in_a_tiff_are_read():
    data = cv2.imencode('.tiff', RGB[..., ::-1])[1].tobytes()
    assert np.array_equal(
        compressed.rgb_from_compressed(SimpleNamespace(format='rgb8; tiff compressed', data=data)), RGB
    )


def png_claiming(width, height):
    data = bytearray(cv2.imencode('.png', RGB)[1].tobytes())
    data[16:24] = struct.pack('>II', width, height)
    return bytes(data)


JPEG = compressed.encode_rgb(RGB)[1]
PNG = compressed.encode_rgb(RGB, kind='png')[1]
TABLE = JPEG.index(b'\xff\xc4')  # the first Huffman table


@pytest.mark.parametrize(
    'reason,data',
    [
        ('empty_image', b''),
        ('unknown_compression', b'BM' + bytes(100)),
        ('compressed_truncated', JPEG[:3]),
        ('compressed_truncated', JPEG[:100]),
        ('compressed_truncated', JPEG[:-40]),
        ('compressed_truncated', PNG[:-40]),
        ('compressed_damaged', PNG[:60] + bytes(20) + PNG[80:]),
        ('compressed_damaged', JPEG[: TABLE + 5] + b'\xff' * 16 + JPEG[TABLE + 21 :]),
        ('too_large', png_claiming(100_000, 100_000)),
        ('data_type', 'text'),
    ],
    ids=lambda value: value if isinstance(value, str) else 'bytes',
)
def test_refused_colour(reason, data):
    with pytest.raises(InputError, match=';') as caught:
        compressed.rgb_from_compressed(SimpleNamespace(format='jpeg', data=data))
    assert caught.value.reason == reason


DEPTH_MSG = message(compressed.encode_depth(DEPTH))


@pytest.mark.parametrize(
    'reason,fields',
    [
        ('too_large', {'format': '16UC1; compressedDepth rvl'}),  # a PNG read as RVL
        ('unknown_encoding', {'format': 'jpeg'}),
        ('unknown_encoding', {'data': bytes(12) + PNG}),
        ('unknown_encoding', {'data': PNG}),
        ('unknown_encoding', {'data': DEPTH_MSG.data[12:], 'format': '32FC1; png compressed'}),
        ('empty_image', {'data': bytes(12)}),
        ('empty_image', {'data': b''}),
        ('unknown_compression', {'data': DEPTH_MSG.data[13:]}),
        ('compressed_truncated', {'data': DEPTH_MSG.data[:-20]}),
        ('too_large', {'data': bytes(12) + png_claiming(10_000, 10_000)}),
    ],
)
def test_refused_depth(reason, fields):
    with pytest.raises(InputError, match=';|png') as caught:
        compressed.depth_from_compressed(SimpleNamespace(**vars(DEPTH_MSG) | fields))
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    'call,words',
    [
        (lambda: compressed.encode_rgb(RGB, kind='gif'), 'jpeg or png'),
        (lambda: compressed.encode_rgb(DEPTH), 'uint8'),
        (lambda: compressed.encode_depth(DEPTH, encoding='8UC1'), '16UC1 or 32FC1'),
        (lambda: compressed.encode_depth(RGB), 'floats'),
    ],
)
def test_encoders_refuse_what_they_cannot_keep(call, words):
    with pytest.raises(ValueError, match=words):
        call()


@settings(max_examples=150, deadline=None)
@given(
    source=st.sampled_from([b'', JPEG, PNG, DEPTH_MSG.data]),
    start=st.integers(0, 5000),
    cut=st.integers(0, 5000),
    patch=st.binary(max_size=64),
    form=st.sampled_from(['jpeg', '16UC1; compressedDepth', '32FC1; compressedDepth png']),
)
def test_no_bytes_do_more_than_be_refused(source, start, cut, patch, form):
    data = source[:start] + patch + source[start + len(patch) :]
    msg = SimpleNamespace(format=form, data=data[: len(data) - cut % 50] if cut % 2 else data)
    for read in (compressed.rgb_from_compressed, compressed.depth_from_compressed):
        try:
            pixels = read(msg)
        except InputError as error:
            assert error.reason and str(error)
        else:
            assert pixels.dtype in (np.uint8, np.float32)


@pytest.mark.parametrize('quality', [1, 40, 100])
def test_the_quality_reaches_the_encoder(quality):
    wanted = cv2.imencode('.jpg', RGB[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()
    assert compressed.encode_rgb(RGB, quality=quality)[1] == wanted


def test_mono16_is_millimetres_too():
    depth = compressed.depth_from_compressed(message(compressed.encode_depth(DEPTH), format='mono16; compressedDepth'))
    np.testing.assert_allclose(depth, DEPTH, atol=0.00051)


def test_inverse_depth_ends_before_ten_metres_and_at_0_152():
    depth = np.array([[9.99, 10.0, 0.153, 0.151]], np.float32)
    found = compressed.depth_from_compressed(message(compressed.encode_depth(depth, encoding='32FC1')))
    assert np.isnan(found[0]).tolist() == [False, True, False, True]
    np.testing.assert_allclose(found[0, [0, 2]], [9.99, 0.153], atol=0.01)


def test_a_header_alone_is_empty_and_a_byte_more_is_no_png():
    for size, reason in ((12, 'empty_image'), (13, 'unknown_compression')):
        with pytest.raises(InputError) as caught:
            compressed.depth_from_compressed(message(('16UC1; compressedDepth', bytes(size))))
        assert caught.value.reason == reason
