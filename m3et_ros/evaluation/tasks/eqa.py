"""One bag and its questions: watched from beginning to end, asked at the end. Same bag, same settings, same answers.

    part, times = examine(engine, task, Path('kitchens/20000'), questions)

A part is what came out, ready for JSON and without any time of this machine; times are kept apart from it.
"""

import hashlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from m3et_ros.data.bags.frames import frames
from m3et_ros.data.bags.reader import COMPRESSED_IMAGE, IMAGE, SUFFIXES, BagReader
from m3et_ros.data.bags.topics import CameraTopics, find_camera
from m3et_ros.data.datasets.openeqa import EqaQuestion, episode_name
from m3et_ros.data.errors import InputError
from m3et_ros.data.frame import Frame
from m3et_ros.evaluation.batches import rounded
from m3et_ros.runtime.engine import Engine, View
from m3et_ros.runtime.session import Session, checked_question

SCOPES = ('episode', 'frame', 'moment', 'blind')
"""What a question rests on: the memory of the whole bag, its last frame alone, the frame of the question's own time
(vqa_bag), or nothing at all."""

VERSION = 3
"""Of what stands in a part; another version is examined again."""

LONGEST_QUESTION = 2000
WORDS = 8
STRIP, STRIP_HEIGHT = 4, 96
"""Frames of a bag that are kept to be looked at, and their height in pixels."""

MISSED = 1.75
"""From so many usual steps on, frames are missing between two others."""

RGB, DEPTH = 'color/image_raw', 'aligned_depth_to_color/image_raw'
"""Topics below the prefix of a camera, as m3et replay has them."""


@dataclass(frozen=True)
class EqaTask:
    """How bags are examined.

    Raises:
        ValueError: a setting is out of its range.
    """

    # One of SCOPES.
    scope: str = 'episode'
    # Whether the text decoder writes the answers; otherwise the candidates are ranked.
    write: bool = False
    # n for only every n-th colour image, at least 1.
    every: int = 1
    # Capacity of the memory, at least 2.
    memory_frames: int = 8
    # Prefix of the camera's topics, such as '/camera/camera'; None finds the camera (bag_topics.find_camera).
    camera: str | None = None
    # Topic in the bag -> what it is called here.
    remaps: dict[str, str] = field(default_factory=dict)
    # Whether the episode is answered for by these few frames even where the model has a memory of all.
    comb: bool = False
    # Threads of each process; results may differ in the last digit between numbers of threads.
    threads: int = 1

    def __post_init__(self):
        if self.scope not in SCOPES:
            raise ValueError(f'scope is {self.scope!r}; give one of {", ".join(SCOPES)}')
        for name, least in (('every', 1), ('memory_frames', 2), ('threads', 1)):
            if getattr(self, name) < least:
                raise ValueError(f'{name} is {getattr(self, name)}; give {least} or more')

    def settings(self) -> dict[str, Any]:
        """What metrics.json says of it."""
        return asdict(self)


def bag_files(bag: Path) -> dict[str, str]:
    """Name to SHA-256 of the files of a bag.

    Raises:
        InputError: 'bag_missing' where it has none.
    """
    files = (
        sorted(path for path in bag.iterdir() if path.suffix in SUFFIXES or path.name == 'metadata.yaml')
        if bag.is_dir()
        else [bag]
    )
    digests = {}
    for path in files:
        try:
            with path.open('rb') as file:
                digests[path.name] = hashlib.file_digest(file, 'sha256').hexdigest()
        except OSError as error:
            raise InputError(
                'bag_missing', f'{path} cannot be read ({error.strerror}); give a rosbag2 folder, .mcap or .db3 file'
            ) from error
    return digests


def topics_of(reader: BagReader, task: EqaTask) -> CameraTopics:
    """The topics that are read.

    Raises:
        InputError: 'bag_topic' or 'bag_type' where there are none; the sentence lists what the bag has.
    """
    if task.camera is None and not task.remaps:
        return find_camera(reader)
    prefix = '/' + (task.camera or 'camera/camera').strip('/')
    images = {
        task.remaps.get(name, name): name
        for name, topic in reader.topics.items()
        if topic.type in (IMAGE, COMPRESSED_IMAGE)
    }
    rgb = images.get(f'{prefix}/{RGB}') or images.get(f'{prefix}/{RGB}/compressed')
    depth = images.get(f'{prefix}/{DEPTH}') or images.get(f'{prefix}/{DEPTH}/compressedDepth')
    if rgb is None:
        has = ', '.join(f'{name} ({topic.type})' for name, topic in reader.topics.items())
        raise InputError(
            'bag_topic',
            f'{reader.path} has no colour images on {prefix}/{RGB} or {prefix}/{RGB}/'
            f'compressed; it has {has or "no topics"}: give --camera, or --remap one of them',
        )
    return CameraTopics(rgb, depth)


class BagPass:
    """The frames of a bag one after the other, and what is to be told about them.

    Args:
        reader: of the bag.
        camera: the topics that are read.
        every: n for only every n-th colour image.

    Attributes:
        frames: how many have come so far.
        stamps: of the first of them, and of the one that came last, in ns.
        newest_ns: the highest stamp; that of the last unless the clock has jumped back.
        strip: some of them (STRIP_HEIGHT, W, 3) uint8, evenly apart.
        troubles: sentences; whole only after the last frame.
    """

    def __init__(self, reader: BagReader, camera: CameraTopics, every: int):
        self.frames = self.spoilt = self.back = self.alone = 0
        self.stamps: tuple[int, int] = (0, 0)
        self.newest_ns = 0
        self.steps: list[int] = []
        self.troubles: list[str] = []
        self.strip: list[np.ndarray] = []
        self._stride, self._spoiled = 1, None
        self._depth = camera.depth
        self._frames = frames(reader, rgb_topic=camera.rgb, depth_topic=camera.depth, every=every, spoiled=self._spoil)

    def _spoil(self, error: InputError) -> None:
        self.spoilt, self._spoiled = self.spoilt + 1, error

    def __iter__(self) -> Iterator[Frame]:
        try:
            for frame in self._frames:
                self._note(frame)
                yield frame
        except InputError as error:  # what was readable has come
            self.troubles.append(f'{error}; the {self.frames} frames before that are used')
        if self.spoilt:
            self.troubles.append(
                f'{self.spoilt} frames cannot be decoded and are left out, the last because {self._spoiled}'
            )
        if self.back:
            self.troubles.append(f'{self.back} frames are older than the one before: the clock jumped back')
        missing, usual = self._missing()
        if missing:
            self.troubles.append(
                f'about {missing} frames are missing: one comes every {usual / 1e9:.3f} s, and the '
                f'longest gap is {max(self.steps) / 1e9:.3f} s'
            )
        if self.alone and self.alone < self.frames:
            self.troubles.append(f'{self.alone} of {self.frames} frames have no depth within 20 ms of their colours')

    def _missing(self) -> tuple[int, float]:
        """How many frames a steady camera would have sent besides, and its usual step in nanoseconds."""
        steps = np.array([step for step in self.steps if step > 0])
        usual = float(np.median(steps)) if steps.size else 0.0
        if not usual:
            return 0, usual
        wide = steps[steps >= MISSED * usual]
        return int((wide / usual).round().sum()) - len(wide), usual

    def _note(self, frame: Frame) -> None:
        first, last = self.stamps if self.frames else (frame.stamp_ns, frame.stamp_ns)
        self.back += frame.stamp_ns < last
        if self.frames:
            self.steps.append(frame.stamp_ns - last)
        self.stamps, self.newest_ns = (first, frame.stamp_ns), max(self.newest_ns, frame.stamp_ns)
        self.alone += self._depth is not None and frame.depth is None
        if self.frames % self._stride == 0:
            height, width = frame.rgb.shape[:2]
            self.strip.append(small(frame.rgb, max(1, round(width * STRIP_HEIGHT / height))))
            if len(self.strip) == 2 * STRIP:
                self.strip, self._stride = self.strip[::2], 2 * self._stride
        self.frames += 1

    def part(self, bag: Path, camera: CameraTopics, answers: list[dict]) -> dict[str, Any]:
        """What was watched and answered, ready for JSON."""
        first, last = self.stamps
        return {
            'bag': episode_name(bag),
            'camera': {'rgb': camera.rgb, 'depth': camera.depth},
            'frames': self.frames,
            'seconds': rounded(max(0, last - first) / 1e9),
            'first_ns': first,
            'last_ns': last,
            'spoilt_frames': self.spoilt,
            'longest_gap_s': rounded(max((0, *self.steps)) / 1e9),
            'troubles': [*filter(None, [camera.told.replace('learnt', 'seen')]), *self.troubles],
            'answers': answers,
        }

    def refuse_nothing(self, bag: Path, camera: CameraTopics) -> None:
        """Raise InputError 'bag_format' where no frame has come."""
        if not self.frames:
            raise InputError(
                'bag_format',
                f'{bag} has no readable frame on {camera.rgb}'
                + (f': {"; ".join(self.troubles)}' if self.troubles else '; record it again'),
            )


def small(rgb: np.ndarray, width: int, height: int = STRIP_HEIGHT) -> np.ndarray:
    """A picture (H, W, 3) uint8 in small, (height, width, 3)."""
    return cv2.resize(rgb, (width, height), interpolation=cv2.INTER_AREA)


def examine(engine: Engine, task: EqaTask, bag: Path, questions: Sequence[EqaQuestion]) -> tuple[dict, dict, Any]:
    """Progress a bag and answer its questions.

    Args:
        engine: the model; threads are the caller's affair.
        task: how.
        bag: rosbag2 folder, .mcap or .db3 file.
        questions: about this bag.

    Returns:
        The part, with answers in the order of the questions; times in milliseconds; frames side by side (H, W, 3)
        uint8 to be looked at, or None.

    Raises:
        InputError: nothing of the bag can be used.
    """
    start = time.perf_counter()
    session = Session(engine, memory_frames=task.memory_frames, comb=task.comb)
    session.reset()
    encode_ms: list[float] = []
    with BagReader(bag) as reader:
        camera = topics_of(reader, task)
        look, newest = BagPass(reader, camera, task.every), None
        for frame in look:
            # What the memory would not take in need not be looked at.
            if task.scope == 'episode' and (not session.remembers or engine.memory.due(frame.stamp_ns)):
                encode_ms.append(1e3 * session.observe(frame).latency_s)
            newest = frame
    look.refuse_nothing(bag, camera)
    if task.scope == 'frame':
        encode_ms.append(1e3 * session.observe(newest).latency_s)
    answers, answer_ms = _answers(engine, session, task, questions)
    times = {'encode_ms': encode_ms, 'answer_ms': answer_ms, 'wall_s': time.perf_counter() - start}
    strip = np.concatenate(look.strip[:: max(1, len(look.strip) // STRIP)][:STRIP], 1)
    return look.part(bag, camera, answers), times, strip


def _answers(
    engine: Engine, session: Session, task: EqaTask, questions: Sequence[EqaQuestion]
) -> tuple[list[dict], list[float]]:
    """Ask everything; a question that cannot be asked stays unanswered, and says why."""
    views = [] if task.scope == 'blind' else [_seen(engine, view) for view in session.views(task.scope)]
    answers, answer_ms = [], []
    for question in questions:
        answer, took_ms = answered(engine, session, task, question, views)
        answers.append(answer)
        answer_ms += took_ms
    return answers, answer_ms


def answered(
    engine: Engine, session: Session, task: EqaTask, question: EqaQuestion, views: list[View]
) -> tuple[dict[str, Any], list[float]]:
    """Ask one question; the answer for the part, and its time in milliseconds, of which there is none where the
    question cannot be asked.
    """
    start = time.perf_counter()
    try:
        text = checked_question(question.question, LONGEST_QUESTION)
    except InputError as error:
        return unanswered(question, str(error)), []
    if task.scope == 'blind':
        answer = {'question_id': question.question_id, **_guess(engine, text, write=task.write)}
    else:
        reply = session.ask(
            text,
            views,
            scope='episode' if task.scope == 'episode' else 'frame',
            top_k=1,
            mode='generate' if task.write else 'classify',
            max_tokens=WORDS,
        )
        answer = {
            'question_id': question.question_id,
            'answer': reply.text or None,
            'confidence': rounded(reply.confidence),
            'frames_used': reply.frames_used,
            'first_ns': reply.first_ns,
            'last_ns': reply.last_ns,
        }
    return answer, [1e3 * (time.perf_counter() - start)]


def unanswered(question: EqaQuestion, trouble: str) -> dict[str, Any]:
    """What a part says of a question that got no answer, and why."""
    return {'question_id': question.question_id, 'answer': None, 'trouble': trouble}


def _seen(engine: Engine, view: Any) -> Any:
    """A view with what the encoder keeps of it, so that it is looked at once rather than for every question."""
    forgotten = isinstance(view, View) and view.sight is None
    return engine.encode(view.frame) if forgotten else view


def _guess(engine: Engine, text: str, *, write: bool) -> dict[str, Any]:
    """What the model says to a question without any picture."""
    checkpoint, model = engine.checkpoint, engine.checkpoint.model
    with torch.inference_mode():
        ids, mask = checkpoint.tokenizer.encode([text], engine.config.text_length)
        encoded = model.add_text(None, ids.to(engine.device), mask.to(engine.device))
        if write:
            tokenizer = checkpoint.tokenizer
            steps = list(model.generate(encoded, bos=tokenizer.cls, eos=tokenizer.sep, max_tokens=WORDS))
            said = tokenizer.decode([int(token[0]) for token, _ in steps])
            sure = float(np.prod([float(probability[0]) for _, probability in steps]))
        else:
            best = model.answer_logits(encoded).float().softmax(-1)[0].max(-1)
            said, sure = engine.labels.answers[int(best.indices)], float(best.values)
    return {'answer': said or None, 'confidence': rounded(sure), 'frames_used': 0}
