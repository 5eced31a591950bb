"""Results of a frame go out complete, under its header, and only what somebody subscribes to is decoded."""

from functools import partial

import numpy as np
import pytest
from rclpy.lifecycle import LifecycleNode
from rclpy.qos import DurabilityPolicy, QoSProfile
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import CameraInfo, Image, PointCloud2, RegionOfInterest
from std_msgs.msg import Header
from visualization_msgs.msg import MarkerArray

from m3et_ros.data.frame import Frame
from m3et_ros.data.images.messages import rgb_from_msg
from m3et_ros.data.kitchen.labels import kitchen_labels
from m3et_ros.data.preprocess import overlay
from m3et_ros.msg import ActionAnticipation, Answer, LabelMap, Place
from m3et_ros.ros import outputs
from m3et_ros.ros.convert import anticipation_msg, label_map_msg, place_of, stamp_msg, stamp_ns, to_image_msg
from m3et_ros.ros.diagnostics import Counters
from m3et_ros.runtime.engine import Engine
from m3et_ros.runtime.open_model import untrained
from m3et_ros.runtime.places import draw_places
from m3et_ros.runtime.results import Actions, Anticipation, Ranked

LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
HEADER = Header(stamp=stamp_msg(7_000_000_008), frame_id='lens')
INFO = CameraInfo(
    header=Header(frame_id='of the camera'),
    height=48,
    width=64,
    distortion_model='plumb_bob',
    d=[1.0, 2.0],
    k=[float(n) for n in range(9)],
    r=[float(n) for n in range(10, 19)],
    p=[float(n) for n in range(20, 32)],
    binning_x=2,
    binning_y=3,
    roi=RegionOfInterest(x_offset=4, y_offset=5, height=6, width=7, do_rectify=True),
)
RGB = np.random.default_rng(1).integers(0, 256, (48, 64, 3), dtype=np.uint8)
DEPTH = np.linspace(1, 2, 48 * 64, dtype=np.float32).reshape(48, 64)
DEPTH[:10] = np.nan


@pytest.fixture(scope='module')
def engine():
    return Engine(untrained('tiny', 0))


@pytest.fixture
def node(ros):
    return ros.add(LifecycleNode('model', context=ros.context))


def activate(node):
    node.trigger_configure()
    node.trigger_activate()


@pytest.fixture
def perception(node):
    perception = outputs.Perception(node, Counters())
    activate(node)
    return perception


def as_received(message):
    """The message with its float32 fields rounded, as it arrives."""
    return deserialize_message(serialize_message(message), type(message))


def listen(ros, kind, topic, profile=1):
    received = []
    listener = ros.node(f'listener_of_{topic.replace("/", "_")}')
    listener.create_subscription(kind, f'/model/{topic}', received.append, profile)
    ros.until(lambda: listener.count_publishers(f'/model/{topic}'))
    return received


@pytest.mark.parametrize('fill', ['never', 'always'])
def test_depth_goes_out_with_the_intrinsics_under_the_header_of_its_image(ros, perception, engine, fill):
    images, infos = listen(ros, Image, 'depth/image'), listen(ros, CameraInfo, 'depth/camera_info')
    view = engine.encode(Frame(RGB, DEPTH))
    expected = engine.reconstruct(view, depth=True, mask=False, fill=fill).depth
    assert np.isnan(expected).any() == (fill == 'never')
    info = CameraInfo(**{name: getattr(INFO, name) for name in INFO.get_fields_and_field_types()})
    ros.until(lambda: perception.publish(view, engine, HEADER, info, fill=fill, alpha=0.5) or (images and infos))
    assert images[0] == to_image_msg(expected, '32FC1', HEADER)
    for name in INFO.get_fields_and_field_types():
        value, sent = getattr(infos[0], name), HEADER if name == 'header' else getattr(INFO, name)
        assert np.array_equal(value, sent) if name in 'dkrp' else value == sent, name


@pytest.mark.parametrize('alpha', [0.0, 0.25, 1.0])
def test_mask_and_overlay_go_out_under_the_header_of_their_image(ros, perception, engine, alpha):
    masks, overlays = listen(ros, Image, 'segmentation/mask'), listen(ros, Image, 'segmentation/overlay')
    labels, view = kitchen_labels(), engine.encode(Frame(RGB))
    perception.publish_labels(labels, Header())
    mask = engine.reconstruct(view, depth=False, mask=True).mask
    colors = np.zeros((256, 3), np.uint8)
    colors[: len(labels.colors)] = labels.colors
    ros.until(lambda: perception.publish(view, engine, HEADER, None, fill='never', alpha=alpha) or (masks and overlays))
    assert masks[0] == to_image_msg(mask, 'mono8', HEADER)
    assert overlays[0] == to_image_msg(overlay(RGB, mask, colors, alpha), 'rgb8', HEADER)


def test_the_overlay_rings_the_place_of_an_answer_for_a_while(ros, perception, engine):
    overlays = listen(ros, Image, 'segmentation/overlay')
    view = engine.encode(Frame(RGB))
    cup = Place(label='cup', u=30.0, v=20.0, box=RegionOfInterest(x_offset=25, y_offset=15, width=10, height=10))

    def drawn(after_s):
        overlays.clear()
        header = Header(stamp=stamp_msg(stamp_ns(HEADER.stamp) + round(after_s * 1e9)))
        publish = partial(perception.publish, view, engine, header, None, fill='never', alpha=0.5)
        # An older one may be on its way.
        return rgb_from_msg(ros.until(lambda: publish() or [o for o in overlays if o.header == header])[0])

    plain = drawn(0)
    perception.publish_answer(Answer(header=HEADER, places=[cup]))
    ringed = draw_places(plain, (place_of(cup),))
    assert (ringed != plain).any()
    for after_s, expected in ((0, ringed), (outputs.POINTED_S, ringed), (outputs.POINTED_S + 1, plain), (-1, plain)):
        assert np.array_equal(drawn(after_s), expected), after_s
    perception.publish_answer(Answer(header=HEADER))
    assert np.array_equal(drawn(0), plain)


@pytest.mark.parametrize(
    'topic, decoded',
    [
        ('depth/image', {'depth': True, 'mask': False}),
        ('segmentation/mask', {'depth': False, 'mask': True}),
        ('segmentation/overlay', {'depth': False, 'mask': True}),
        ('points', {'depth': True, 'mask': True}),
        ('markers', {'depth': True, 'mask': True}),
    ],
)
def test_only_what_somebody_subscribes_to_is_decoded(ros, perception, engine, monkeypatch, topic, decoded):
    calls, reconstruct = [], Engine.reconstruct

    def recorded(self, view, **options):
        calls.append(options)
        return reconstruct(self, view, **options)

    monkeypatch.setattr(Engine, 'reconstruct', recorded)
    view = engine.encode(Frame(RGB, DEPTH, K=np.array([[60.0, 0, 31.5], [0, 60.0, 23.5], [0, 0, 1]])))
    perception.publish(view, engine, HEADER, None, fill='always', alpha=0.5)
    assert not calls
    kinds = {'points': PointCloud2, 'markers': MarkerArray}
    received = listen(ros, kinds.get(topic, Image), topic)
    ros.until(lambda: perception.publish(view, engine, HEADER, None, fill='always', alpha=0.5) or received)
    assert calls[-1] == {**decoded, 'fill': 'always'}


def test_late_subscribers_get_the_label_map(ros, perception):
    perception.publish_labels(kitchen_labels(), HEADER)
    received = listen(ros, LabelMap, 'segmentation/labels', LATCHED)
    assert ros.until(lambda: received)[0] == as_received(label_map_msg(kitchen_labels(), HEADER))


def test_an_anticipation_goes_out_with_every_field_and_its_age(ros, node):
    anticipations = outputs.Anticipations(node, Counters())
    activate(node)
    received = listen(ros, ActionAnticipation, 'anticipation')
    one, two = (Actions(*((Ranked(n, f'{when} {n}', n / 8),) for n in range(3))) for when in ('now', 'next'))
    result = Anticipation(one, two, 1.5, 0.25)
    now = node.get_clock().now()
    header = Header(stamp=stamp_msg(now.nanoseconds - 500_000_000), frame_id='lens')
    ros.until(lambda: anticipations.publish(result, header, 'tiny') or received)
    assert 0.5 <= received[0].age_s < 20
    received[0].age_s = 0.5
    assert received[0] == as_received(anticipation_msg(result, header, 'tiny', now))


def test_an_inactive_node_is_silent(ros, node, engine):
    perception = outputs.Perception(node, Counters())
    received = listen(ros, LabelMap, 'segmentation/labels', LATCHED)
    perception.publish_labels(kitchen_labels(), Header(frame_id='too early'))
    activate(node)
    perception.publish_labels(kitchen_labels(), Header(frame_id='active'))
    assert ros.until(lambda: received)[0].header.frame_id == 'active'


def test_latched_label_info_names_every_class(ros, node):
    messages = pytest.importorskip('vision_msgs.msg', reason='vision_msgs comes with a full ROS 2 installation only')
    label_infos = outputs.LabelInfos(node, Counters())
    activate(node)
    label_infos.publish(kitchen_labels(), HEADER)
    info = ros.until(lambda: listen(ros, messages.LabelInfo, 'segmentation/label_info', LATCHED))[0]
    assert info.header == HEADER
    assert tuple(c.class_name for c in info.class_map) == kitchen_labels().classes
    assert [c.class_id for c in info.class_map] == list(range(len(info.class_map)))


def test_without_vision_msgs_no_label_info_is_published(node):
    try:
        import vision_msgs.msg  # noqa: F401 - only to see whether it is installed
    except ImportError:
        outputs.LabelInfos(node, Counters()).publish(kitchen_labels(), HEADER)
        assert not any('label_info' in name for name, _ in node.get_topic_names_and_types())
    else:
        pytest.skip('vision_msgs is installed here')
