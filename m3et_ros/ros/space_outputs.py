"""Results in space: ~/points, ~/markers, and where vision_msgs is installed ~/detections and ~/detections_3d.

All are in the optical frame of the camera (REP 103), under the header of the image. Nothing is computed while nobody
subscribes.
"""

import array
import sys
from collections import OrderedDict
from dataclasses import dataclass, replace
from threading import Lock
from typing import Any

import numpy as np
from geometry_msgs.msg import Point, Pose, Quaternion, Vector3
from rclpy.lifecycle import LifecycleNode
from rclpy.lifecycle.publisher import LifecyclePublisher
from sensor_msgs.msg import PointCloud2, PointField
from std_msgs.msg import ColorRGBA, Header
from visualization_msgs.msg import Marker, MarkerArray

from m3et_ros.data.frame import Frame, Labels
from m3et_ros.msg import Answer
from m3et_ros.ros import interfaces
from m3et_ros.ros.convert import stamp_ns
from m3et_ros.ros.diagnostics import Counters
from m3et_ros.ros.interfaces import Interface
from m3et_ros.ros.publishers import publisher
from m3et_ros.runtime.space import PixelRegion, Solid, instances, points_of, solid

POINT = np.dtype(
    {
        'names': ['x', 'y', 'z', 'rgb', 'label', 'measured'],
        'formats': ['f4', 'f4', 'f4', 'u4', 'u1', 'u1'],
        'offsets': [0, 4, 8, 12, 16, 17],
        'itemsize': 20,
    }
)
"""Layout of a point: metres, colour as 0x00RRGGBB, class id, and 1 where the depth was measured, 0 where filled."""

HELD = 30
"""Most images whose depth or classes wait for the other, where a slow network of others serves one of them."""

SURE = 0.5
"""Least mean probability of the class of a thing with a marker, where it is known."""
TEXT_M = 0.06
"""Height of the letters of a marker, in metres."""
ANSWER_AT = (0.0, -0.3, 1.0)
"""Position of an answer that has no place: a metre ahead of the camera and above the middle of the view."""
ACROSS = 0.98
"""Share of the width or height of the image from which an instance is surroundings, such as a wall: its ends are not in
view, so a box would say nothing."""


@dataclass(frozen=True)
class SpaceFrame:
    """Depth and classes of one image."""

    frame: Frame
    header: Header
    # Completed metres (H, W) float32, NaN unknown; None until they are there.
    depth: np.ndarray | None = None
    # Class ids (H, W) uint8; None until they are there.
    mask: np.ndarray | None = None
    # Probability (s, s) float32 of the class at every place of the view; None where the network gives none.
    certainty: np.ndarray | None = None

    def joined(self, other: 'SpaceFrame') -> 'SpaceFrame':
        """Return the parts of both, of one image."""
        parts = ('depth', 'mask', 'certainty')
        return replace(self, **{name: getattr(other, name) for name in parts if getattr(other, name) is not None})


@dataclass(frozen=True)
class SpaceThing:
    """An instance with its name and, where depth and intrinsics are known, its box in space."""

    name: str
    color: tuple[int, int, int]
    instance: PixelRegion
    box: Solid | None
    # Mean probability of the class, 0..1; NaN where it is unknown.
    score: float


class SpaceOutputs:
    """Publishes points, markers and detections of the images whose depth and classes it gets."""

    def __init__(self, node: LifecycleNode, counters: Counters):
        """Open the topics.

        Args:
            node: node that publishes.
            counters: counts subscribers whose quality of service does not match.
        """
        self._points = publisher(node, interfaces.POINTS, counters)
        self._markers = publisher(node, interfaces.MARKERS, counters)
        self._detections = Detections(node, counters)
        self._labels = Labels((), (), (), (), ())
        self._lock = Lock()
        self._held: OrderedDict[int, SpaceFrame] = OrderedDict()
        # Number of things that the last markers show.
        self._shown = 0

    def set_labels(self, labels: Labels) -> None:
        """Use the names and colours of these classes from now on."""
        with self._lock:
            self._labels = labels
            self._held.clear()

    @property
    def wants_depth(self) -> bool:
        """True while somebody subscribes to what needs depth."""
        return _heard(self._points) or _heard(self._markers) or self._detections.wants_depth

    @property
    def wants_mask(self) -> bool:
        """True while somebody subscribes to anything; everything needs classes."""
        return self.wants_depth or self._detections.wanted

    @property
    def wants_things(self) -> bool:
        """True while somebody subscribes to markers or detections, which need scores."""
        return _heard(self._markers) or self._detections.wanted or self._detections.wants_depth

    def add(self, given: SpaceFrame) -> None:
        """Publish an image once its classes are there, and its depth if that is needed; from any thread.

        Args:
            given: the image with depth, classes or both. Networks of others bring them one after the other.
        """
        if not self.wants_mask:
            return
        with self._lock:
            stamp = stamp_ns(given.header.stamp)
            scene = self._held.pop(stamp).joined(given) if stamp in self._held else given
            if scene.mask is None or (scene.depth is None and self.wants_depth):
                self._held[stamp] = scene
                if len(self._held) > HELD:
                    self._held.popitem(last=False)
                return
            labels = self._labels
        if _heard(self._points) and scene.depth is not None and scene.frame.K is not None:
            self._points.publish(points_msg(scene))
        if self.wants_things:
            things = things_of(scene, labels)
            self._detections.publish(things, scene.header)
            self._publish_markers(things, scene.header)

    def publish_answer(self, answer: Answer) -> None:
        """Show an answer, at the place of what it is about if it has one."""
        if _heard(self._markers):
            self._markers.publish(MarkerArray(markers=answer_markers(answer)))

    def _publish_markers(self, things: list[SpaceThing], header: Header) -> None:
        if not _heard(self._markers):
            return
        # Detections have scores, by which their readers choose; markers are for eyes.
        solid_things = [thing for thing in things if thing.box is not None and not thing.score < SURE]
        markers = [marker for i, thing in enumerate(solid_things) for marker in thing_markers(thing, i, header)]
        for i in range(2 * len(solid_things), 2 * self._shown):
            markers.append(Marker(header=header, ns='things', id=i, action=Marker.DELETE))
        self._shown = len(solid_things)
        self._markers.publish(MarkerArray(markers=markers))


def _heard(topic: LifecyclePublisher | None) -> bool:
    return topic is not None and topic.get_subscription_count() > 0


def things_of(scene: SpaceFrame, labels: Labels) -> list[SpaceThing]:
    """Return the instances of an image, without surroundings that reach from border to border.

    Args:
        scene: image with classes.
        labels: names and colours of the classes.
    """
    assert scene.mask is not None
    frame, depth = scene.frame, scene.frame.depth if scene.depth is None else scene.depth
    measured = frame.depth if frame.depth is not None else np.full(scene.mask.shape, np.nan, np.float32)
    height, width = scene.mask.shape
    things = []
    for one in instances(scene.mask, depth):
        if one.label >= len(labels.classes) or one.box[2] >= ACROSS * width or one.box[3] >= ACROSS * height:
            continue
        box = None if depth is None or frame.K is None else solid(one, depth, frame.K, measured)
        score = float('nan')
        if scene.certainty is not None:
            rows, columns = scene.certainty.shape
            score = float(scene.certainty[one.v * rows // height, one.u * columns // width].mean())
        things.append(SpaceThing(labels.classes[one.label], labels.colors[one.label], one, box, score))
    return things


def points_msg(scene: SpaceFrame) -> PointCloud2:
    """Return the organised cloud of an image: the point of every pixel in its row and column, NaN where unknown."""
    frame, depth, mask = scene.frame, scene.depth, scene.mask
    assert depth is not None and mask is not None and frame.K is not None
    cloud = np.zeros(depth.shape, POINT)
    xyz = points_of(depth, frame.K)
    for i, name in enumerate('xyz'):
        cloud[name] = xyz[..., i]
    red, green, blue = (frame.rgb[..., i].astype(np.uint32) for i in range(3))
    cloud['rgb'] = red << 16 | green << 8 | blue
    cloud['label'] = mask
    if frame.depth is not None:
        cloud['measured'] = np.isfinite(frame.depth)
    message = PointCloud2(header=scene.header, height=depth.shape[0], width=depth.shape[1], is_dense=False)
    # The colour is read as the bits of a float32, as PCL and RViz do.
    kinds = {'rgb': PointField.FLOAT32, 'label': PointField.UINT8, 'measured': PointField.UINT8}
    message.fields = [
        PointField(name=name, offset=POINT.fields[name][1], datatype=kinds.get(name, PointField.FLOAT32), count=1)
        for name in POINT.names
    ]
    message.is_bigendian = sys.byteorder == 'big'
    message.point_step = POINT.itemsize
    message.row_step = POINT.itemsize * depth.shape[1]
    data = array.array('B')
    data.frombytes(cloud.reshape(-1).view(np.uint8))
    message.data = data
    return message


def thing_markers(thing: SpaceThing, number: int, header: Header) -> list[Marker]:
    """Return a box and a name for a thing that has a box."""
    assert thing.box is not None
    red, green, blue = (value / 255 for value in thing.color)
    size = (max(0.005, side) for side in thing.box.size)
    x, y, z = thing.box.position
    box = Marker(header=header, ns='things', id=2 * number, type=Marker.CUBE, pose=_pose(thing.box.position))
    box.scale = Vector3(**dict(zip('xyz', size, strict=True)))
    box.color = ColorRGBA(r=red, g=green, b=blue, a=0.35)
    name = _text(thing.name, (x, y - thing.box.size[1] / 2 - TEXT_M, z), header)
    name.ns, name.id = 'things', 2 * number + 1
    return [box, name]


def answer_markers(answer: Answer) -> list[Marker]:
    """Return the text of an answer, and a ball at the first of its places that has a point."""
    place = next((one for one in answer.places if one.position.x == one.position.x), None)
    ball = Marker(header=answer.header, ns='answer', id=0, action=Marker.DELETE)
    at = ANSWER_AT
    if place is not None:
        at = place.position.x, place.position.y - place.size.y / 2 - 2 * TEXT_M, place.position.z
        ball = Marker(header=answer.header, ns='answer', id=0, type=Marker.SPHERE)
        ball.pose = Pose(position=place.position, orientation=Quaternion(w=1.0))
        ball.scale = Vector3(x=0.04, y=0.04, z=0.04)
        ball.color = ColorRGBA(r=1.0, g=0.2, b=0.6, a=0.9)
    text = _text(f'{place.label}: {answer.text}' if place is not None else answer.text, at, answer.header)
    text.ns, text.id = 'answer', 1
    return [ball, text]


def _text(words: str, at: tuple[float, float, float], header: Header) -> Marker:
    marker = Marker(header=header, type=Marker.TEXT_VIEW_FACING, text=words, pose=_pose(at))
    marker.scale = Vector3(z=TEXT_M)
    marker.color = ColorRGBA(r=1.0, g=1.0, b=1.0, a=1.0)
    return marker


def _pose(at: tuple[float, float, float]) -> Pose:
    x, y, z = at
    return Pose(position=Point(x=x, y=y, z=z), orientation=Quaternion(w=1.0))


class Detections:
    """Publishes things as detections of vision_msgs, where it is installed; PyPI has no wheel of it."""

    def __init__(self, node: LifecycleNode, counters: Counters):
        """Open the topics if vision_msgs is there."""
        self._flat: LifecyclePublisher | None = None
        self._solid: LifecyclePublisher | None = None
        try:
            from vision_msgs import msg
        except ImportError:
            return
        self._msg: Any = msg
        self._flat = publisher(node, Interface(interfaces.DETECTIONS, msg.Detection2DArray, ''), counters)
        self._solid = publisher(node, Interface(interfaces.DETECTIONS_3D, msg.Detection3DArray, ''), counters)

    @property
    def wanted(self) -> bool:
        """True while somebody subscribes to boxes in the image."""
        return _heard(self._flat)

    @property
    def wants_depth(self) -> bool:
        """True while somebody subscribes to boxes in space."""
        return _heard(self._solid)

    def publish(self, things: list[SpaceThing], header: Header) -> None:
        """Publish things; do nothing where vision_msgs is not installed or nobody subscribes."""
        if self._flat is not None and _heard(self._flat):
            self._flat.publish(flat_detections(self._msg, things, header))
        if self._solid is not None and _heard(self._solid):
            self._solid.publish(solid_detections(self._msg, things, header))


def flat_detections(msg: Any, things: list[SpaceThing], header: Header) -> Any:
    """Return boxes in the image as vision_msgs/Detection2DArray.

    Args:
        msg: the module vision_msgs.msg.
        things: things of one image.
        header: its header.
    """
    found = []
    for thing in things:
        left, top, width, height = thing.instance.box
        box = msg.BoundingBox2D(size_x=float(width), size_y=float(height))
        # The middle of the first pixel is 0.
        box.center.position.x, box.center.position.y = left + (width - 1) / 2, top + (height - 1) / 2
        found.append(msg.Detection2D(header=header, results=[_hypothesis(msg, thing)], bbox=box))
    return msg.Detection2DArray(header=header, detections=found)


def solid_detections(msg: Any, things: list[SpaceThing], header: Header) -> Any:
    """Return boxes in space as vision_msgs/Detection3DArray; arguments as for flat_detections."""
    found = []
    for thing in things:
        if thing.box is not None:
            x, y, z = thing.box.size
            box = msg.BoundingBox3D(center=_pose(thing.box.position), size=Vector3(x=x, y=y, z=z))
            found.append(msg.Detection3D(header=header, results=[_hypothesis(msg, thing)], bbox=box))
    return msg.Detection3DArray(header=header, detections=found)


def _hypothesis(msg: Any, thing: SpaceThing) -> Any:
    """Return the class of a thing; its pose is that of the box."""
    result = msg.ObjectHypothesisWithPose(hypothesis=msg.ObjectHypothesis(class_id=thing.name, score=thing.score))
    if thing.box is not None:
        result.pose.pose = _pose(thing.box.position)
    return result
