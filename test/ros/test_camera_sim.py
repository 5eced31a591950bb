"""The simulated camera publishes images as a RealSense does, from the parameters it was given."""

import functools
import json
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from rclpy.parameter import Parameter
from sensor_msgs.msg import CameraInfo, Image, RegionOfInterest
from std_msgs.msg import Header, String

from m3et_ros.data.images.messages import depth_from_msg, rgb_from_msg
from m3et_ros.data.kitchen.sim.camera import Camera as SimulatedCamera
from m3et_ros.data.kitchen.sim.episode import Episode
from m3et_ros.ros import camera_sim
from m3et_ros.ros.camera_sim import NEAREST_M, info_msg, sensed, true_answers
from m3et_ros.ros.convert import stamp_msg, stamp_ns

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
            log, _ = self.process.communicate(timeout=120)
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
    """Stores the messages of a camera by stamp."""

    def __init__(self, ros, namespace):
        self.ros, self.node, self.received = ros, ros.node('listener'), []
        for topic, kind in topics(namespace):
            self.received.append({})
            self.node.create_subscription(kind, topic, functools.partial(self._keep, self.received[-1]), 10)

    def _keep(self, messages, message):
        stamp = json.loads(message.data)['stamp_ns'] if isinstance(message, String) else stamp_ns(message.header.stamp)
        messages[stamp] = message

    def complete(self, count):
        """Wait for so many sets of messages with the same stamp; the sets, oldest first."""

        def sets():
            common = sorted(set.intersection(*(set(messages) for messages in self.received)))
            return [[messages[stamp] for messages in self.received] for stamp in common]

        self.ros.until(lambda: len(sets()) >= count, 60)
        return sets()


def test_the_topics_are_those_of_a_realsense(ros):
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
    images = [rgb_from_msg(messages[0]) for messages in sets]
    assert images[0].std() > 5
    assert any(not np.array_equal(images[0], image) for image in images[1:])


def test_another_namespace_depth_in_metres_noise_and_a_new_kitchen_after_each_episode(ros):
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
    measured = sensed(depth, K)
    known = np.isfinite(measured)
    assert (known == ((depth >= NEAREST_M) & (depth <= 6))).all()
    # Half a step of disparity, 0.125 px at a baseline of 5 cm, is z^2 * 0.0625 / (400 * 0.05) metres.
    assert (np.abs(measured - depth)[known] <= depth[known] ** 2 * 0.0625 / 20 * 1.1 + 1e-6).all()
    assert len(np.unique(measured[0][known[0]])) < known[0].sum()
    assert np.isnan(sensed(np.full((1, 3), np.nan, np.float32), K)).all()


def test_sensed_depth_has_a_shadow_to_the_left_of_near_things():
    """Its width is the difference of the disparities, f * baseline * (1 / near - 1 / far)."""
    K = np.array([[400, 0, 31.5], [0, 400, 1], [0, 0, 1.0]])
    scene = np.full((2, 64), 2, np.float32)
    scene[:, 30:40] = 0.8
    assert 400 * 0.05 * (1 / 0.8 - 1 / 2) == 15
    unknown = np.flatnonzero(np.isnan(sensed(scene, K)[0]))
    assert unknown.tolist() == [*range(16, 30)]
    slanting = np.tile(np.linspace(1, 3, 64, dtype=np.float32), (2, 1))
    assert np.isfinite(sensed(slanting, K)).all() and np.isfinite(sensed(slanting[:, ::-1], K)).all()


def test_true_answers_are_those_of_the_kitchen_to_the_questions_asked():
    episode = Episode(3, width=64, height=48, fps=5)
    with SimulatedCamera(episode, backend='raycast', shadows=False) as camera:
        observation = camera.observe(next(iter(episode.run(1))))
    found = true_answers(episode, observation, ('What is in the hand?', 'Is the moon full?'))
    held = observation.state.held
    assert found == ({'What is in the hand?': 'nothing'} if held is None else found) and len(found) <= 1
    assert true_answers(episode, observation, ()) == {}


def test_every_field_of_camera_info_follows_from_the_matrix():
    K = np.array([[400, 0, 320], [0, 410, 240], [0, 0, 1.0]])
    header = Header(stamp=stamp_msg(5), frame_id='lens')
    info = info_msg(K, 640, 480, header)
    values = {name: getattr(info, name) for name in info.get_fields_and_field_types()}
    matrices = {name: np.asarray(values.pop(name)).tolist() for name in 'dkrp'}
    assert matrices == {
        'd': [0.0] * 5,
        'k': [400, 0, 320, 0, 410, 240, 0, 0, 1],
        'r': [1, 0, 0, 0, 1, 0, 0, 0, 1],
        'p': [400, 0, 320, 0, 0, 410, 240, 0, 0, 0, 1, 0],
    }
    assert values == {
        'header': header,
        'height': 480,
        'width': 640,
        'distortion_model': 'plumb_bob',
        'binning_x': 0,
        'binning_y': 0,
        'roi': RegionOfInterest(),
    }
    assert np.array_equal(np.reshape(info.p, (3, 4)) @ [0.1, 0.2, 2, 1], K @ [0.1, 0.2, 2])


def test_every_parameter_arrives(ros, monkeypatch):
    values = {
        'seed': 5,
        'rate_hz': 4.0,
        'width': 64,
        'height': 48,
        'backend': 'raycast',
        'depth_encoding': '32FC1',
        'depth_noise': True,
        'questions': 'What is in the hand?|Is the tap on?',
        'episode_frames': 2,
        'frame_id': 'lens',
    }
    assert set(values) == {spec.name for spec in camera_sim.PARAMETERS}
    calls = []

    def record(owner, name):
        inner = getattr(owner, name)

        def recorded(*args, **options):
            calls.append((name, args, options))
            return inner(*args, **options)

        monkeypatch.setattr(owner, name, recorded)

    for owner, name in (
        *((camera_sim, name) for name in ('Episode', 'Camera', 'sensed', 'true_answers')),
        (Episode, 'run'),
    ):
        record(owner, name)
    listener = Listener(ros, '/camera/camera')
    given = [Parameter(name, value=value) for name, value in values.items()]
    node = camera_sim.CameraSim(context=ros.context, parameter_overrides=given)
    enough = threading.Event()
    player = threading.Thread(target=node.play, args=(enough.is_set,))
    player.start()
    color, depth, info, _ = listener.complete(5)[0]
    enough.set()
    player.join(20)
    node.destroy_node()
    assert (depth.encoding, color.width, color.height, info.width, info.height) == ('32FC1', 64, 48, 64, 48)
    assert {message.header.frame_id for message in (color, depth, info)} == {'lens'}
    ahead = time.monotonic() + 0.1
    assert node._wait_until(ahead) == ahead + 0.25, 'four images a second'
    size = {'width': 64, 'height': 48, 'fps': 4.0}
    assert [args[0] for name, args, options in calls if name == 'Episode' and options == size][:2] == [5, 6]
    cameras = [options for name, _, options in calls if name == 'Camera']
    assert cameras[0] == {'backend': 'raycast', 'shadows': False}
    assert [args[1] for name, args, _ in calls if name == 'run'][:2] == [2, 2]
    assert [name for name, _, _ in calls].count('sensed') >= 5
    asked = [args[2] for name, args, _ in calls if name == 'true_answers']
    assert asked[0] == ('What is in the hand?', 'Is the tap on?')
