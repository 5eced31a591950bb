"""The entities of a robot in a Rerun recording, from messages or from results of the engine.

Below the name of the robot: `camera` is the pinhole with its images, `places` and `boxes` are in space, and `answers`,
`anticipation` and `health` are logs and series. The time lines are `ros_time`, the stamps of the images, and `frame`,
their numbers.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from m3et_ros.cli.view.messages import SeenBox, boxes_of, depth_of, jpeg_of, png_of_depth
from m3et_ros.data.frame import NANOSECONDS
from m3et_ros.models.m3et.config import UNLABELLED
from m3et_ros.ros.convert import place_of, stamp_ns

if TYPE_CHECKING:
    from rerun import RecordingStream
    from rerun.blueprint import Blueprint

    from m3et_ros.runtime.results import Place

SHOWN = ('rgb', 'depth', 'info', 'completed', 'mask', 'labels', 'markers', 'answer', 'anticipation')
"""Streams that are logged."""
MM = 1000.0
"""Units of stored depth in a metre."""
REMEMBERED = 64
"""Frames whose number is known, and whose measured depth is, for results that come later; and questions."""
HOLD_NS = 2 * NANOSECONDS
"""Recorded time for which the place of an answer is shown."""
LEAST = 0.1
"""Probability from which an action is shown as a state; the present ones add up to that of any action at all."""
EYE, TARGET = (0.6, -0.7, -0.9), (0.0, 0.1, 1.8)
"""From behind the camera and above it, in its optical frame in metres."""
PLANE_M = 0.25
"""Distance at which the images of the camera are drawn in space."""
FILLED = 1
FILLED_COLOR = (255, 0, 255)
PLACE_COLOR = (255, 214, 0)
SERIES = {
    'rates': ('rate_in_hz', 'rate_out_hz'),
    'seconds': ('age_s/p50', 'age_s/p95', 'latency_s/p50', 'latency_s/p95'),
}
"""Figures of /diagnostics that are drawn together."""


class RobotLog:
    """One robot in a Rerun recording; used by one thread.

    Args:
        recording: stream of the recording.
        root: entity of the robot, such as 'm3et'.
    """

    def __init__(self, recording: 'RecordingStream', root: str):
        import rerun

        self.root = root
        self.newest_ns = 0
        self._rr, self._recording = rerun, recording
        self._numbers: dict[int, int] = {}
        self._frames = 0
        self._known: dict[int, np.ndarray] = {}
        self._logged: dict[str, Any] = {}
        self._said: dict[str, str] = {}
        self._placed_ns: int | None = None
        self._static('', rerun.ViewCoordinates.RDF)
        filled = rerun.AnnotationInfo(FILLED, 'filled', FILLED_COLOR)
        self._static('camera/filled', rerun.AnnotationContext([(0, 'measured', (0, 0, 0, 0)), filled]))
        self._static('health/rates', rerun.SeriesLines(names=SERIES['rates']))
        self._static('health/seconds', rerun.SeriesLines(names=SERIES['seconds']))
        self._static('health/dropped', rerun.SeriesLines(names=['dropped']))
        self._static('anticipation/confidence', rerun.SeriesLines(names=['now', 'next']))

    def message(self, stream: str, message: Any) -> None:
        """Log a message.

        Args:
            stream: name of its stream; see streams.streams_of.
            message: the message, of rclpy or rosbags.

        Raises:
            InputError: it cannot be read.
        """
        if stream == 'markers':
            if found := boxes_of(message):
                self.boxes(found[0], found[2])
            return
        stamp = stamp_ns(message.header.stamp)
        if stream == 'rgb':
            self.rgb(stamp, jpeg_of(message))
        elif stream == 'depth':
            self.depth(stamp, depth_of(message))
        elif stream == 'info':
            self.intrinsics(np.reshape(message.k, (3, 3)), message.width, message.height)
        elif stream == 'completed':
            self.completed(stamp, depth_of(message))
        elif stream == 'mask':
            self.mask(
                stamp_ns(message.header.stamp),
                np.reshape(message.data, (message.height, message.step))[:, : message.width],
            )
        elif stream == 'labels':
            colors = [tuple(round(255 * part) for part in (c.r, c.g, c.b)) for c in message.colors]
            self.labels(message.names, colors, message.ids)
        elif stream == 'answer':
            self.answer(stamp, message, [place_of(place) for place in message.places])
        elif stream == 'anticipation':
            self.anticipation(stamp, message.current_actions, message.actions)

    def intrinsics(self, K: np.ndarray, width: int, height: int) -> None:
        """Log the pinhole: K (3, 3) in pixels of an image of this size. One without a focal length is left out."""
        facts = (*np.ravel(K).tolist(), width, height)
        if K[0, 0] <= 0 or self._logged.get('intrinsics') == facts:
            return
        self._logged['intrinsics'] = facts
        self._static(
            'camera',
            self._rr.Pinhole(
                image_from_camera=K,
                resolution=[width, height],
                camera_xyz=self._rr.ViewCoordinates.RDF,
                image_plane_distance=PLANE_M,
            ),
        )

    def rgb(self, stamp_ns: int, jpeg: bytes) -> None:
        """Log colours, and remove the place of an answer about an older image."""
        self._at(stamp_ns)
        self._log('camera/rgb', self._rr.EncodedImage(contents=jpeg, media_type='image/jpeg'))
        if self._placed_ns is not None and stamp_ns - self._placed_ns > HOLD_NS:
            self._clear_places()

    def depth(self, stamp_ns: int, metres: np.ndarray) -> None:
        """Log measured depth (H, W) float32 in metres."""
        self._at(stamp_ns)
        self._known[stamp_ns] = np.isfinite(metres)
        _forget_oldest(self._known)
        self._log_depth('camera/depth', metres)

    def completed(self, stamp_ns: int, metres: np.ndarray) -> None:
        """Log completed depth (H, W) float32 in metres, and the pixels that were filled where depth was measured."""
        self._at(stamp_ns)
        self._log_depth('camera/depth_completed', metres)
        known = self._known.get(stamp_ns)
        if known is not None and known.shape == metres.shape:
            filled = (np.isfinite(metres) & ~known).astype(np.uint8)
            self._log('camera/filled', self._rr.SegmentationImage(filled * FILLED, opacity=0.5))

    def mask(self, stamp_ns: int, ids: np.ndarray) -> None:
        """Log class ids (H, W) uint8."""
        self._at(stamp_ns)
        self._log('camera/segmentation', self._rr.SegmentationImage(ids, opacity=0.5))

    def boxes(self, stamp_ns: int, boxes: Sequence[SeenBox]) -> None:
        """Log the boxes in space of what is seen; they take the place of those before."""
        self._at(stamp_ns)
        self._log(
            'boxes',
            self._rr.Boxes3D(
                centers=[box.center for box in boxes],
                sizes=[box.size for box in boxes],
                labels=[box.name for box in boxes],
                show_labels=True,
                colors=[box.color for box in boxes],
            ),
        )

    def labels(self, names: Sequence[str], colors: Sequence[Sequence[int]], ids: Sequence[int] | None = None) -> None:
        """Log the names and colours (R G B in 0..255) of the classes; their ids are their positions by default."""
        if self._logged.get('labels') == tuple(names):
            return
        self._logged['labels'] = tuple(names)
        numbers = range(len(names)) if ids is None else ids
        known = [(int(i), name, tuple(color)) for i, name, color in zip(numbers, names, colors, strict=True)]
        context = self._rr.AnnotationContext([*known, (UNLABELLED, 'unlabelled', (0, 0, 0, 0))])
        self._static('camera/segmentation', context)

    def answer(self, stamp_ns: int, answer: Any, places: Sequence['Place']) -> None:
        """Log an answer, and its places; the text only where the last one to this question differs.

        Args:
            stamp_ns: stamp of the newest image that it is about.
            answer: a Reply, or an Answer message.
            places: its places.
        """
        self._at(stamp_ns)
        if self._said.get(answer.question) != answer.text:
            self._said[answer.question] = answer.text
            _forget_oldest(self._said)
            end = f'({answer.confidence:.2f})' if answer.answerable else f'({answer.explanation})'
            level = 'INFO' if answer.answerable else 'WARN'
            self._log('answers', self._rr.TextLog(f'{answer.question} {answer.text} {end}', level=level))
        if places:
            self._log_places(places)
            self._placed_ns = stamp_ns

    def anticipation(self, stamp_ns: int, now: Sequence[Any], following: Sequence[Any]) -> None:
        """Log the best of the present and of the next actions, each a list with `label` and `score`, best first."""
        self._at(stamp_ns)
        for name, actions in (('now', now), ('next', following)):
            label = actions[0].label if actions and actions[0].score >= LEAST else ''
            if self._logged.get(name) != label:
                self._logged[name] = label
                self._log(f'anticipation/{name}', self._rr.StateChange(state=[label] if label else []))
        scores = [actions[0].score if actions else float('nan') for actions in (now, following)]
        self._log('anticipation/confidence', self._rr.Scalars(scores))

    def health(self, level: str, sentence: str, values: Mapping[str, str]) -> None:
        """Log the report of a node at the stamp of the newest image; nothing before there is one.

        Args:
            level: 'ok', 'warn', 'error' or 'silent'.
            sentence: what is wrong; logged where it differs from the one before.
            values: figures by name, as on /diagnostics.
        """
        if not self.newest_ns:
            return
        self._at(self.newest_ns)
        for name, figures in SERIES.items():
            self._log(f'health/{name}', self._rr.Scalars([_number(values.get(figure, '')) for figure in figures]))
        dropped = [_number(value) for key, value in values.items() if key.startswith('dropped/')]
        self._log('health/dropped', self._rr.Scalars([sum(dropped)]))
        if self._logged.get('health') != sentence:
            self._logged['health'] = sentence
            self._log('health/report', self._rr.TextLog(sentence, level='INFO' if level == 'ok' else 'WARN'))

    def _log_depth(self, entity: str, metres: np.ndarray) -> None:
        png = png_of_depth(metres)
        self._log(entity, self._rr.EncodedDepthImage(png, media_type='image/png', meter=MM))

    def _log_places(self, places: Sequence['Place']) -> None:
        """Log the places of an answer in the image, and in space where that is known."""
        words = [f'{place.label} {place.confidence:.2f}' for place in places]
        boxes = np.array([place.box for place in places], float).reshape(-1, 4)
        self._log(
            'camera/places', self._rr.Boxes2D(mins=boxes[:, :2], sizes=boxes[:, 2:], labels=words, colors=PLACE_COLOR)
        )
        points = [place.pixel for place in places]
        self._log('camera/places/point', self._rr.Points2D(points, colors=PLACE_COLOR, radii=-5.0))
        placed = [(place, word) for place, word in zip(places, words, strict=True) if place.position_m is not None]
        if placed:
            self._log(
                'places',
                self._rr.Boxes3D(
                    centers=[place.position_m for place, _ in placed],
                    sizes=[place.size_m or (0.02, 0.02, 0.02) for place, _ in placed],
                    labels=[f'{word}, {place.distance_m:.2f} m' for place, word in placed],
                    colors=PLACE_COLOR,
                ),
            )

    def _clear_places(self) -> None:
        self._placed_ns = None
        self._log('camera/places', self._rr.Clear(recursive=True))
        self._log('places', self._rr.Clear(recursive=True))

    def _at(self, stamp_ns: int) -> None:
        """Set the time lines; a stamp that is new is the next frame."""
        if stamp_ns not in self._numbers:
            self._numbers[stamp_ns] = self._frames
            self._frames += 1
            _forget_oldest(self._numbers)
        self.newest_ns = max(self.newest_ns, stamp_ns)
        self._recording.set_time('ros_time', timestamp=np.datetime64(stamp_ns, 'ns'))
        self._recording.set_time('frame', sequence=self._numbers[stamp_ns])

    def _log(self, entity: str, value: Any) -> None:
        self._recording.log(f'{self.root}/{entity}', value)

    def _static(self, entity: str, value: Any) -> None:
        self._recording.log(f'{self.root}/{entity}'.rstrip('/'), value, static=True)


def blueprint(roots: Collection[str], *, health: bool = True) -> 'Blueprint':
    """Return the arrangement of the views: a tab for each robot, with space, pictures, answers, actions and health.

    Args:
        roots: entities of the robots.
        health: also show the health; a recording has none.
    """
    import rerun.blueprint as rrb

    tabs = [_robot_views(root, health=health) for root in roots]
    return rrb.Blueprint(
        rrb.Tabs(*tabs) if len(tabs) != 1 else tabs[0],
        rrb.TimePanel(timeline='ros_time', state='collapsed'),
        rrb.BlueprintPanel(state='collapsed'),
        rrb.SelectionPanel(state='collapsed'),
        auto_views=False,
    )


def _robot_views(root: str, *, health: bool) -> Any:
    import rerun.blueprint as rrb

    space = rrb.Spatial3DView(
        origin=root,
        name='In space',
        eye_controls=rrb.EyeControls3D(position=EYE, look_target=TARGET, eye_up=(0, -1, 0)),
        contents=['$origin/**', '- $origin/camera/filled', '- $origin/camera/depth', '- $origin/camera/segmentation'],
    )
    pictures = [
        _picture(root, 'Colour, classes, places', 'rgb', 'segmentation', 'places/**'),
        _picture(root, 'Measured depth', 'depth'),
        _picture(root, 'Completed depth, filled', 'depth_completed', 'filled'),
    ]
    words = [rrb.TextLogView(origin=f'{root}/answers', name='Answers')]
    series: list[Any] = [
        rrb.StateTimelineView(origin=f'{root}/anticipation', name='Actions', contents=['$origin/now', '$origin/next']),
        rrb.TimeSeriesView(origin=f'{root}/anticipation', name='Confidence', contents=['$origin/confidence']),
    ]
    if health:
        words.append(rrb.TextLogView(origin=f'{root}/health', name='Health'))
        figures = {'rates': 'Rates in Hz', 'seconds': 'Age and inference in s', 'dropped': 'Dropped'}
        series.append(
            rrb.Tabs(*(rrb.TimeSeriesView(origin=f'{root}/health/{one}', name=name) for one, name in figures.items()))
        )
    return rrb.Vertical(
        rrb.Horizontal(space, rrb.Vertical(*pictures), column_shares=[3, 2]),
        rrb.Horizontal(rrb.Tabs(*words), rrb.Vertical(*series)),
        row_shares=[2, 1],
        name=root,
    )


def _picture(root: str, name: str, *entities: str) -> Any:
    import rerun.blueprint as rrb

    return rrb.Spatial2DView(origin=f'{root}/camera', name=name, contents=[f'$origin/{entity}' for entity in entities])


def _forget_oldest(remembered: dict[Any, Any]) -> None:
    if len(remembered) > REMEMBERED:
        del remembered[next(iter(remembered))]


def _number(text: str) -> float:
    """Return the number of a figure; NaN where it is none, such as 'none'."""
    try:
        return float(text)
    except ValueError:
        return float('nan')
