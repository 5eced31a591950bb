"""Results in space go out complete, field by field, under the header of their image, and only while somebody hears."""

from dataclasses import replace
from itertools import cycle

import numpy as np
import pytest
from geometry_msgs.msg import Point, Vector3
from rclpy.lifecycle import LifecycleNode
from sensor_msgs.msg import PointCloud2, PointField, RegionOfInterest
from std_msgs.msg import Header
from vision_messages import vision_messages
from visualization_msgs.msg import Marker, MarkerArray

from m3et_ros.data.frame import Frame, Labels
from m3et_ros.msg import Answer, Place
from m3et_ros.ros import space_outputs
from m3et_ros.ros.convert import stamp_msg
from m3et_ros.ros.diagnostics import Counters
from m3et_ros.ros.space_outputs import (
    SpaceFrame,
    SpaceOutputs,
    answer_markers,
    flat_detections,
    points_msg,
    solid_detections,
    things_of,
)
from m3et_ros.runtime.space import points_of

HEADER = Header(stamp=stamp_msg(7_000_000_008), frame_id='lens')
K = np.array([[60.0, 0, 31.5], [0, 50.0, 23.5], [0, 0, 1]])
RGB = np.random.default_rng(1).integers(0, 256, (48, 64, 3), dtype=np.uint8)
DEPTH = np.full((48, 64), 3.0, np.float32)
DEPTH[10:20, 20:40] = 1.5
MEASURED = DEPTH.copy()
MEASURED[:, 30:] = np.nan
MASK = np.zeros((48, 64), np.uint8)
MASK[10:20, 20:40] = 1
LABELS = Labels(('wall', 'cup'), ((255, 0, 0), (0, 51, 255)), (), (), ())
SCENE = SpaceFrame(Frame(RGB, MEASURED, 7, frame_id='lens', K=K), HEADER, DEPTH, MASK)
NAN = float('nan')


@pytest.fixture
def node(ros):
    return ros.add(LifecycleNode('model', context=ros.context))


@pytest.fixture
def space(node):
    space = SpaceOutputs(node, Counters())
    space.set_labels(LABELS)
    node.trigger_configure()
    node.trigger_activate()
    return space


def listen(ros, kind, topic):
    received = []
    listener = ros.node(f'listener_of_{topic}')
    listener.create_subscription(kind, f'/model/{topic}', received.append, 1)
    return received


def test_a_cloud_has_the_point_colour_class_and_origin_of_every_pixel():
    message = points_msg(SCENE)
    assert (message.header, message.height, message.width) == (HEADER, 48, 64)
    assert (message.point_step, message.row_step, message.is_dense) == (20, 64 * 20, False)
    assert [(f.name, f.offset, f.datatype, f.count) for f in message.fields] == [
        ('x', 0, PointField.FLOAT32, 1),
        ('y', 4, PointField.FLOAT32, 1),
        ('z', 8, PointField.FLOAT32, 1),
        ('rgb', 12, PointField.FLOAT32, 1),
        ('label', 16, PointField.UINT8, 1),
        ('measured', 17, PointField.UINT8, 1),
    ]
    cloud = np.frombuffer(message.data, np.uint8).reshape(48, 64, 20)
    xyz = cloud[..., :12].copy().view(np.float32)
    assert np.array_equal(xyz, points_of(DEPTH, K))
    packed = cloud[..., 12:16].copy().view(np.uint32)[..., 0]
    assert np.array_equal(np.stack([packed >> 16 & 255, packed >> 8 & 255, packed & 255], -1), RGB)
    assert np.array_equal(cloud[..., 16], MASK) and np.array_equal(cloud[..., 17], np.isfinite(MEASURED))


def test_a_cloud_is_that_of_sensor_msgs_py():
    module = pytest.importorskip('sensor_msgs_py.point_cloud2', reason='it comes with a full ROS 2 installation only')
    read = module.read_points(points_msg(SCENE), ('x', 'y', 'z'))
    assert np.array_equal(np.stack([read[name] for name in 'xyz'], -1).reshape(48, 64, 3), points_of(DEPTH, K))


def test_things_are_instances_with_their_box_and_surroundings_are_none():
    (cup,) = things_of(replace(SCENE, certainty=np.full((12, 16), 0.75, np.float32)), LABELS)
    assert (cup.name, cup.color, cup.score) == ('cup', (0, 51, 255), 0.75)
    assert cup.instance.box == (20, 10, 19, 9)
    assert cup.box.position == pytest.approx([(29 - 31.5) / 60 * 1.5, (14 - 23.5) / 50 * 1.5, 1.5], abs=0.01)
    assert 0.4 < cup.box.measured < 0.6
    (without,) = things_of(replace(SCENE, frame=replace(SCENE.frame, K=None)), LABELS)
    assert without.box is None and np.isnan(without.score)


def test_points_and_markers_go_out_under_the_header_of_their_image(ros, space):
    clouds, markers = listen(ros, PointCloud2, 'points'), listen(ros, MarkerArray, 'markers')
    ros.until(lambda: space.add(SCENE) or (clouds and markers))
    assert clouds[0] == points_msg(SCENE)
    box, name = markers[0].markers
    assert (box.header, box.ns, box.id, box.type, box.action) == (HEADER, 'things', 0, Marker.CUBE, Marker.ADD)
    assert box.scale.x == pytest.approx(18 / 60 * 1.5, abs=0.02) and box.scale.z == 0.005
    assert box.color.b == 1.0 and 0 < box.color.a < 1
    assert (name.header, name.ns, name.id, name.type) == (HEADER, 'things', 1, Marker.TEXT_VIEW_FACING)
    assert name.text == 'cup' and name.pose.position.y < box.pose.position.y and name.scale.z > 0


@pytest.mark.parametrize('score, shown', [(0.49, 0), (0.5, 2), (NAN, 2)], ids=['unsure', 'sure', 'unknown'])
def test_things_that_the_model_is_unsure_of_have_no_marker(ros, space, score, shown):
    markers = listen(ros, MarkerArray, 'markers')
    scene = replace(SCENE, certainty=np.full((12, 16), score, np.float32))
    ros.until(lambda: space.add(scene) or markers)
    assert len(markers[0].markers) == shown


def test_markers_of_things_that_have_gone_are_deleted(ros, space):
    markers = listen(ros, MarkerArray, 'markers')
    scenes = cycle([SCENE, replace(SCENE, mask=np.full_like(MASK, 255))])
    deleted = ros.until(
        lambda: space.add(next(scenes)) or [m for array in markers for m in array.markers if m.action == Marker.DELETE]
    )
    assert {(marker.ns, marker.id) for marker in deleted} == {('things', 0), ('things', 1)}


def test_nothing_is_computed_while_nobody_subscribes(space, monkeypatch):
    monkeypatch.setattr(space_outputs, 'points_msg', None)
    monkeypatch.setattr(space_outputs, 'things_of', None)
    assert not (space.wants_depth or space.wants_mask or space.wants_things)
    space.add(SCENE)
    space.publish_answer(None)


def test_depth_and_classes_of_one_image_meet_whichever_comes_first(ros, space):
    clouds = listen(ros, PointCloud2, 'points')
    ros.until(lambda: space.wants_depth)
    depth, mask = replace(SCENE, mask=None), replace(SCENE, depth=None)
    other = replace(mask, header=Header(stamp=stamp_msg(9)))
    ros.until(lambda: [space.add(part) for part in (depth, other, mask)] and clouds)
    assert clouds[-1] == points_msg(SCENE)
    clouds.clear()
    ros.until(lambda: [space.add(part) for part in (mask, depth)] and clouds)
    assert all(cloud == points_msg(SCENE) for cloud in clouds)


def test_images_that_never_get_their_other_part_are_forgotten(ros, space):
    listen(ros, PointCloud2, 'points')
    ros.until(lambda: space.wants_depth)
    for stamp in range(1, 2 * space_outputs.HELD):
        space.add(replace(SCENE, header=Header(stamp=stamp_msg(stamp)), mask=None))
    assert list(space._held) == list(range(space_outputs.HELD, 2 * space_outputs.HELD))


def answer(*places):
    return Answer(header=HEADER, text='on the table', places=places)


def test_an_answer_stands_at_the_place_that_it_is_about():
    at, nowhere = Point(x=0.5, y=0.25, z=1.0), Point(x=NAN, y=NAN, z=NAN)
    cup = Place(label='cup', position=at, size=Vector3(x=0.1, y=0.2, z=0.1), box=RegionOfInterest())
    ball, text = answer_markers(answer(Place(label='pan', position=nowhere), cup))
    assert (ball.ns, ball.id, ball.type, ball.pose.position) == ('answer', 0, Marker.SPHERE, at)
    assert (text.ns, text.id, text.text, text.header) == ('answer', 1, 'cup: on the table', HEADER)
    assert text.pose.position.y < 0.15
    ball, text = answer_markers(answer())
    assert ball.action == Marker.DELETE and text.text == 'on the table'
    assert (text.pose.position.x, text.pose.position.y, text.pose.position.z) == space_outputs.ANSWER_AT


def test_an_answer_goes_out_as_markers(ros, space):
    markers = listen(ros, MarkerArray, 'markers')
    ros.until(lambda: space.publish_answer(answer()) or markers)
    assert [marker.ns for marker in markers[0].markers] == ['answer', 'answer']


def test_without_vision_msgs_there_are_no_detections(node, space):
    try:
        import vision_msgs.msg  # noqa: F401 - only to see whether it is installed
    except ImportError:
        assert not any('detections' in name for name, _ in node.get_topic_names_and_types())
    else:
        pytest.skip('vision_msgs is installed here')


@pytest.fixture(scope='module')
def detections(tmp_path_factory):
    """The detections of the cup, flat and solid; the first is about an image without intrinsics too."""
    things = things_of(replace(SCENE, certainty=np.full((12, 16), 0.75, np.float32)), LABELS)
    bare = things_of(replace(SCENE, frame=replace(SCENE.frame, K=None)), LABELS)
    with vision_messages(tmp_path_factory.mktemp('vision')) as msg:
        flat = flat_detections(msg, things + bare, HEADER)
        yield things[0], flat, solid_detections(msg, things + bare, HEADER)


def test_detections_in_the_image_have_the_box_the_name_and_the_score_of_their_thing(detections):
    _, flat, _ = detections
    assert flat.header == HEADER and len(flat.detections) == 2
    one, bare = flat.detections
    assert one.header == HEADER
    assert (one.bbox.center.position.x, one.bbox.center.position.y) == (29.0, 14.0)
    assert (one.bbox.size_x, one.bbox.size_y, one.bbox.center.theta) == (19.0, 9.0, 0.0)
    assert [(r.hypothesis.class_id, r.hypothesis.score) for r in one.results] == [('cup', 0.75)]
    assert bare.results[0].hypothesis.class_id == 'cup' and np.isnan(bare.results[0].hypothesis.score)


def test_detections_in_space_have_the_box_of_their_thing_and_no_others(detections):
    thing, _, solid = detections
    assert solid.header == HEADER
    (one,) = solid.detections
    at, size = one.bbox.center.position, one.bbox.size
    assert one.header == HEADER and one.bbox.center.orientation.w == 1.0
    assert (at.x, at.y, at.z) == thing.box.position and (size.x, size.y, size.z) == thing.box.size
    assert one.results[0].pose.pose == one.bbox.center
    assert (one.results[0].hypothesis.class_id, one.results[0].hypothesis.score) == ('cup', 0.75)
