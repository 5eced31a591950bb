import functools
import json
import subprocess
import sys

import numpy as np
import pytest
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import String

from m3et_ros.data.images.messages import depth_from_msg, rgb_from_msg
from m3et_ros.ros.camera_sim import EDGE, NEAREST_M, info_msg, sensed
from m3et_ros.ros.convert import stamp_ns

pytest.importorskip('mujoco', reason='the simulated kitchen needs MuJoCo')
SMALL = ('width:=64', 'height:=48', 'backend:=raycast', 'rate_hz:=20.0')


class Camera:
    """A camera_sim process."""

    def __init__(self, *parameters, remap=()):
        arguments = [item for parameter in parameters for item in ('-p', parameter)]
        arguments += [item for rule in remap for item in ('-r', rule)]
        self.process = subprocess.Popen(
            [sys.executable, '-m', 'm3et_ros.ros.camera_sim', '--ros-args', *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.stop()
        self.process.communicate()

    def stop(self):
        """Exit code and log after SIGTERM."""
        self.process.terminate()
        return self.finish()

    def finish(self):
        try:
            log, _ = self.process.communicate(timeout=30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        assert 'Traceback' not in log
        return self.process.returncode, log


def topics(namespace):
    return (
        (f'{namespace}/color/image_raw', Image),
        (f'{namespace}/aligned_depth_to_color/image_raw', Image),
        (f'{namespace}/color/camera_info', CameraInfo),
        (f'{namespace}/camera_sim/action', String),
    )


class Listener:
    """Keeps the messages of a camera by stamp."""

    def __init__(self, ros, namespace):
        self.ros, self.node, self.heard = ros, ros.node('listener'), []
        for topic, kind in topics(namespace):
            self.heard.append({})
            self.node.create_subscription(kind, topic, functools.partial(self._keep, self.heard[-1]), 10)

    def _keep(self, messages, message):
        stamp = json.loads(message.data)['stamp_ns'] if isinstance(message, String) else stamp_ns(message.header.stamp)
        messages[stamp] = message

    def complete(self, count):
        """Wait for so many sets of messages with the same stamp; the sets, oldest first."""

        def sets():
            common = sorted(set.intersection(*(set(messages) for messages in self.heard)))
            return [[messages[stamp] for messages in self.heard] for stamp in common]

        self.ros.until(lambda: len(sets()) >= count, 60)
        return sets()


def test_it_publishes_what_a_realsense_would(ros):
    listener = Listener(ros, '/camera/camera')
    with Camera('seed:=3', *SMALL) as camera:
        sets = listener.complete(5)
        code, log = camera.stop()
    assert code == 0
    assert 'rendered with raycast' in log
    color, depth, info, action = sets[0]
    assert (color.encoding, color.width, color.height) == ('rgb8', 64, 48)
    assert (depth.encoding, depth.width, depth.height) == ('16UC1', 64, 48)
    assert {color.header.frame_id, depth.header.frame_id, info.header.frame_id} == {'camera_color_optical_frame'}
    assert (info.width, info.height) == (64, 48)
    assert info.k[0] == info.k[4] > 0 and (info.k[2], info.k[5]) == (31.5, 23.5)
    assert json.loads(action.data)['source'] == 'ground truth of the simulator'
    metres = depth_from_msg(depth)
    assert np.nanmin(metres) > 0.1 and np.nanmax(metres) < 20 and np.isfinite(metres).mean() > 0.9
    pictures = [rgb_from_msg(pictures[0]) for pictures in sets]
    assert pictures[0].std() > 5
    assert any(not np.array_equal(pictures[0], picture) for picture in pictures[1:])


def test_another_namespace_metres_noise_and_a_new_kitchen_after_each_episode(ros):
    listener = Listener(ros, '/robot2/eye')
    with Camera(
        'depth_encoding:=32FC1',
        'depth_noise:=true',
        'episode_frames:=3',
        'frame_id:=eye',
        *SMALL,
        remap=['__ns:=/robot2/eye'],
    ) as camera:
        _color, depth, _, _ = listener.complete(8)[-1]
        code, log = camera.stop()
    assert code == 0
    assert 'kitchen 0,' in log and 'kitchen 1,' in log and 'kitchen 2,' in log
    assert (depth.encoding, depth.header.frame_id) == ('32FC1', 'eye')
    metres = depth_from_msg(depth)
    assert np.isnan(metres).any() and np.nanmin(metres) > NEAREST_M * 0.9


def test_wrong_parameter_is_one_sentence_and_exit_code_1():
    with Camera('backend:=crayons') as camera:
        code, log = camera.finish()
    assert code == 1
    assert "backend is 'crayons'; give auto, egl, osmesa or raycast" in log


def test_sensed_depth_has_steps_holes_and_a_range():
    K = np.array([[400, 0, 319.5], [0, 400, 239.5], [0, 0, 1.0]])
    depth = np.tile(np.linspace(0.1, 8, 640, dtype=np.float32), (4, 1))
    seen = sensed(depth, K)
    known = np.isfinite(seen)
    assert (known == ((depth >= NEAREST_M) & (depth <= 6)))[:, 1:].all()
    # Half a step of disparity, 0.125 px at a baseline of 5 cm, is z^2 * 0.0625 / (400 * 0.05) metres.
    assert (np.abs(seen - depth)[known] <= depth[known] ** 2 * 0.0625 / 20 * 1.1 + 1e-6).all()
    assert len(np.unique(seen[0][known[0]])) < known[0].sum()
    wall = np.full((2, 10), 2, np.float32)
    wall[:, 5:] = 2 * (1 + 2 * EDGE)
    assert np.isnan(sensed(wall, K)[0]).tolist() == [False] * 5 + [True] + [False] * 4
    assert np.isnan(sensed(np.full((1, 3), np.nan, np.float32), K)).all()


def test_camera_info_projects_as_the_matrix_does():
    K = np.array([[400, 0, 320], [0, 410, 240], [0, 0, 1.0]])
    info = info_msg(K, 640, 480, Image().header)
    assert np.array_equal(np.reshape(info.k, (3, 3)), K)
    assert np.array_equal(np.reshape(info.p, (3, 4)) @ [0.1, 0.2, 2, 1], K @ [0.1, 0.2, 2])
