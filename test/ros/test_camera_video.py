"""The node camera_video: real clips on real DDS, paced and stamped as the clip, and sentences for what is wrong."""

import subprocess
import sys
import time

import cv2
import numpy as np
import pytest
from clip_files import set_steps, write_clip
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.qos import QoSProfile
from sensor_msgs.msg import Image

from m3et_ros.data.images.messages import rgb_from_msg
from m3et_ros.ros.convert import stamp_ns

MANY = QoSProfile(depth=100)
CLIP_S = [0.0, 0.05, 0.1, 0.35, 0.4, 0.5]


class Camera:
    """A camera_video process in a namespace."""

    def __init__(self, namespace, *parameters):
        arguments = [word for parameter in parameters for word in ('-p', parameter)]
        self.process = subprocess.Popen(
            [sys.executable, '-m', 'm3et_ros.ros.camera_video', '--ros-args', '-r', f'__ns:={namespace}', *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.communicate()

    def finish(self):
        """Wait for the end; return exit code and log."""
        log, _ = self.process.communicate(timeout=100)
        assert 'Traceback' not in log
        return self.process.returncode, log


def number_of(image):
    """Return the number of an image of a clip, by its blue."""
    return round(int(rgb_from_msg(image)[40, 50, 2]) / 20)


@pytest.fixture
def images(ros):
    """Images on the colour topic of the camera in /eye; the first ones may come before it is discovered."""
    found = []
    ros.node('listener').create_subscription(Image, '/eye/color/image_raw', found.append, MANY)
    return found


def test_a_video_is_published_once_with_the_times_of_its_container(ros, images, tmp_path):
    clip = write_clip(tmp_path / 'clip.mp4')
    set_steps(clip, [0.5, 0.5, 2.5, 0.5, 1.0, 1.0])
    before = ros.node('clock').get_clock().now().nanoseconds
    with Camera('/eye', f'video:={clip}', 'wait_for_subscribers:=true') as camera:
        code, log = camera.finish()
    assert code == 0 and f'end of {clip}, images sent: 6' in log
    ros.until(lambda: images and number_of(images[-1]) == 5, 60)
    numbers = [number_of(image) for image in images]
    stamps = [stamp_ns(image.header.stamp) for image in images]
    assert stamps[0] > before and (np.diff(numbers) > 0).all()
    # On a busy machine an image may be late, and then all that follow are.
    assert (np.diff(stamps) / 1e9 >= np.diff([CLIP_S[number] for number in numbers]) - 1e-3).all()
    first = images[0]
    assert {image.header.frame_id for image in images} == {'camera_color_optical_frame'}
    assert (first.encoding, first.width, first.height, first.step) == ('rgb8', 64, 48, 192)
    assert np.abs(rgb_from_msg(images[-1])[40, 50].astype(int) - (200, 0, 100)).max() < 12
    assert ros.nodes[0].get_publishers_info_by_topic('/eye/color/camera_info') == []


def test_a_clip_starts_over_with_stamps_that_go_on(ros, images, tmp_path):
    clip = write_clip(tmp_path / 'clip.mp4', fps=20, images=4)
    with Camera('/eye', f'video:={clip}', 'loop:=true', 'wait_for_subscribers:=true') as camera:
        ros.until(lambda: len(images) >= 10, 60)
        camera.process.terminate()
        code, _ = camera.finish()
    assert code == 0
    steps = np.diff([stamp_ns(image.header.stamp) for image in images]) / 1e9
    assert (steps >= 0.05 - 1e-3).all()
    assert (np.diff([number_of(image) for image in images]) < 0).any()


def test_pictures_are_published_in_their_own_sizes_and_a_damaged_one_gives_exit_code_one(ros, images, tmp_path):
    for number, (height, width) in enumerate(((48, 64), (31, 33), (31, 33))):
        cv2.imwrite(str(tmp_path / f'{number}.png'), np.zeros((height, width, 3), np.uint8))
    (tmp_path / '3.png').write_bytes(b'')
    with Camera('/eye', f'pictures:={tmp_path}', 'rate_hz:=20.0', 'wait_for_subscribers:=true') as camera:
        code, log = camera.finish()
    assert code == 1 and '3.png is left out' in log and log.count('images of several sizes') == 1
    ros.until(lambda: images and (images[-1].height, images[-1].width) == (31, 33), 60)
    assert 'images sent: 3' in log and {image.step for image in images} <= {3 * 64, 3 * 33}


def test_the_node_waits_until_the_model_node_has_served_the_last_image(ros, images, tmp_path):
    clip = write_clip(tmp_path / 'clip.mp4', fps=20)
    node = ros.node('reporter')
    publisher = node.create_publisher(DiagnosticArray, '/diagnostics', 10)

    def report(**values):
        pairs = [KeyValue(key=key.replace('__', '/'), value=str(value)) for key, value in values.items()]
        publisher.publish(DiagnosticArray(status=[DiagnosticStatus(name='/r/model', values=pairs)]))
        return False

    with Camera('/eye', f'video:={clip}', 'wait_for_subscribers:=true', 'results_of:=/r/model') as camera:
        ros.until(lambda: images and publisher.get_subscription_count(), 60)
        for _ in range(10):
            report(frames_in=6, frames_out=3, dropped__frame_superseded=2, questions_waiting=0)
            report(frames_in=6, frames_out=4, dropped__frame_superseded=2, questions_waiting=1)
            report(frames_in=6, frames_out=4, dropped__frame_superseded=2, answerer__waiting=1)
            time.sleep(0.1)
        assert camera.process.poll() is None
        served = {'frames_in': 6, 'frames_out': 3, 'dropped__frame_superseded': 2, 'frames_unneeded': 1}
        ros.until(lambda: report(**served) or camera.process.poll() is not None, 60)
        assert camera.finish()[0] == 0


def test_a_source_that_cannot_be_used_is_one_sentence():
    with Camera('/eye', 'video:=/none.mp4') as camera:
        code, log = camera.finish()
    assert code == 1 and '/none.mp4 does not exist; give a video file such as clip.mp4' in log
