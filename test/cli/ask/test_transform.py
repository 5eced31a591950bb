"""Places in another frame: the rotation, what is said without tf2, and real TF where it is installed."""

import importlib.util
import math
import threading

import pytest
from geometry_msgs.msg import Quaternion, Transform, TransformStamped, Vector3

from m3et_ros.cli.ask.client import client
from m3et_ros.cli.ask.transform import moved, transform_to
from m3et_ros.cli.main import main
from m3et_ros.cli.output import Refused

HALF = math.sqrt(0.5)
# REP 103: x right, y down, z forward in the optical frame; x forward, y left, z up in the body.
BODY_OF_OPTICAL = Quaternion(x=-0.5, y=0.5, z=-0.5, w=0.5)


@pytest.mark.parametrize(
    ('rotation', 'point', 'expected'),
    [
        (Quaternion(w=1.0), (1, 2, 3), (1.1, 2.2, 3.3)),
        (Quaternion(z=HALF, w=HALF), (1, 0, 0), (0.1, 1.2, 0.3)),
        (Quaternion(x=HALF, w=HALF), (0, 0, 1), (0.1, -0.8, 0.3)),
        (BODY_OF_OPTICAL, (0.5, 0.25, 2), (2.1, -0.3, 0.05)),
    ],
    ids=['shift', 'turn about z', 'turn about x', 'optical to body'],
)
def test_a_point_is_turned_and_then_shifted(rotation, point, expected):
    transform = Transform(rotation=rotation, translation=Vector3(x=0.1, y=0.2, z=0.3))
    assert moved(point, transform) == pytest.approx(expected)


@pytest.mark.skipif(importlib.util.find_spec('tf2_ros') is not None, reason='tf2_ros is installed')
def test_without_tf2_the_command_says_what_it_needs():
    with client(threading.Event()) as node, pytest.raises(Refused, match=r"needs tf2_ros.* from 'camera' yourself"):
        transform_to(node, 'map', 'camera', 1, 0.1)


def test_tf_is_that_of_the_robot():
    pytest.importorskip('tf2_ros', reason='tf2_ros comes with a ROS 2 installation and not from PyPI')
    from tf2_ros import StaticTransformBroadcaster

    mount = TransformStamped(child_frame_id='camera', transform=Transform(translation=Vector3(z=1.5)))
    mount.header.frame_id = 'base_link'
    mount.transform.rotation = BODY_OF_OPTICAL
    with client(threading.Event()) as node:
        broadcaster = StaticTransformBroadcaster(node)
        broadcaster.sendTransform(mount)
        found = transform_to(node, 'base_link', 'camera', 10**18, 60)
        assert moved((0.5, 0.25, 2), found) == pytest.approx((2, -0.5, 1.25))
        with pytest.raises(Refused, match="from 'camera' to 'nowhere'"):
            transform_to(node, 'nowhere', 'camera', 10**18, 0.2)


def test_an_image_from_a_file_has_no_frame(capsys):
    assert main(['ask', 'Where is the cup?', '--image', 'photo.jpg', '--frame', 'map']) == 1
    assert 'An image from a file has no TF' in capsys.readouterr().err
