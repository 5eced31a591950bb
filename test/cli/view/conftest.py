"""A real robot with an untrained model, and a camera with a moving square."""

import threading
import time
from contextlib import contextmanager

import numpy as np
import pytest
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header

from m3et_ros.cli.robots import connect
from m3et_ros.ros.convert import stamp_msg, to_image_msg

WIDTH, HEIGHT = 160, 120


@pytest.fixture(scope='module')
def graph():
    """A connection to the graph, with a camera on /cam: colour, depth that has a hole, and camera_info."""
    with connect(threading.Event()) as robots:
        node = robots.node
        colour = node.create_publisher(Image, '/cam/color/image_raw', 5)
        depth = node.create_publisher(Image, '/cam/aligned_depth_to_color/image_raw', 5)
        info = node.create_publisher(CameraInfo, '/cam/color/camera_info', 5)
        millimetres = np.full((HEIGHT, WIDTH), 1500, np.uint16)
        millimetres[40:80, 50:100] = 0
        turn = 0

        def publish():
            nonlocal turn
            turn += 1
            header = Header(stamp=stamp_msg(time.time_ns()), frame_id='eye')
            pixels = np.full((HEIGHT, WIDTH, 3), 90, np.uint8)
            left = 3 * turn % (WIDTH - 20)
            pixels[20:60, left : left + 20] = 200, 30, 30
            colour.publish(to_image_msg(pixels, 'rgb8', header))
            depth.publish(to_image_msg(millimetres, '16UC1', header))
            K = [100.0, 0.0, WIDTH / 2, 0.0, 100.0, HEIGHT / 2, 0.0, 0.0, 1.0]
            info.publish(CameraInfo(header=header, width=WIDTH, height=HEIGHT, k=K))

        node.create_timer(0.2, publish)
        yield robots


@pytest.fixture(scope='module')
def start_robot(graph, m3et_started):
    """Run a robot on the camera until a block ends."""

    @contextmanager
    def start(namespace):
        with m3et_started('robot', '--namespace', namespace, '--camera', '/cam', '--model', 'tiny') as process:
            graph.robot(namespace).newest('~/depth/image', Image, 120)
            yield process

    return start


@pytest.fixture(scope='module')
def robot(start_robot):
    """The namespace of a robot that answers."""
    with start_robot('/one'):
        yield '/one'
