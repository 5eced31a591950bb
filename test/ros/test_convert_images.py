"""Image messages of arrays, as rclpy and rosbags read them back."""

import numpy as np
import pytest
from rosbags.typesys import Stores, get_typestore
from std_msgs.msg import Header

from m3et_ros.data.images.messages import rgb_from_msg
from m3et_ros.ros import convert

H, W = 6, 8
RGB = np.random.default_rng(0).integers(0, 256, (H, W, 3), dtype=np.uint8)
STORE = get_typestore(Stores.ROS2_JAZZY)


@pytest.mark.parametrize(
    'encoding,pixels',
    [
        ('rgb8', RGB),
        ('bgr8', RGB),
        ('rgba8', np.dstack([RGB, RGB[..., 0]])),
        ('mono8', RGB[..., 0]),
        ('16UC1', RGB[..., 0].astype(np.uint16)),
        ('32FC1', RGB[..., 0].astype(np.float32)),
    ],
)
def test_written_messages_hold_the_array(encoding, pixels):
    header = Header(frame_id='camera')
    msg = convert.to_image_msg(pixels, encoding, header)
    assert (msg.height, msg.width, msg.encoding, msg.header) == (H, W, encoding, header)
    assert msg.step * H == len(msg.data)
    assert np.array_equal(np.frombuffer(msg.data, pixels.dtype).reshape(pixels.shape), pixels)


def test_a_written_message_reads_back_in_rclpy_and_rosbags():
    msg = convert.to_image_msg(RGB[:, ::2], 'rgb8', Header())
    assert np.array_equal(rgb_from_msg(msg), RGB[:, ::2])
    header = STORE.types['std_msgs/msg/Header'](STORE.types['builtin_interfaces/msg/Time'](0, 0), '')
    other = STORE.types['sensor_msgs/msg/Image'](
        header, H, W // 2, 'rgb8', 0, 3 * W // 2, np.frombuffer(msg.data, np.uint8)
    )
    again = STORE.deserialize_cdr(STORE.serialize_cdr(other, 'sensor_msgs/msg/Image'), 'sensor_msgs/msg/Image')
    assert np.array_equal(rgb_from_msg(again), RGB[:, ::2])


@pytest.mark.parametrize(
    'pixels,encoding',
    [(RGB, 'jpeg'), (RGB, 'mono8'), (RGB[..., 0], 'rgb8'), (RGB.astype(float), 'rgb8'), (RGB[0, 0], 'mono8')],
)
def test_an_array_that_does_not_fit_the_encoding_is_refused(pixels, encoding):
    with pytest.raises(ValueError, match='encoding|needs'):
        convert.to_image_msg(pixels, encoding, Header())
