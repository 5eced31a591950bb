"""Networks of others in the node: their depth and classes on the topics of M3ET, at their own pace."""

import os
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter
from sensor_msgs.msg import Image
from tiny_networks import NAMES, depth_anything, segformer

from m3et_ros.data.errors import InputError
from m3et_ros.data.frame import Frame
from m3et_ros.data.images.messages import depth_from_msg
from m3et_ros.msg import LabelMap
from m3et_ros.ros.camera.subscription import latched
from m3et_ros.ros.convert import stamp_ns
from m3et_ros.ros.model_node import ModelNode
from m3et_ros.ros.networks import NICE, NetworkFrame, Networks, NetworkThread, give_way, network_labels
from m3et_ros.runtime.networks.depth import open_depth
from m3et_ros.runtime.networks.segmentation import open_segmentation

RGB = np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8)
RGB[10:30, 20:50] = 200


def until(condition, timeout=60):
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, 'the condition stayed false'
        time.sleep(0.01)


class Recorder:
    """Stands beside a thread: its health and what it was given to serve."""

    def __init__(self):
        self.served, self.refused, self.faults = [], [], []

    def refuse(self, error):
        self.refused.append(error.reason)

    def internal_error(self, activity, error):
        self.faults.append((activity, str(error)))


@pytest.fixture(scope='module')
def network(tmp_path_factory):
    return open_depth(depth_anything(tmp_path_factory.mktemp('depth')))


def numbered(number):
    return NetworkFrame(Frame(RGB, stamp_ns=number), None, None, 'auto', 0.5)


def test_the_newest_frame_wins_and_errors_stop_nothing(network):
    recorder = Recorder()

    def serve(given):
        recorder.served.append(given.frame.stamp_ns)
        if given.frame.stamp_ns == 1:
            until(lambda: thread.values()['frames_replaced'] == 2)
            raise InputError('bad', 'Bad.')
        if given.frame.stamp_ns == 4:
            raise RuntimeError('worse')

    thread = NetworkThread('depth', network, serve, recorder)
    thread.offer(numbered(0))  # not started: nothing takes it
    thread.start()
    thread.offer(numbered(1))
    until(lambda: recorder.served == [1])
    for number in (2, 3, 4):
        thread.offer(numbered(number))
    until(lambda: recorder.served == [1, 4])
    thread.offer(numbered(5))
    until(lambda: thread.values()['frames'] == 1)
    values = thread.values()
    thread.stop()
    assert 'depth_network' not in {one.name for one in threading.enumerate()}
    assert recorder.served == [1, 4, 5]
    assert recorder.refused == ['bad']
    assert recorder.faults == [('the depth network', 'worse')]
    assert values['model_id'] == network.model_id
    assert values['weights_mib'] == pytest.approx(network.weight_bytes / 2**20)
    assert values['latency_s']['p50'] > 0


def test_the_thread_of_a_network_gives_way_to_perception():
    before, found = torch.get_num_threads(), []

    def body():
        give_way(before + 1)
        found.extend((torch.get_num_threads(), os.getpriority(os.PRIO_PROCESS, threading.get_native_id())))

    for _ in range(2):
        thread = threading.Thread(target=body)
        thread.start()
        thread.join()
    later = []
    thread = threading.Thread(target=lambda: later.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    own = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    assert found == 2 * [before + 1, max(NICE, own)]
    assert later == [torch.get_num_threads()] == [before]


def test_every_class_has_a_colour_of_its_own():
    labels = network_labels('id', tuple(f'class {i}' for i in range(255)))
    assert len(set(labels.colors)) == 255
    assert labels.classes[3] == 'class 3'
    with pytest.raises(InputError, match='256 classes and a mono8 mask holds 255') as caught:
        network_labels('id', ('class',) * 256)
    assert caught.value.reason == 'model_config'


def test_a_relative_network_without_a_depth_camera_is_refused(tmp_path):
    name = depth_anything(tmp_path / 'relative')
    settings = SimpleNamespace(depth_model=name, segmentation_model='', depth_transport='none', device='cpu')
    networks = Networks(SimpleNamespace(settings=settings, health=Recorder()), None)
    with pytest.raises(InputError) as caught:
        networks.load()
    assert caught.value.reason == 'depth_relative'
    settings.depth_model = depth_anything(tmp_path / 'metric', metric=True)
    networks.load()
    assert networks.depth is not None
    networks.drop()
    assert (networks.depth, networks.labels, networks.values()) == (None, None, {})


def test_depth_and_classes_of_networks_replace_those_of_m3et(robot_here, tmp_path):
    depth, classes = depth_anything(tmp_path / 'depth'), segformer(tmp_path / 'classes')
    one = robot_here('nets', f'depth_model:={depth}', f'segmentation_model:={classes}', 'depth_fill:=always')
    maps = one.listen(LabelMap, 'segmentation/labels', latched())
    depths = one.listen(Image, 'depth/image')
    masks = one.listen(Image, 'segmentation/mask')
    one.ready()
    sent = []

    def show_until(condition, **images):
        def shown():
            # Stamped by the clock: the node complains of older images.
            sent.append(stamp_ns(one.show(time.time(), rgb=RGB, **images).stamp))
            one.pause()
            return condition()

        one.ros.until(shown, 60)

    # Relative depth without measured depth is no depth in metres.
    refused = 'gives relative depth and no depth is measured, so nothing is published'
    show_until(lambda: masks and one.count('depth_relative') > 1 and refused in one.diagnosis()['last_error'])
    assert depths == []
    predicted = open_depth(depth).predict(RGB)
    spread = (predicted - predicted.min()) / np.ptp(predicted)
    true = (1 / (0.5 * spread + 0.25)).astype(np.float32)
    holed = true.copy()
    holed[12:36, 16:48] = np.nan
    known = np.isfinite(holed)

    def completed():
        # A frame whose depth got lost is completed by nothing.
        return [found for found in map(depth_from_msg, tuple(depths)) if np.isfinite(found).any()]

    show_until(completed, depth=holed)
    found = completed()[0]
    np.testing.assert_array_equal(found[known], holed[known])
    flat = np.abs(np.nanmean(holed) - true)[~known].mean()
    assert np.abs(found - true)[~known].mean() < 0.3 * flat
    expected = open_segmentation(classes).predict(RGB).labels
    np.testing.assert_array_equal(np.frombuffer(masks[-1].data, np.uint8).reshape(48, 64), expected)
    results = (*depths, *masks)
    assert {stamp_ns(message.header.stamp) for message in results} <= set(sent)
    assert {message.header.frame_id for message in results} == {'camera_color_optical_frame'}
    assert maps[-1].names == list(NAMES)
    one.ros.until(lambda: one.diagnosis().get('depth_network/depth_fill') == 'always: model', 60)
    values = one.diagnosis()
    assert values['depth_network/model_id'] == open_depth(depth).model_id
    assert values['segmentation_network/model_id'] == open_segmentation(classes).model_id
    assert int(values['segmentation_network/frames']) > 0


def test_a_network_that_cannot_be_used_leaves_the_node_unconfigured_with_a_sentence(ros, tmp_path):
    values = {'model': 'tiny', 'depth_model': segformer(tmp_path)}
    overrides = [Parameter(name, value=value) for name, value in values.items()]
    node = ros.add(ModelNode(context=ros.context, parameter_overrides=overrides))
    assert node.trigger_configure() != TransitionCallbackReturn.SUCCESS
    assert 'is a SegformerForSemanticSegmentation, which is no depth network' in node.health.failure
    assert node.session is None
