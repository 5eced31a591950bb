"""Label one frame by teacher networks: depth, things with their colour, distance and place, and a mask.

frame = Labeller(Teachers(student, detection=open_detection('yolox.onnx'))).label(frame)
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from m3et_ros.data.checkpoints.m3et import Checkpoint
from m3et_ros.data.errors import InputError
from m3et_ros.data.frame import UNLABELLED, Frame
from m3et_ros.data.kitchen.questions.frame import EVERYWHERE, LEAST_SHARE, SURFACES
from m3et_ros.data.labelled.facts import AnsweredFact, ObjectFact
from m3et_ros.data.labelled.samples import ITSELF
from m3et_ros.data.preprocess import mask_output
from m3et_ros.data.questions.words import SYNONYMS
from m3et_ros.runtime.engine import Engine
from m3et_ros.runtime.networks.alignment import align_depth
from m3et_ros.runtime.networks.depth import DepthNetwork
from m3et_ros.runtime.networks.detection import Detection, DetectionNetwork
from m3et_ros.runtime.networks.segmentation import SegmentationNetwork
from m3et_ros.runtime.vlm.model import VisionLanguageModel

BRIEF = 'Answer in one to four words.'
"""What a question to a vision-language model ends with."""
MOST_WORDS, MOST_TOKENS = 4, 16
"""Longest answer that is kept, and the tokens that a vision-language model may write for it."""
ASKED = ('What room is this?', 'What is in the middle of the picture?', 'Is the light on?')
"""Questions to a vision-language model where the user names none."""
SURE, POSSIBLE = 0.4, 0.1
"""Confidence from which something found is a thing, and from which it is unsure; less is nothing."""
SURE_REGION = 0.5
"""The same for the mean confidence of a region of a mask."""
MOST = 100
"""Most things of a frame, the most confident ones."""
NEAR = 0.08
"""Largest share by which the depth of a pixel of a box differs from that of its middle if it belongs to its thing."""
MIDDLE = 0.5
"""Share of a box, along each side, whose median depth is that of the thing."""
COLOURED = 0.6
"""Least share of a thing's pixels that one colour word must fit."""
HUES = (
    (12, 'red'),
    (40, 'orange'),
    (68, 'yellow'),
    (165, 'green'),
    (258, 'blue'),
    (295, 'purple'),
    (345, 'pink'),
    (361, 'red'),
)
"""Upper end in degrees of the hues that a colour word covers."""
ALSO = {'wine glass': 'glass', 'dining table': 'table', 'desk': 'table', 'stove': 'hob', 'box': 'box'}
"""Names of public label sets -> words of the kitchen, where everyday synonyms (data.questions.words) do not say it."""


@dataclass(frozen=True)
class Teachers:
    """The networks that label, and the student, whose names they are mapped to.

    Raises:
        InputError: 'teacher_class', a name that is wanted is known to no teacher.
    """

    student: Checkpoint
    depth: DepthNetwork | None = None
    segmentation: SegmentationNetwork | None = None
    detection: DetectionNetwork | None = None
    # A vision-language model, and the questions that it answers about every frame.
    answerer: VisionLanguageModel | None = None
    ask: tuple[str, ...] = ()
    # Names of the student to label; () for all that the teachers find.
    wanted: tuple[str, ...] = ()

    def __post_init__(self):
        missing = [name for name in self.wanted if name not in self.names]
        if missing:
            raise InputError(
                'teacher_class',
                f'no teacher knows {missing[0]!r}; they know {", ".join(sorted(self.names)[:40]) or "nothing"}: '
                'give another teacher, or leave the name out and correct objects.csv by hand',
            )

    @property
    def detected(self) -> frozenset[str]:
        """The student's words for what the detector knows."""
        return self._named(self.detection)

    @property
    def names(self) -> frozenset[str]:
        """The student's words for all that detector and segmentation know."""
        return self.detected | self._named(self.segmentation)

    def _named(self, network: DetectionNetwork | SegmentationNetwork | None) -> frozenset[str]:
        return frozenset() if network is None else frozenset(map(self.word, network.names)) - {''}

    def word(self, name: str) -> str:
        """Return the student's word for a teacher's class; '' where its tokenizer cannot spell it."""
        word, tokenizer = student_name(name, self.student.labels.classes), self.student.tokenizer
        return '' if tokenizer.unk in tokenizer.encode([word], 32)[0] else word

    @property
    def unspelled(self) -> list[str]:
        """The classes of the teachers that the student cannot spell."""
        networks = [network for network in (self.detection, self.segmentation) if network is not None]
        return sorted({name for network in networks for name in network.names if not self.word(name)})

    def described(self) -> dict[str, str]:
        """Return what labels what: 'depth', 'segmentation', 'detection' and 'questions' -> model id."""
        found = {
            'depth': self.depth,
            'segmentation': self.segmentation,
            'detection': self.detection,
            'questions': self.answerer,
        }
        return {name: network.model_id for name, network in found.items() if network is not None}


@dataclass(frozen=True)
class LabelledFrame:
    """A frame with its labels."""

    # Metres, (H, W) float32, NaN unknown; None without.
    depth: np.ndarray | None
    # Number of the object, (H, W) uint8; 255 for none.
    mask: np.ndarray
    # The objects by number; their frame is 0.
    facts: tuple[ObjectFact, ...]
    # Questions answered in words; their frame is 0.
    answered: tuple[AnsweredFact, ...]


def student_name(name: str, classes: Sequence[str]) -> str:
    """Return the student's word for a teacher's class: its own where there is one of the same meaning, else the name.

    Args:
        name: class of a teacher, perhaps several words for the same: 'refrigerator, icebox'.
        classes: the student's classes.
    """
    words = [' '.join(part.lower().replace('_', ' ').replace('-', ' ').split()) for part in name.split(',')]
    for word in words:
        if word in classes:
            return word
    for word in words:
        for known, same in SYNONYMS.items():
            if known in classes and word in same:
                return known
        if ALSO.get(word) in classes:
            return ALSO[word]
    return words[0]


def colour_of(pixels: np.ndarray) -> str:
    """Return the colour word that fits most of some pixels (n, 3) uint8 R G B, n > 0; '' where none fits enough."""
    values = pixels.astype(np.float32) / 255
    high, low = values.max(1), values.min(1)
    spread = np.maximum(high - low, 1e-6)
    red, green, blue = values.T
    hue = np.where(high == red, (green - blue) / spread % 6, 0)
    hue = np.where((high == green) & (high != red), (blue - red) / spread + 2, hue)
    hue = 60 * np.where((high == blue) & (high != red) & (high != green), (red - green) / spread + 4, hue)
    words = np.array([word for _, word in HUES])[np.searchsorted([end for end, _ in HUES], hue, side='right')]
    saturation = (high - low) / np.maximum(high, 1e-6)
    words = np.where((words == 'red') & (saturation < 0.5) & (high > 0.7), 'pink', words)
    words = np.where(np.isin(words, ('red', 'orange')) & (hue < 45) & (hue > 8) & (high < 0.55), 'brown', words)
    grey = np.where(high > 0.75, 'white', np.where(high > 0.25, 'grey', 'black'))
    words = np.where(saturation < 0.2, grey, words)
    words = np.where(high < 0.15, 'black', words)
    found, counts = np.unique(words, return_counts=True)
    best = int(counts.argmax())
    return str(found[best]) if counts[best] >= COLOURED * len(words) else ''


def in_box(depth: np.ndarray, box: tuple[int, int, int, int]) -> np.ndarray:
    """Return the pixels of a box at the distance of its middle, (H, W) bool; none where the middle is not measured.

    Args:
        depth: (H, W) metres, NaN unknown.
        box: left, top, right and bottom in pixels, the last two excluded.
    """
    found = np.zeros(depth.shape, bool)
    left, top, right, bottom = box
    aside, down = round((right - left) * (1 - MIDDLE) / 2), round((bottom - top) * (1 - MIDDLE) / 2)
    middle = depth[top + down : bottom - down, left + aside : right - aside]
    known = middle[np.isfinite(middle)]
    if known.size:
        centre = float(np.median(known))
        inside = np.abs(depth[top:bottom, left:right] - centre) <= NEAR * centre
        found[top:bottom, left:right] = inside
    return found


class Labeller:
    """Labels frames one by one.

    Args:
        teachers: the networks. What a detector leaves unlabelled gets the student's own segmentation, so that the
            student is not taught that everything is one of the few things that the detector finds.
    """

    def __init__(self, teachers: Teachers):
        self.teachers = teachers
        student = teachers.student
        self._words: dict[str, str] = {}
        self._detected = teachers.detected
        itself = student.trained and 'semseg' in student.model.config.tasks and teachers.segmentation is None
        self._engine = Engine(student) if itself and teachers.detection is not None else None

    @property
    def masks(self) -> bool:
        """True if the masks label whole frames, so that segmentation can be learnt from them."""
        return self._engine is not None or self.teachers.segmentation is not None

    def label(self, frame: Frame) -> LabelledFrame:
        """Label a frame.

        Raises:
            InputError: 'depth_relative', a depth network without metres labels a frame without measured depth; and the
                refusals of the networks.
        """
        detection, segmentation, answerer = self.teachers.detection, self.teachers.segmentation, self.teachers.answerer
        canvas = _Canvas(frame, self._depth(frame), self.teachers.wanted)
        boxes = [] if detection is None else [one for one in detection.predict(frame.rgb) if one.score >= POSSIBLE]
        regions: dict[str, np.ndarray] = {}
        if segmentation is not None:
            regions = self._add_regions(canvas, segmentation, {self._name(one.name) for one in boxes})
        elif self._engine is not None:
            _add_own(canvas, self._engine)
        if detection is not None:
            self._add_boxes(canvas, boxes, regions, detection.model_id)
        answered = () if answerer is None else tuple(self._answers(frame, answerer))
        return LabelledFrame(canvas.depth, canvas.mask, tuple(canvas.facts), answered)

    def _answers(self, frame: Frame, model: VisionLanguageModel) -> Iterator[AnsweredFact]:
        """Yield the answers of the vision-language model that are short enough and that the student can spell."""
        tokenizer = self.teachers.student.tokenizer
        for question in self.teachers.ask:
            found = model.answer(f'{question} {BRIEF}', [frame.rgb], max_tokens=MOST_TOKENS)
            words = found.text.strip().split('\n')[0].lower().strip(' .!"\'').split()
            text = ' '.join(words)
            if 0 < len(words) <= MOST_WORDS and tokenizer.unk not in tokenizer.encode([text], 32)[0]:
                yield AnsweredFact(0, question, text, float(np.clip(found.confidence, 0, 1)), model.model_id)

    def _depth(self, frame: Frame) -> np.ndarray | None:
        """Return measured depth with the holes filled by the network, or the network's own metres."""
        network = self.teachers.depth
        if network is None:
            return frame.depth
        if frame.depth is None or not np.isfinite(frame.depth).any():
            if not network.metric:
                raise InputError(
                    'depth_relative',
                    f'{network.model_id} gives no metres and a frame has no measured depth to scale it by; give a '
                    'metric network, such as a Depth-Anything trained for metric depth',
                )
            return network.predict(frame.rgb)
        aligned = align_depth(network.predict(frame.rgb), frame.depth, network.metric)
        return np.where(np.isfinite(frame.depth), frame.depth, aligned).astype(np.float32)

    def _name(self, name: str) -> str:
        if name not in self._words:
            self._words[name] = self.teachers.word(name)
        return self._words[name]

    def _add_regions(self, canvas: '_Canvas', network: SegmentationNetwork, boxed: set[str]) -> dict[str, np.ndarray]:
        """Add the regions of a mask: as background, or as things where no detector knows their name.

        A name that the detector knows and did not find in this frame is unsure: two teachers disagree.

        Args:
            canvas: the labels so far.
            network: the network.
            boxed: names that the detector found in this frame.

        Returns:
            Name -> its pixels (H, W) bool.
        """
        found, detected = network.predict(canvas.frame.rgb), self._detected
        regions: dict[str, np.ndarray] = {}
        for label in np.unique(found.labels[found.labels < len(network.names)]):
            name, where = self._name(network.names[label]), found.labels == label
            regions[name] = regions.get(name, np.zeros_like(where)) | where
            if name in EVERYWHERE or name in detected:
                part = 'unsure' if name in detected and name not in boxed else 'background'
                canvas.add(name, where, part, float(found.confidence[where].mean()), network.model_id)
                continue
            count, pieces, facts, _ = cv2.connectedComponentsWithStats(where.astype(np.uint8))
            for piece in range(1, count):
                area = facts[piece, cv2.CC_STAT_AREA] / where.size
                if area < LEAST_SHARE / 4:
                    continue
                inside = pieces == piece
                sure = float(found.confidence[inside].mean())
                part = 'thing' if area >= LEAST_SHARE and sure >= SURE_REGION else 'unsure'
                canvas.add(name, inside, part, sure, network.model_id)
        return regions

    def _add_boxes(
        self, canvas: '_Canvas', boxes: Sequence[Detection], regions: Mapping[str, np.ndarray], teacher: str
    ) -> None:
        """Add detections, the most confident MOST of them, the nearest last, so that they cover what is behind them.

        The pixels of a thing are those of its box at the distance of the box's middle; without depth, those of its box
        that a segmentation network calls so; else it has none.

        Args:
            canvas: the labels so far.
            boxes: the detections.
            regions: as from _add_regions.
            teacher: model id of the detector.
        """
        height, width = canvas.mask.shape
        shapes = []
        for one in sorted(boxes, key=lambda one: -one.score)[:MOST]:
            x0, y0, x1, y1 = one.box
            box = (max(round(x0), 0), max(round(y0), 0), min(round(x1), width), min(round(y1), height))
            if box[0] >= box[2] or box[1] >= box[3]:
                continue
            name, where = self._name(one.name), np.zeros((height, width), bool)
            if canvas.depth is not None:
                where = in_box(canvas.depth, box)
            elif name in regions:
                where[box[1] : box[3], box[0] : box[2]] = regions[name][box[1] : box[3], box[0] : box[2]]
            distance = canvas.distance(where)
            shapes.append((1e9 if np.isnan(distance) else distance, name, one.score, box, where))
        for _, name, score, box, where in sorted(shapes, key=lambda shape: -shape[0]):
            canvas.add(
                name, where if where.any() else None, 'thing' if score >= SURE else 'unsure', score, teacher, box
            )


def _add_own(canvas: '_Canvas', engine: Engine) -> None:
    """Add the student's own segmentation as background."""
    view = engine.encode(Frame(canvas.frame.rgb, canvas.frame.depth))
    logits = engine.decode(view, ['semseg'])['semseg']
    mask = mask_output(logits, engine.config.image_size, canvas.mask.shape)
    sure = logits.float().softmax(1).amax((0, 2, 3))
    for number in np.unique(mask[mask != UNLABELLED]):
        name, teacher = engine.labels.classes[number], f'{engine.model_id}{ITSELF}'
        canvas.add(name, mask == number, 'background', float(sure[number]), teacher)


class _Canvas:
    """The labels of a frame while they are put together."""

    def __init__(self, frame: Frame, depth: np.ndarray | None, wanted: tuple[str, ...]):
        self.frame, self.depth, self.wanted = frame, depth, wanted
        height, width = frame.rgb.shape[:2]
        self.mask = np.full((height, width), UNLABELLED, np.uint8)
        self.facts: list[ObjectFact] = []
        self._stretch: np.ndarray | float = 1.0
        if frame.K is not None:
            x = (np.arange(width) - frame.K[0, 2]) / frame.K[0, 0]
            y = (np.arange(height) - frame.K[1, 2]) / frame.K[1, 1]
            self._stretch = np.sqrt(1 + x**2 + y[:, None] ** 2)

    def distance(self, where: np.ndarray) -> float:
        """Return the mean metres from the camera to some pixels (H, W) bool; NaN where none is measured."""
        if self.depth is None:
            return float('nan')
        away = (self.depth * self._stretch)[where]
        known = away[np.isfinite(away)]
        return float(known.mean()) if known.size else float('nan')

    def add(
        self,
        name: str,
        where: np.ndarray | None,
        part: str,
        confidence: float,
        teacher: str,
        box: tuple[int, int, int, int] = (0, 0, 0, 0),
    ) -> None:
        """Add an object.

        Args:
            name: the student's word; '' for one that it cannot spell, which is left out.
            where: its pixels (H, W) bool; None where only its box is known, which is then no part of the mask.
            part: one of facts.PARTS. What is unsure is no part of the mask either.
            confidence: of the teacher.
            teacher: its model id.
            box: left, top, right and bottom in pixels, for an object without pixels.
        """
        if (
            not name
            or len(self.facts) >= UNLABELLED
            or (self.wanted and part != 'background' and name not in self.wanted)
        ):
            return
        height, width = self.mask.shape
        if where is not None and box[2] == 0:
            rows, columns = np.flatnonzero(where.any(1)), np.flatnonzero(where.any(0))
            box = int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
        left, top, right, bottom = box
        number, across = len(self.facts), (left + right) / 2 / width
        share, colour, place, distance = (right - left) * (bottom - top) / self.mask.size, '', '', float('nan')
        if where is not None:
            columns = where.sum(0)
            share = columns.sum() / where.size
            across = (columns @ np.arange(width) / columns.sum() + 0.5) / width
            if part != 'background':
                distance, place = self.distance(where), self._place(box)
                colour = colour_of(self.frame.rgb[where])
            if part != 'unsure':
                self.mask[where] = number
        self.facts.append(
            ObjectFact(
                0, number, name, part, float(np.clip(confidence, 0, 1)), teacher,
                left / width, top / height, right / width, bottom / height,
                float(across), float(share), distance, colour, place,
            )
        )  # fmt: skip

    def _place(self, box: tuple[int, int, int, int]) -> str:
        """Return the surface right below a box, 'on the table'; '' where most of the strip there is none of them."""
        left, _, right, bottom = box
        height = self.mask.shape[0]
        strip = self.mask[bottom : min(bottom + max(height // 30, 2), height), left:right]
        if not strip.size:
            return ''
        for place, surface in SURFACES.items():
            word = {'top': 'counter'}.get(surface, surface)
            same = [one.number for one in self.facts if one.name == word and one.part != 'unsure']
            # The student's own guesses place nothing.
            taught = [n for n in same if not self.facts[n].teacher.endswith(ITSELF)]
            if np.isin(strip, taught).mean() >= COLOURED:
                return place
        return ''


def softened(depth: np.ndarray | None) -> np.ndarray | None:
    """Return depth (H, W) in metres; what shards cannot hold, 0 m and less and above 65 m, becomes unknown."""
    if depth is None:
        return None
    return np.where((depth > 0) & (depth < 65), depth, np.float32(np.nan)).astype(np.float32)
