"""Stamps, arrays and results become messages without losing a field."""

from dataclasses import replace

import numpy as np
import pytest
from builtin_interfaces.msg import Time
from rclpy.time import Time as RclpyTime
from rosbags.typesys import Stores, get_typestore
from sensor_msgs.msg import CameraInfo, RegionOfInterest
from std_msgs.msg import ColorRGBA, Header

from m3et_ros.data.frame import Labels
from m3et_ros.data.images.messages import rgb_from_msg
from m3et_ros.msg import ScoredLabel
from m3et_ros.ros import convert
from m3et_ros.runtime.results import Actions, Anticipation, Place, Ranked, Reply

HEADER = Header(stamp=Time(sec=5, nanosec=999_999_999), frame_id='camera_color_optical_frame')
NOW = RclpyTime(nanoseconds=6_249_999_999)
H, W = 6, 8
RGB = np.random.default_rng(0).integers(0, 256, (H, W, 3), dtype=np.uint8)
STORE = get_typestore(Stores.ROS2_JAZZY)


CUP = Place('cup', 0.5, (3.5, 2.0), (1, 2, 3, 4), (0.5, -0.25, 1.5), (0.25, 0.125, 0.0625), 1.75, 0.75)
NAN = pytest.approx(float('nan'), nan_ok=True)
BOX = {'x_offset': 1, 'y_offset': 2, 'width': 3, 'height': 4, 'do_rectify': False}
CUP_FIELDS = {
    'label': 'cup',
    'confidence': 0.5,
    'u': 3.5,
    'v': 2.0,
    'box': BOX,
    'position': {'x': 0.5, 'y': -0.25, 'z': 1.5},
    'size': {'x': 0.25, 'y': 0.125, 'z': 0.0625},
    'distance': 1.75,
    'measured': 0.75,
}
UNKNOWN = {name: dict.fromkeys('xyz', NAN) for name in ('position', 'size')} | {'distance': NAN, 'measured': NAN}


def fields(message):
    """Every field of a message by name; lists of messages as lists of such dictionaries."""

    def plain(value):
        if hasattr(value, 'get_fields_and_field_types') and not isinstance(value, Header):
            return fields(value)
        return [plain(item) for item in value] if isinstance(value, list) else value

    return {name: plain(getattr(message, name)) for name in message.get_fields_and_field_types()}


def test_an_age_is_unknown_without_a_stamp_or_before_simulated_time_begins():
    assert convert.age_s(HEADER, RclpyTime(nanoseconds=7_999_999_999)) == 2.0
    assert convert.age_s(HEADER, RclpyTime(nanoseconds=4_999_999_999)) == -1.0
    assert np.isnan(convert.age_s(Header(), RclpyTime(nanoseconds=7)))
    assert np.isnan(convert.age_s(HEADER, RclpyTime(nanoseconds=0)))


@pytest.mark.parametrize('nanoseconds', [0, 1, 999_999_999, 1_000_000_000, 1_700_000_000_123_456_789])
def test_stamps_survive_the_round_trip(nanoseconds):
    assert convert.stamp_ns(convert.stamp_msg(nanoseconds)) == nanoseconds


def test_the_age_is_negative_when_the_clocks_disagree():
    assert convert.age_s(HEADER, NOW) == 0.25
    assert convert.age_s(HEADER, RclpyTime(nanoseconds=5_749_999_999)) == -0.25


def test_every_field_of_an_answer_has_the_value_of_the_reply():
    reply = Reply(
        question='what?',
        text='a cup',
        confidence=0.75,
        alternatives=(Ranked(3, 'a cup', 0.625), Ranked(-1, 'a pan', 0.375)),
        scope='episode',
        frames_used=8,
        first_ns=1_500_000_002,
        last_ns=5_999_999_999,
        latency_s=0.125,
        answerable=False,
        reason='unsure',
        explanation='The best answer is unlikely.',
        suggestions=('Is there a cup?',),
        read_as='Where is the cup?',
        places=(CUP, replace(CUP, position_m=None, size_m=None, distance_m=None, measured=None)),
    )
    assert fields(convert.answer_msg(reply, HEADER, 'kitchen-random-0', NOW)) == {
        'header': HEADER,
        'question': 'what?',
        'text': 'a cup',
        'confidence': 0.75,
        'alternatives': [{'id': 3, 'label': 'a cup', 'score': 0.625}, {'id': -1, 'label': 'a pan', 'score': 0.375}],
        'answerable': False,
        'reason': 'unsure',
        'explanation': 'The best answer is unlikely.',
        'suggestions': ['Is there a cup?'],
        'read_as': 'Where is the cup?',
        'scope': 'episode',
        'frames_used': 8,
        'span_start': {'sec': 1, 'nanosec': 500_000_002},
        'places': [CUP_FIELDS, CUP_FIELDS | UNKNOWN],
        'model_id': 'kitchen-random-0',
        'latency_s': 0.125,
        'age_s': 0.25,
    }


@pytest.mark.parametrize('known', [True, False], ids=['in space', 'pixels alone'])
def test_a_place_survives_the_round_trip(known):
    place = CUP if known else Place('cup', 0.5, (3.5, 2.0), (1, 2, 3, 4))
    assert convert.place_of(convert.place_msg(place)) == place


def test_every_field_of_an_anticipation_has_the_value_of_the_result():
    lists = ('verbs', 'nouns', 'actions', 'current_verbs', 'current_nouns', 'current_actions')
    candidates = {name: (Ranked(n, name, n / 8), Ranked(-1, f'second of {name}', 0)) for n, name in enumerate(lists)}
    result = Anticipation(
        now=Actions(*(candidates[f'current_{name}'] for name in ('verbs', 'nouns', 'actions'))),
        next=Actions(*(candidates[name] for name in ('verbs', 'nouns', 'actions'))),
        horizon_s=1.5,
        latency_s=0.125,
    )
    assert fields(convert.anticipation_msg(result, HEADER, 'tiny', NOW)) == {
        'header': HEADER,
        'horizon_s': 1.5,
        **{name: [{'id': c.id, 'label': c.label, 'score': c.score} for c in candidates[name]] for name in lists},
        'model_id': 'tiny',
        'latency_s': 0.125,
        'age_s': 0.25,
    }


def test_every_field_of_a_scored_label_has_the_value_of_the_candidate():
    assert convert.scored((Ranked(7, 'cup', 0.5),)) == [ScoredLabel(id=7, label='cup', score=0.5)]


def test_every_field_of_the_label_map_has_the_value_of_the_labels():
    labels = Labels(('wall', 'cup'), ((255, 51, 102), (0, 204, 153)), (), (), ())
    message = convert.label_map_msg(labels, HEADER)
    assert set(fields(message)) == {'header', 'ids', 'names', 'colors'}
    assert (message.header, list(message.ids), list(message.names)) == (HEADER, [0, 1], ['wall', 'cup'])
    assert message.colors == [ColorRGBA(r=1.0, g=0.2, b=0.4, a=1.0), ColorRGBA(r=0.0, g=0.8, b=0.6, a=1.0)]
    assert message.UNLABELLED == 255


@pytest.mark.parametrize(
    'encoding, pixels, step',
    [
        ('rgb8', RGB, 3 * W),
        ('bgr8', RGB, 3 * W),
        ('rgba8', np.dstack([RGB, RGB[..., 0]]), 4 * W),
        ('bgra8', np.dstack([RGB, RGB[..., 0]]), 4 * W),
        ('mono8', RGB[..., 0], W),
        ('mono16', RGB[..., 0].astype(np.uint16), 2 * W),
        ('16UC1', RGB[..., 0].astype(np.uint16), 2 * W),
        ('32FC1', RGB[..., 0].astype(np.float32), 4 * W),
    ],
)
def test_every_field_of_an_image_has_the_value_of_the_array(encoding, pixels, step):
    message = convert.to_image_msg(pixels, encoding, HEADER)
    assert (message.header, message.height, message.width, message.encoding) == (HEADER, H, W, encoding)
    assert (message.is_bigendian, message.step, len(message.data)) == (0, step, step * H)
    assert np.array_equal(np.frombuffer(message.data, pixels.dtype).reshape(pixels.shape), pixels)


def test_an_image_is_read_back_in_rclpy_and_rosbags():
    message = convert.to_image_msg(RGB[:, ::2], 'rgb8', Header())
    assert np.array_equal(rgb_from_msg(message), RGB[:, ::2])
    header = STORE.types['std_msgs/msg/Header'](STORE.types['builtin_interfaces/msg/Time'](0, 0), '')
    other = STORE.types['sensor_msgs/msg/Image'](
        header, H, W // 2, 'rgb8', 0, 3 * W // 2, np.frombuffer(message.data, np.uint8)
    )
    again = STORE.deserialize_cdr(STORE.serialize_cdr(other, 'sensor_msgs/msg/Image'), 'sensor_msgs/msg/Image')
    assert np.array_equal(rgb_from_msg(again), RGB[:, ::2])


@pytest.mark.parametrize(
    'pixels, encoding',
    [(RGB, 'jpeg'), (RGB, 'mono8'), (RGB[..., 0], 'rgb8'), (RGB.astype(float), 'rgb8'), (RGB[0, 0], 'mono8')],
)
def test_an_array_that_does_not_fit_the_encoding_is_refused(pixels, encoding):
    with pytest.raises(ValueError, match='encoding|needs'):
        convert.to_image_msg(pixels, encoding, Header())


def test_intrinsics_are_those_of_the_images_as_they_arrive():
    info = CameraInfo(k=[500.0, 0.0, 320.0, 0.0, 400.0, 240.0, 0.0, 0.0, 1.0], binning_x=2, binning_y=4)
    info.roi = RegionOfInterest(x_offset=20, y_offset=40)
    expected = [[250, 0, 150], [0, 100, 50], [0, 0, 1]]
    assert convert.intrinsics_of(info) == pytest.approx(np.array(expected))
    assert convert.intrinsics_of(CameraInfo(k=info.k)) == pytest.approx(np.array(info.k).reshape(3, 3))


@pytest.mark.parametrize('info', [None, CameraInfo(), CameraInfo(k=[float('nan')] * 9)], ids=['none', 'unset', 'nan'])
def test_a_camera_that_is_not_calibrated_has_no_intrinsics(info):
    assert convert.intrinsics_of(info) is None
