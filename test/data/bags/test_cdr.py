"""Serialised messages read without rclpy, and without copying their pixels."""

from pathlib import Path

import numpy as np
import pytest
from rclpy.serialization import serialize_message
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from std_msgs.msg import Header

from m3et_ros.data.bags.cdr import ANSWER, from_cdr, typestore
from m3et_ros.data.bags.reader import BagMessage, decode
from m3et_ros.data.errors import InputError
from m3et_ros.data.images.messages import rgb_from_msg
from m3et_ros.ros.convert import stamp_msg, to_image_msg

RGB = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
IMAGE = serialize_message(to_image_msg(RGB, 'rgb8', Header(stamp=stamp_msg(7_000_000_005), frame_id='eye')))


def test_an_image_reads_as_it_was_written_and_shares_its_bytes():
    image = from_cdr(IMAGE, 'sensor_msgs/msg/Image')
    assert (image.header.stamp.sec, image.header.stamp.nanosec, image.header.frame_id) == (7, 5, 'eye')
    pixels = rgb_from_msg(image)
    np.testing.assert_array_equal(pixels, RGB)
    assert np.shares_memory(pixels, np.frombuffer(IMAGE, np.uint8))


@pytest.mark.parametrize(
    'data',
    [b'', b'\0\1\0\0', IMAGE[:40], IMAGE[:-20], IMAGE[:4] + b'\xff' * 60],
    # Named, since the padding that DDS leaves between fields differs from process to process.
    ids=['nothing', 'header alone', 'cut in the fields', 'cut in the pixels', 'lengths of 4 GiB'],
)
def test_damaged_bytes_are_refused_in_a_sentence(data):
    with pytest.raises(InputError, match='do not read as sensor_msgs/msg/Image') as refused:
        from_cdr(data, 'sensor_msgs/msg/Image')
    assert refused.value.reason == 'message'


def test_the_types_are_those_of_jazzy_and_of_this_package():
    types = set(typestore().fielddefs)
    messages = {f'm3et_ros/msg/{path.stem}' for path in (Path(__file__).parents[3] / 'msg').glob('*.msg')}
    assert messages and messages | {'sensor_msgs/msg/Image', 'geometry_msgs/msg/PoseStamped'} <= types
    assert typestore() is typestore()


def test_an_answer_recorded_before_answers_had_places_reads_without_any(tmp_path):
    store = get_typestore(Stores.ROS2_JAZZY)
    label = 'int32 id\nstring label\nfloat32 score'
    older = """std_msgs/Header header
        string question
        string text
        float32 confidence
        m3et_ros/ScoredLabel[] alternatives
        bool answerable
        string reason
        string explanation
        string[] suggestions
        string read_as
        string scope
        uint32 frames_used
        builtin_interfaces/Time span_start
        string model_id
        float32 latency_s
        float32 age_s"""
    store.register(get_types_from_msg(label, 'm3et_ros/msg/ScoredLabel') | get_types_from_msg(older, ANSWER))
    types = store.types
    stamp = types['builtin_interfaces/msg/Time'](sec=1, nanosec=2)
    label = types['m3et_ros/msg/ScoredLabel'](id=3, label='cup', score=0.5)
    header = types['std_msgs/msg/Header'](stamp=stamp, frame_id='lens')
    words = ('', 'Here.', ['Where?'], 'Where is the cup?', 'frame')
    answer = types[ANSWER](header, 'Where?', 'cup', 0.25, [label], True, *words, 1, stamp, 'kitchen@1', 0.5, 1.5)
    raw = bytes(store.serialize_cdr(answer, ANSWER))
    read = decode(BagMessage('/answer', 7, raw, ANSWER))
    assert (read.text, read.model_id, read.age_s, read.places) == ('cup', 'kitchen@1', 1.5, [])
    assert [(one.id, one.label) for one in read.alternatives] == [(3, 'cup')] and read.header.frame_id == 'lens'
    with pytest.raises(InputError, match='does not read as m3et_ros/msg/Answer'):
        decode(BagMessage('/answer', 7, raw[: len(raw) // 2], ANSWER))
