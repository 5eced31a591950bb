"""Streams of a real robot."""

import threading
import time

from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from m3et_ros.cli.view.streams import RobotStreams, Stream, streams_of


class Camera:
    """A robot that reads these topics."""

    namespace = '/two'

    def __init__(self, **topics):
        self.camera_topics = topics


def test_the_streams_of_a_camera_follow_its_topics():
    raw = streams_of(Camera(rgb='/c/color', depth='/c/depth', camera_info='/c/info'))
    assert (raw['rgb'], raw['depth'], raw['info']) == (
        Stream('/c/color', Image),
        Stream('/c/depth', Image),
        Stream('/c/info', CameraInfo),
    )
    packed = streams_of(Camera(rgb='/c/color/compressed', depth='/c/depth/compressedDepth'))
    assert packed['rgb'].kind is packed['depth'].kind is CompressedImage and 'info' not in packed
    assert packed['rgb'].type_name == 'sensor_msgs/msg/CompressedImage'
    assert streams_of(Camera())['completed'] == Stream('~/depth/image', Image)


def take(streams, wanted, enough, limit_s=60):
    """Return the names of the messages that come until `enough(names)`."""
    names, deadline = [], time.monotonic() + limit_s
    while not enough(names) and time.monotonic() < deadline:
        streams.want(wanted)
        time.sleep(0.05)
        names += [name for name, _ in streams.take()]
    return names


def test_only_what_is_wanted_is_received(graph, robot):
    streams = RobotStreams(graph.robot(robot), arrived := threading.Event())
    assert set(take(streams, {'rgb', 'completed'}, lambda names: {'rgb', 'completed'} <= set(names))) == {
        'rgb',
        'completed',
    }
    assert arrived.is_set()
    assert 'depth' in take(streams, {'depth'}, lambda names: 'depth' in names)
    topics = {one.topic_name for one in graph.node.subscriptions}
    assert '/cam/aligned_depth_to_color/image_raw' in topics and '/cam/color/image_raw' not in topics
    streams.close()
    assert '/cam/aligned_depth_to_color/image_raw' not in {one.topic_name for one in graph.node.subscriptions}


def test_of_two_images_the_newer_is_taken_and_the_other_counted(graph, robot):
    streams = RobotStreams(graph.robot(robot), threading.Event())
    streams.want({'rgb'})
    assert graph.node.wait(lambda: streams.want({'rgb'}) or streams.replaced > 1, 60)
    assert [name for name, _ in streams.take()] == ['rgb']
    streams.close()


def test_bytes_that_are_no_message_are_reported_once(capsys):
    class Quiet(Camera):
        def listen(self, topic, kind, callback, **_):
            for _ in range(2):
                callback(b'nothing')

    streams = RobotStreams(Quiet(rgb='/c/color'), threading.Event())
    streams.want({'rgb', 'answer'})
    assert streams.take() == []
    streams.want({'rgb', 'answer'})
    printed = capsys.readouterr().err
    assert printed.count('such messages are left out') == 1 and '/two' in printed
