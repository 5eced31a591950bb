"""Questions about single frames of one bag; each asked frame is encoded once, while the bag is read.

    part, times, sheet = examine_moments(engine, VqaTask(), Path('kitchens/20000'), questions)

A question is about the newest frame at or before its time, which counts from the first colour image of the bag. Without
a time it is about the last frame. The part is that of eqa.examine, with 'asked_frames' and the layout of the sheet of
small pictures.
"""

import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from m3et_ros.data.bags.reader import BagReader, decode
from m3et_ros.data.datasets.openeqa import EqaQuestion
from m3et_ros.data.errors import InputError
from m3et_ros.data.frame import Frame
from m3et_ros.evaluation.batches import rounded
from m3et_ros.evaluation.tasks.bag_pass import BagPass, jpeg, small, topics_of
from m3et_ros.evaluation.tasks.eqa import QUALITY, EqaTask, answered, unanswered
from m3et_ros.runtime.engine import Engine
from m3et_ros.runtime.session import Session

COLUMNS, MOST_PICTURES = 16, 2048
"""Small pictures in a row of the sheet, and the most on a sheet."""

LONGEST_S = 1e9
"""A time is clipped to this, 30 years."""

HEIGHT, WIDEST = 144, 576
"""Height and largest width of a small picture in pixels."""


@dataclass(frozen=True)
class VqaTask(EqaTask):
    """Settings of the task: scope 'moment' answers from the frame of each question's time, 'blind' without images."""

    SCOPES: ClassVar[tuple[str, ...]] = ('moment', 'blind')

    scope: str = 'moment'

    def examine(
        self, engine: Engine, bag: Path, questions: Sequence[EqaQuestion]
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, bytes]]:
        """Examine a bag as a job: its part, its times, and the sheet of asked frames as JPEG."""
        if self.scope == 'blind':
            return super().examine(engine, bag, questions)
        part, times, sheet = examine_moments(engine, self, bag, questions)
        return part, times, {} if sheet is None else {'jpg': jpeg(sheet, QUALITY)}


def examine_moments(
    engine: Any, task: EqaTask, bag: Path, questions: Sequence[EqaQuestion], *, asker: 'MomentAsker | None' = None
) -> tuple[dict[str, Any], dict[str, Any], np.ndarray | None]:
    """Answer questions about single frames of a bag, reading it once.

    Args:
        engine: the model; the caller sets the number of threads.
        task: settings; every frame is read, `every` is ignored.
        bag: rosbag2 folder, .mcap or .db3 file.
        questions: questions about this bag.
        asker: asks another model about the frames; None asks the engine's.

    Returns:
        The part, with answers in the order of the questions; times in milliseconds; small pictures of the asked frames
        (H, W, 3) uint8, or None where no frame was asked about.

    Raises:
        InputError: nothing of the bag can be used.
    """
    start = time.perf_counter()
    if asker is None:
        asker = _EngineAsker(engine, task, questions)
    with BagReader(bag) as reader:
        camera = topics_of(reader, task.camera, task.remaps)
        begin = _begin(reader, camera.rgb)
        bag_pass = BagPass(reader, camera)
        for frame, places in _moments(bag_pass, begin, [question.time for question in questions]):
            asker.ask(frame, places, begin)
    bag_pass.require_frames(bag)
    answers = [
        answer or unanswered(question, _no_frame(question, bag_pass, begin))
        for question, answer in zip(questions, asker.answers, strict=True)
    ]
    part = bag_pass.part(bag, answers) | {'asked_frames': asker.asked_frames, 'sheet': asker.sheet.layout()}
    times = {'encode_ms': asker.encode_ms, 'answer_ms': asker.answer_ms, 'wall_s': time.perf_counter() - start}
    return part, times, asker.sheet.picture()


class MomentAsker:
    """Ask a model about one frame after the other."""

    def __init__(self, engine: Any, task: Any, questions: Sequence[EqaQuestion]):
        self.answers: list[dict | None] = [None] * len(questions)
        self.encode_ms: list[float] = []
        self.answer_ms: list[float] = []
        self.asked_frames = 0
        self.sheet = _Sheet()
        self.engine, self.task, self.questions = engine, task, questions

    def answers_about(self, frame: Frame, places: Sequence[int]) -> list[tuple[dict[str, Any], list[float]]]:
        """Return the answers to the questions at these places with their times in milliseconds."""
        raise NotImplementedError

    def ask(self, frame: Frame, places: Sequence[int], begin: int) -> None:
        """Answer the questions at these places about a frame."""
        where = {'frame_s': rounded((frame.stamp_ns - begin) / 1e9), 'picture': self.sheet.add(frame.rgb)}
        self.asked_frames += 1
        for place, (answer, took_ms) in zip(places, self.answers_about(frame, places), strict=True):
            self.answers[place] = answer | where
            self.answer_ms += took_ms


class _EngineAsker(MomentAsker):
    """Ask M3ET, which encodes each frame once."""

    def __init__(self, engine: Engine, task: EqaTask, questions: Sequence[EqaQuestion]):
        super().__init__(engine, task, questions)
        self._session = Session(engine)

    def answers_about(self, frame: Frame, places: Sequence[int]) -> list[tuple[dict[str, Any], list[float]]]:
        """Encode a frame and answer the questions at these places."""
        view = self.engine.encode(frame)
        self.encode_ms.append(1e3 * view.latency_s)
        return [answered(self.engine, self._session, self.task, self.questions[place], [view]) for place in places]


def _begin(reader: BagReader, topic: str) -> int:
    """Return the stamp of the first colour image in ns, even if its pixels cannot be decoded; 0 without any."""
    try:
        stamp = decode(next(reader.messages([topic]))).header.stamp
    except (InputError, StopIteration):
        return 0
    return stamp.sec * 10**9 + stamp.nanosec


def _moments(bag_pass: BagPass, begin: int, times: Sequence[float | None]) -> Iterator[tuple[Frame, list[int]]]:
    """Yield each frame that is asked about, in the order of the bag, with the places of its questions.

    A frame is yielded once a newer one has come. Where the clock jumps back, the frames that follow count as old.
    """
    waiting = deque(
        sorted((begin + round(1e9 * min(at, LONGEST_S)), place) for place, at in enumerate(times) if at is not None)
    )
    newest = last = None
    for frame in bag_pass:
        places = []
        while waiting and waiting[0][0] < frame.stamp_ns:
            places.append(waiting.popleft()[1])
        if newest is not None and places:
            yield newest, places
        if newest is None or frame.stamp_ns >= newest.stamp_ns:
            newest = frame
        last = frame
    at_end = [place for due, place in waiting if newest is not None and due == newest.stamp_ns]
    final = [place for place, at in enumerate(times) if at is None]
    if last is newest:
        at_end, final = [], at_end + final
    for frame, places in ((newest, at_end), (last, final)):
        if places and frame is not None:
            yield frame, places


def _no_frame(question: EqaQuestion, bag_pass: BagPass, begin: int) -> str:
    """Return the reason why there is no frame for a question."""
    first_s, newest_s = ((stamp - begin) / 1e9 for stamp in (bag_pass.stamps[0], bag_pass.newest_ns))
    return (
        f"'time' is {question.time:g} s, and the readable colour images of the bag go from {first_s:.3f} to "
        f'{newest_s:.3f} s after the first; give a time within'
    )


@dataclass
class _Sheet:
    """Small pictures of one size in rows."""

    pictures: list[np.ndarray] = field(default_factory=list)

    def add(self, rgb: np.ndarray) -> int | None:
        """Add a picture; return its place, counted row by row, or None where the sheet is full."""
        if len(self.pictures) == MOST_PICTURES:
            return None
        height, width = rgb.shape[:2]
        own_width = min(max(1, round(width * HEIGHT / height)), WIDEST)
        self.pictures.append(small(rgb, self.pictures[0].shape[1] if self.pictures else own_width, HEIGHT))
        return len(self.pictures) - 1

    def layout(self) -> dict[str, int] | None:
        """Return the size of a small picture in pixels and the number of columns."""
        if not self.pictures:
            return None
        width = self.pictures[0].shape[1]
        return {'width': width, 'height': HEIGHT, 'columns': min(COLUMNS, len(self.pictures))}

    def picture(self) -> np.ndarray | None:
        """Return the sheet (H, W, 3)."""
        if not self.pictures:
            return None
        columns = min(COLUMNS, len(self.pictures))
        blank = [np.zeros_like(self.pictures[0])] * (-len(self.pictures) % columns)
        tiles = [*self.pictures, *blank]
        return np.concatenate([np.concatenate(tiles[i : i + columns], 1) for i in range(0, len(tiles), columns)])
