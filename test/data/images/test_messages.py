"""The image codec: every encoding, step and endianness, and the refusal of everything else."""

import array
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stored_images import CELLS, mosaic_of

from m3et_ros.data.errors import InputError
from m3et_ros.data.images import messages

H, W = 6, 8
RGB = np.random.default_rng(0).integers(0, 256, (H, W, 3), dtype=np.uint8)


def message(pixels, encoding, *, padding=0, big=0, kind=bytes):
    """An Image whose rows are followed by padding bytes of 0xAA; kind wraps the data."""
    rows = np.ascontiguousarray(pixels).reshape(len(pixels), -1).view(np.uint8)
    padded = np.pad(rows, ((0, 0), (0, padding)), constant_values=0xAA)
    return SimpleNamespace(
        height=pixels.shape[0],
        width=pixels.shape[1],
        encoding=encoding,
        is_bigendian=big,
        step=padded.shape[1],
        data=kind(padded.tobytes()),
    )


def alpha(rgb):
    return np.dstack([rgb, np.full(rgb.shape[:2], 7, np.uint8)])


KINDS = [bytes, bytearray, lambda b: array.array('B', b), lambda b: np.frombuffer(b, np.uint8)]


@pytest.mark.parametrize('padding', [0, 1, 5])
@pytest.mark.parametrize(
    'encoding,stored',
    [('rgb8', RGB), ('bgr8', RGB[..., ::-1]), ('rgba8', alpha(RGB)), ('bgra8', alpha(RGB[..., ::-1]))],
)
def test_colour_encodings_give_the_same_pixels(encoding, stored, padding):
    for kind in KINDS:
        rgb = messages.rgb_from_msg(message(stored, encoding, padding=padding, kind=kind))
        assert rgb.dtype == np.uint8 and np.array_equal(rgb, RGB)
        assert min(rgb.strides) >= 0, 'torch.from_numpy refuses negative strides'


def test_mono_is_grey_in_all_channels():
    rgb = messages.rgb_from_msg(message(RGB[..., 0], 'mono8', padding=3))
    assert np.array_equal(rgb, np.repeat(RGB[..., :1], 3, axis=2))


@pytest.mark.parametrize('encoding,luma', [('yuv422', 1), ('uyvy', 1), ('yuv422_yuy2', 0), ('yuyv', 0)])
def test_yuv_follows_bt601_with_video_range(encoding, luma):
    yuv = np.random.default_rng(1).integers(0, 256, (32, 64, 2), dtype=np.uint8)
    # Below video black luma counts as black; cameras send nothing there.
    y = 255 / 219 * np.maximum(yuv[..., luma] - 16.0, 0)
    u, v = (np.repeat(yuv[:, start::2, 1 - luma] - 128.0, 2, axis=1) for start in (0, 1))
    expected = np.dstack([y + 1.596 * v, y - 0.813 * v - 0.391 * u, y + 2.018 * u]).clip(0, 255)
    assert np.abs(messages.rgb_from_msg(message(yuv, encoding, padding=2)) - expected).max() <= 1


@pytest.mark.parametrize('order', CELLS)
def test_a_mosaic_gets_its_colours_back(order):
    rgb = np.full((8, 10, 3), (200, 120, 40), np.uint8)
    assert np.array_equal(messages.rgb_from_msg(message(mosaic_of(rgb, order), f'bayer_{order}8', padding=3)), rgb)
    for big in (0, 1):
        stored = mosaic_of(rgb.astype('>u2' if big else '<u2') * np.uint16(257), order)
        stored = stored.astype('>u2' if big else '<u2')
        assert np.array_equal(messages.rgb_from_msg(message(stored, f'bayer_{order}16', padding=2, big=big)), rgb)


@pytest.mark.parametrize('big', [0, 1])
@pytest.mark.parametrize(
    'encoding,stored',
    [
        ('rgb16', RGB),
        ('bgr16', RGB[..., ::-1]),
        ('16UC3', RGB[..., ::-1]),
        ('rgba16', alpha(RGB)),
        ('bgra16', alpha(RGB[..., ::-1])),
        ('16UC4', alpha(RGB[..., ::-1])),
    ],
)
def test_sixteen_bits_are_scaled_to_eight(encoding, stored, big):
    wide = stored.astype('>u2' if big else '<u2') * np.uint16(257) + np.where(stored < 255, 100, 0)
    rgb = messages.rgb_from_msg(message(wide.astype('>u2' if big else '<u2'), encoding, padding=4, big=big))
    assert rgb.dtype == np.uint8 and np.array_equal(rgb, RGB)


def test_grey_of_sixteen_bits_is_scaled_too():
    rgb = messages.rgb_from_msg(message(RGB[..., 0].astype('<u2') * 257, 'mono16'))
    assert np.array_equal(rgb, np.repeat(RGB[..., :1], 3, axis=2))


@pytest.mark.parametrize('encoding,stored', [('8UC3', RGB[..., ::-1]), ('8UC4', alpha(RGB[..., ::-1]))])
def test_encodings_of_opencv_are_blue_first(encoding, stored):
    assert np.array_equal(messages.rgb_from_msg(message(stored, encoding, padding=1)), RGB)
    grey = messages.rgb_from_msg(message(RGB[..., 0], '8UC1'))
    assert np.array_equal(grey, np.repeat(RGB[..., :1], 3, axis=2))


@pytest.mark.parametrize('encoding', ['nv12', 'nv21', 'nv24'])
@pytest.mark.parametrize('padding', [0, 6])
def test_planes_of_luma_and_chroma_follow_bt601(encoding, padding):
    y, u, v = 150, 90, 180
    full = encoding == 'nv24'
    chroma = np.tile(np.array([v, u] if encoding == 'nv21' else [u, v], np.uint8), (H if full else H // 2, W // 2))
    luma = np.full((H, W), y, np.uint8)
    luma[:, 0] = 16
    step = W + padding
    if full:
        planes = np.zeros((3 * H, step), np.uint8)
        planes[:H, :W] = luma
        planes[H:].reshape(H, 2 * step)[:, : 2 * W] = np.tile(chroma, 2)
    else:
        planes = np.pad(np.vstack([luma, chroma]), ((0, 0), (0, padding)))
    msg = message(planes, encoding)
    msg.height, msg.width = H, W
    rgb = messages.rgb_from_msg(msg).astype(int)
    bright = 255 / 219 * (y - 16)
    expected = [bright + 1.596 * (v - 128), bright - 0.813 * (v - 128) - 0.391 * (u - 128), bright + 2.018 * (u - 128)]
    assert rgb.shape == (H, W, 3) and np.abs(rgb[:, 2:] - expected).max() <= 1
    assert (rgb[:, 0].max(axis=-1) < rgb[:, 2].max(axis=-1)).all() and (rgb[:, 1] == rgb[:, 2]).all()


@pytest.mark.parametrize('encoding,unit', [('16UC1', 1e-4), ('mono16', 0.001), ('32FC1', 1e-3)])
def test_the_unit_of_depth_can_be_given(encoding, unit):
    stored = np.array([[0, 15000, 60000]], '<f4' if encoding == '32FC1' else '<u2')
    depth = messages.depth_from_msg(message(stored, encoding), unit)
    np.testing.assert_allclose(depth, [[np.nan, 15000 * unit, 60000 * unit]], rtol=1e-6)


def test_our_codec_agrees_with_cv_bridge():
    """The reference of the field, where it is installed."""
    bridge = pytest.importorskip('cv_bridge', reason='cv_bridge is not installed').CvBridge()
    sensor = pytest.importorskip('sensor_msgs.msg', reason='sensor_msgs is not installed')
    for encoding, stored in (
        ('rgb8', RGB),
        ('bgr8', RGB),
        ('bgra8', alpha(RGB)),
        ('mono8', RGB[..., 0]),
        ('rgb16', RGB.astype(np.uint16) * 200),
        ('bayer_rggb8', RGB[..., 0]),
        ('bayer_grbg8', RGB[..., 0]),
    ):
        fields = vars(message(stored, encoding))
        image = sensor.Image(**{name: value for name, value in fields.items() if name != 'data'})
        image.data = fields['data']
        ours = messages.rgb_from_msg(image).astype(int)
        assert np.abs(ours - bridge.imgmsg_to_cv2(image, 'rgb8')).max() <= 1, encoding


def test_rgb_is_a_view():
    msg = message(RGB, 'rgb8', kind=lambda b: array.array('B', b))
    rgb = messages.rgb_from_msg(msg)
    msg.data[0] = 255 - msg.data[0]
    assert rgb[0, 0, 0] == msg.data[0]


@pytest.mark.parametrize('padding', [0, 1, 6])
@pytest.mark.parametrize('big', [0, 1])
@pytest.mark.parametrize('encoding', ['16UC1', 'mono16'])
def test_millimetres(encoding, big, padding):
    stored = np.array([[0, 1, 999], [1000, 65534, 65535]], '>u2' if big else '<u2')
    depth = messages.depth_from_msg(message(stored, encoding, big=big, padding=padding))
    assert depth.dtype == np.float32
    np.testing.assert_allclose(depth, [[np.nan, 0.001, 0.999], [1.0, 65.534, np.nan]], rtol=1e-6)


@pytest.mark.parametrize('padding', [0, 3])
@pytest.mark.parametrize('big', [0, 1])
def test_float_metres(big, padding):
    stored = np.array([[0, -1, np.inf], [-np.inf, np.nan, 2.5]], '>f4' if big else '<f4')
    depth = messages.depth_from_msg(message(stored, '32FC1', big=big, padding=padding))
    assert depth.dtype == np.float32 and depth.dtype.isnative
    np.testing.assert_array_equal(depth, np.float32([[np.nan] * 3, [np.nan, np.nan, 2.5]]))


def broken(**fields):
    good = message(RGB, 'rgb8')
    for name, value in fields.items():
        setattr(good, name, value)
    return good


@pytest.mark.parametrize(
    'reason,fields',
    [
        ('empty_image', {'height': 0, 'width': 0, 'step': 0, 'data': b''}),
        ('empty_image', {'height': 0}),
        ('step_too_short', {'step': 3 * W - 1}),
        ('data_too_short', {'data': bytes(3 * W * H - 1)}),
        ('data_too_short', {'data': b''}),
        ('too_large', {'height': 2**32 - 1, 'width': 2**32 - 1, 'step': 2**32 - 1}),
        ('unknown_encoding', {'encoding': 'bayer_rggb12'}),
        ('unknown_encoding', {'encoding': '16UC1'}),
        ('odd_width', {'encoding': 'yuv422', 'width': 7}),
        ('odd_width', {'encoding': 'nv12', 'width': 7}),
        ('odd_height', {'encoding': 'nv21', 'height': 5}),
        ('data_too_short', {'encoding': 'nv24', 'data': bytes(24 * H * 3 - 1)}),
        ('small_mosaic', {'encoding': 'bayer_grbg8', 'height': 2}),
        ('step_too_short', {'encoding': 'rgb16'}),
        ('data_type', {'data': [1, 2, 3]}),
        ('data_type', {'data': np.zeros(2 * H * W * 3, np.uint8)[::2]}),
    ],
)
def test_refused_colour_says_what_why_and_how_to_mend_it(reason, fields):
    with pytest.raises(InputError, match='colour|yuv422') as caught:
        messages.rgb_from_msg(broken(**fields))
    assert caught.value.reason == reason
    assert ';' in str(caught.value), 'the fix comes after the semicolon'


def test_colour_is_not_depth():
    with pytest.raises(InputError, match='16UC1') as caught:
        messages.depth_from_msg(message(RGB, 'rgb8'))
    assert caught.value.reason == 'unknown_encoding'


def test_distances_as_millimetres_and_back():
    depth = np.float32([[0.0004, 0.0006, 1.5, 65.534], [np.nan, 0, -1, np.inf], [-np.inf, 65.5346, 70, 1e38]])
    millimetres = messages.depth_to_mm(depth)
    assert millimetres.dtype == np.uint16
    assert millimetres.tolist() == [[0, 1, 1500, 65534], [0] * 4, [0] * 4]
    np.testing.assert_allclose(messages.metres(millimetres)[0], [np.nan, 0.001, 1.5, 65.534], rtol=1e-6)


def test_an_unset_image_is_empty_and_a_broken_one_is_not():
    unset = {'height': 0, 'width': 0, 'data': b''}
    assert messages.empty(SimpleNamespace(**unset))
    assert not messages.empty(message(RGB, 'rgb8'))
    assert not messages.empty(SimpleNamespace(**unset | {'height': 1}))


SIZES = st.one_of(st.integers(0, 20), st.integers(0, 2**32 - 1))


@settings(max_examples=200, deadline=None)
@given(
    height=SIZES,
    width=SIZES,
    step=SIZES,
    big=st.integers(0, 255),
    data=st.binary(max_size=2000),
    encoding=st.one_of(st.sampled_from([*messages.COLOUR, *messages.DEPTH]), st.text(max_size=8)),
)
def test_no_message_does_more_than_be_refused(height, width, step, big, data, encoding):
    msg = SimpleNamespace(height=height, width=width, step=step, is_bigendian=big, data=data, encoding=encoding)
    for read, kind, channels in ((messages.rgb_from_msg, np.uint8, (3,)), (messages.depth_from_msg, np.float32, ())):
        try:
            pixels = read(msg)
        except InputError as error:
            assert error.reason and str(error)
        else:
            assert pixels.shape == (height, width, *channels) and pixels.dtype == kind
            assert not channels or pixels.min() >= 0
            assert channels or not (pixels <= 0).any()


def test_an_image_of_the_most_pixels_is_read_and_one_more_is_not(monkeypatch):
    monkeypatch.setattr(messages, 'MAX_PIXELS', H * W)
    assert messages.rgb_from_msg(message(RGB, 'rgb8')).shape == RGB.shape
    monkeypatch.setattr(messages, 'MAX_PIXELS', H * W - 1)
    with pytest.raises(InputError, match=f'{W}x{H} pixels') as caught:
        messages.rgb_from_msg(message(RGB, 'rgb8'))
    assert caught.value.reason == 'too_large'


def test_rows_and_data_of_exactly_the_right_size_are_read():
    exact = message(RGB, 'rgb8')
    assert exact.step == 3 * W and len(exact.data) == 3 * W * H
    assert np.array_equal(messages.rgb_from_msg(exact), RGB)
    exact.data += b'more'
    assert np.array_equal(messages.rgb_from_msg(exact), RGB)


@pytest.mark.parametrize('encoding', ['yuv422', 'uyvy', 'yuv422_yuy2', 'yuyv'])
def test_yuv_needs_an_even_width(encoding):
    assert messages.rgb_from_msg(message(RGB[..., :2], encoding)).shape == RGB.shape
    with pytest.raises(InputError, match='even width') as caught:
        messages.rgb_from_msg(message(RGB[:, :7, :2], encoding))
    assert caught.value.reason == 'odd_width'


def test_every_depth_encoding_counts_its_own_bytes():
    for encoding, kind in (('16UC1', np.uint16), ('mono16', np.uint16), ('32FC1', np.float32)):
        one = message(np.ones((H, W), kind), encoding)
        assert messages.depth_from_msg(one).shape == (H, W)
        one.step -= 1
        with pytest.raises(InputError) as caught:
            messages.depth_from_msg(one)
        assert caught.value.reason == 'step_too_short'


def test_known_depth_is_positive_and_finite():
    depth = np.array([[-1, 0, 1e-30, 2, np.inf, np.nan]])
    np.testing.assert_array_equal(
        messages.known_depth(depth), np.array([[np.nan, np.nan, 1e-30, 2, np.nan, np.nan]], np.float32)
    )
