"""Messages of a robot as Foxglove takes them."""

from collections.abc import Sequence
from math import isnan
from typing import Any

import numpy as np

from m3et_ros.cli.robots import RobotHealth
from m3et_ros.cli.view.messages import SeenBox, depth_of, jpeg_of
from m3et_ros.data.frame import NANOSECONDS
from m3et_ros.data.images.messages import depth_to_mm
from m3et_ros.ros.convert import place_of
from m3et_ros.runtime.results import Place

HOLD_S = 2
"""Seconds for which the place of an answer is shown."""
YELLOW = (255, 214, 0)
NUMBER, TEXT = {'type': 'number'}, {'type': 'string'}
SCORED = {'type': 'array', 'items': {'type': 'object', 'properties': {'label': TEXT, 'score': NUMBER}}}
ANTICIPATION_SCHEMA = {
    'type': 'object',
    'title': 'm3et.Anticipation',
    'properties': {'now': SCORED, 'next': SCORED, 'horizon_s': NUMBER},
}
HEALTH_SCHEMA = {
    'type': 'object',
    'title': 'm3et.Health',
    'properties': {'level': TEXT, 'sentence': TEXT, 'values': {'type': 'object'}},
}
OPTICAL = (-0.5, 0.5, -0.5, 0.5)
"""Rotation (x, y, z, w) from axes forward, left, up to the optical ones: right, down, forward (REP 103)."""


class Messages:
    """Makes the messages of one robot.

    Args:
        namespace: its namespace; frames are named after it where the camera names none.
    """

    def __init__(self, namespace: str):
        from foxglove import messages

        self._kinds = messages
        self._root = namespace.strip('/').replace('/', '_') or 'robot'

    def picture(self, message: Any) -> Any:
        """Return colours as a CompressedImage.

        Raises:
            InputError: as the image codec.
        """
        return self._kinds.CompressedImage(**self._header(message), data=jpeg_of(message), format='jpeg')

    def depth(self, message: Any) -> Any:
        """Return depth as a RawImage in millimetres, 0 where unknown.

        Raises:
            InputError: as the image codec.
        """
        stored = depth_to_mm(depth_of(message))
        height, width = stored.shape
        return self._kinds.RawImage(
            **self._header(message),
            width=width,
            height=height,
            encoding='16UC1',
            step=2 * width,
            data=np.ascontiguousarray(stored, '<u2').tobytes(),
        )

    def calibration(self, message: Any) -> Any:
        """Return a CameraInfo as a CameraCalibration."""
        return self._kinds.CameraCalibration(
            **self._header(message),
            width=message.width,
            height=message.height,
            distortion_model=message.distortion_model,
            D=list(map(float, message.d)),
            K=list(map(float, message.k)),
            R=list(map(float, message.r)),
            P=list(map(float, message.p)),
        )

    def transform(self, message: Any) -> Any:
        """Return the transform from an upright frame to that of the camera, so that up is up in a view."""
        x, y, z, w = OPTICAL
        header = self._header(message)
        return self._kinds.FrameTransform(
            timestamp=header['timestamp'],
            parent_frame_id=f'{self._root}_view',
            child_frame_id=header['frame_id'],
            translation=self._kinds.Vector3(x=0.0, y=0.0, z=0.0),
            rotation=self._kinds.Quaternion(x=x, y=y, z=z, w=w),
        )

    def log(self, answer: Any) -> Any:
        """Return an Answer as a line of the log."""
        level = self._kinds.LogLevel.Info if answer.answerable else self._kinds.LogLevel.Warning
        end = f'({answer.confidence:.2f})' if answer.answerable else f'({answer.explanation})'
        return self._kinds.Log(
            timestamp=self._header(answer)['timestamp'],
            level=level,
            name=self._root,
            message=f'{answer.question} {answer.text} {end}',
        )

    def boxes(self, answer: Any) -> Any:
        """Return the places of an answer in its image."""
        kinds, stamp = self._kinds, self._header(answer)['timestamp']
        points, texts = [], []
        for place in map(place_of, answer.places):
            left, top, width, height = place.box
            corners = [(left, top), (left + width, top), (left + width, top + height), (left, top + height)]
            points.append(
                kinds.PointsAnnotation(
                    timestamp=stamp,
                    type=kinds.PointsAnnotationType.LineLoop,
                    points=[kinds.Point2(x=float(x), y=float(y)) for x, y in corners],
                    outline_color=self._color(YELLOW, 1.0),
                    thickness=2.0,
                )
            )
            texts.append(
                kinds.TextAnnotation(
                    timestamp=stamp,
                    position=kinds.Point2(x=float(left), y=float(top)),
                    text=_words(place),
                    font_size=14.0,
                    text_color=self._color(YELLOW, 1.0),
                )
            )
        return kinds.ImageAnnotations(points=points, texts=texts)

    def scene(self, answer: Any) -> Any:
        """Return the places of an answer in space, as far as they are known; they vanish after HOLD_S seconds."""
        boxes = []
        for place in map(place_of, answer.places):
            if place.position_m is not None:
                words = f'{_words(place)}, {place.distance_m:.2f} m'
                boxes.append(SeenBox(words, YELLOW, place.position_m, place.size_m or (0.02, 0.02, 0.02)))
        return self._scene('places', self._header(answer), boxes)

    def things(self, stamp_ns: int, frame_id: str, boxes: Sequence[SeenBox]) -> Any:
        """Return the boxes of what is seen, in the frame of this name; they vanish after HOLD_S seconds."""
        timestamp = self._kinds.Timestamp(stamp_ns // NANOSECONDS, stamp_ns % NANOSECONDS)
        return self._scene('things', {'timestamp': timestamp, 'frame_id': frame_id}, boxes)

    def _scene(self, name: str, header: dict[str, Any], boxes: Sequence[SeenBox]) -> Any:
        kinds = self._kinds
        cubes, texts = [], []
        for box in boxes:
            pose = kinds.Pose(
                position=kinds.Vector3(**dict(zip('xyz', box.center, strict=True))),
                orientation=kinds.Quaternion(x=0.0, y=0.0, z=0.0, w=1.0),
            )
            size = kinds.Vector3(**dict(zip('xyz', box.size, strict=True)))
            cubes.append(kinds.CubePrimitive(pose=pose, size=size, color=self._color(box.color, 0.4)))
            texts.append(
                kinds.TextPrimitive(
                    pose=pose,
                    billboard=True,
                    font_size=14.0,
                    scale_invariant=True,
                    color=self._color(box.color, 1.0),
                    text=box.name,
                )
            )
        lifetime = kinds.Duration(HOLD_S, 0)
        entity = kinds.SceneEntity(**header, id=name, lifetime=lifetime, cubes=cubes, texts=texts)
        return kinds.SceneUpdate(entities=[entity])

    def _header(self, message: Any) -> dict[str, Any]:
        stamp = message.header.stamp
        return {
            'timestamp': self._kinds.Timestamp(stamp.sec, stamp.nanosec),
            'frame_id': message.header.frame_id or f'{self._root}_camera',
        }

    def _color(self, color: tuple[int, int, int], alpha: float) -> Any:
        r, g, b = (part / 255 for part in color)
        return self._kinds.Color(r=r, g=g, b=b, a=alpha)


def anticipation_json(message: Any) -> dict[str, Any]:
    """Return the present and the next actions of an ActionAnticipation."""
    return {
        'now': [{'label': one.label, 'score': float(one.score)} for one in message.current_actions],
        'next': [{'label': one.label, 'score': float(one.score)} for one in message.actions],
        'horizon_s': float(message.horizon_s),
    }


def health_json(health: RobotHealth) -> dict[str, Any]:
    """Return the report of a node; 'age_s/p50' becomes p50 of age_s, and numbers become numbers."""
    values: dict[str, Any] = {}
    for key, text in health.values.items():
        group, slash, name = key.partition('/')
        into = values.setdefault(group, {}) if slash else values
        if isinstance(into, dict):
            into[name if slash else group] = _number_or_text(text)
    return {'level': health.level, 'sentence': health.sentence, 'values': values}


def _number_or_text(text: str) -> float | str | None:
    try:
        number = float(text)
    except ValueError:
        return text
    return None if isnan(number) else number


def _words(place: Place) -> str:
    return f'{place.label} {place.confidence:.2f}'
