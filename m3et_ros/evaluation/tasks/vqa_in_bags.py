"""One bag and questions about single frames of it: each asked frame is looked at once, when it comes by.

    part, times, sheet = examine_moments(engine, EqaTask('moment'), Path('kitchens/20000'), questions)

A question is about the newest frame at or before its time, which counts from the first colour image of the bag; without
a time it is about the last frame. The part is that of eqa_bag.examine, with 'asked_frames' and where each of them
stands on the sheet of small pictures.
"""

import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from m3et_ros.data.bags.reader import BagReader, decode
from m3et_ros.data.bags.topics import CameraTopics
from m3et_ros.data.datasets.openeqa import EqaQuestion
from m3et_ros.data.errors import InputError
from m3et_ros.data.frame import Frame
from m3et_ros.evaluation.batches import rounded
from m3et_ros.evaluation.tasks.eqa import BagPass, EqaTask, answered, small, topics_of, unanswered
from m3et_ros.runtime.engine import Engine
from m3et_ros.runtime.session import Session

COLUMNS, MOST_PICTURES = 16, 2048
"""Small pictures side by side, and how many are kept at most."""

LONGEST_S = 1e9
"""Later than this is as good as never: 30 years."""

HEIGHT, WIDEST = 144, 576
"""Pixels of a small picture."""


def examine_moments(
    engine: Engine, task: EqaTask, bag: Path, questions: Sequence[EqaQuestion]
) -> tuple[dict, dict, Any]:
    """Answer questions about single frames of a bag, reading it once.

    Args:
        engine: the model; threads are the caller's affair.
        task: how; every frame is read, whatever its `every`.
        bag: rosbag2 folder, .mcap or .db3 file.
        questions: about this bag.

    Returns:
        The part, with answers in the order of the questions; times in milliseconds; small pictures of the asked frames
        (H, W, 3) uint8, or None where no frame was asked about.

    Raises:
        InputError: nothing of the bag can be used.
    """
    start = time.perf_counter()
    asking = _Asking(engine, task, questions)
    with BagReader(bag) as reader:
        camera = topics_of(reader, task)
        begin = _begin(reader, camera)
        look = BagPass(reader, camera, 1)
        for frame, places in _moments(look, begin, [question.time for question in questions]):
            asking.ask(frame, places, begin)
    look.refuse_nothing(bag, camera)
    answers = [
        answer or unanswered(question, _why(question, look, begin))
        for question, answer in zip(questions, asking.answers)
    ]
    part = look.part(bag, camera, answers) | {'asked_frames': len(asking.encode_ms), 'sheet': asking.sheet.layout()}
    times = {'encode_ms': asking.encode_ms, 'answer_ms': asking.answer_ms, 'wall_s': time.perf_counter() - start}
    return part, times, asking.sheet.picture()


class _Asking:
    """Puts to the model what is asked about one frame after the other."""

    def __init__(self, engine: Engine, task: EqaTask, questions: Sequence[EqaQuestion]):
        self.answers: list[dict | None] = [None] * len(questions)
        self.encode_ms: list[float] = []
        self.answer_ms: list[float] = []
        self.sheet = _Sheet()
        self._engine, self._task, self._questions = engine, task, questions
        self._session = Session(engine)

    def ask(self, frame: Frame, places: Sequence[int], begin: int) -> None:
        """Look at a frame and answer the questions in these places."""
        view = self._engine.encode(frame)
        self.encode_ms.append(1e3 * view.latency_s)
        where = {'frame_s': rounded((frame.stamp_ns - begin) / 1e9), 'picture': self.sheet.add(frame.rgb)}
        for place in places:
            answer, took_ms = answered(self._engine, self._session, self._task, self._questions[place], [view])
            self.answers[place] = answer | where
            self.answer_ms += took_ms


def _begin(reader: BagReader, camera: CameraTopics) -> int:
    """Stamp of the first colour image, be it readable or not, in ns; 0 where none can be read at all."""
    try:
        stamp = decode(next(reader.messages([camera.rgb]))).header.stamp
    except (InputError, StopIteration):
        return 0
    return stamp.sec * 10**9 + stamp.nanosec


def _moments(look: BagPass, begin: int, times: Sequence[float | None]) -> Iterator[tuple[Frame, list[int]]]:
    """Each frame that is asked about, in the order of the bag, with the places of its questions.

    It is known once a newer one comes by. Where the clock jumps back, what comes after counts as old.
    """
    waiting = deque(
        sorted((begin + round(1e9 * min(at, LONGEST_S)), place) for place, at in enumerate(times) if at is not None)
    )
    newest = last = None
    for frame in look:
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


def _why(question: EqaQuestion, look: BagPass, begin: int) -> str:
    """Why there is no frame for a question."""
    readable = [(stamp - begin) / 1e9 for stamp in (look.stamps[0], look.newest_ns)]
    return (
        f"'time' is {question.time:g} s, and the readable colour images of the bag go from {readable[0]:.3f} to "
        f'{readable[1]:.3f} s after the first; give a time within'
    )


@dataclass
class _Sheet:
    """Small pictures of one size in rows of so many columns."""

    pictures: list[np.ndarray] = field(default_factory=list)

    def add(self, rgb: np.ndarray) -> int | None:
        """Put a picture on it; its place, counted row by row, or None where the sheet is full."""
        if len(self.pictures) == MOST_PICTURES:
            return None
        height, width = rgb.shape[:2]
        own = min(max(1, round(width * HEIGHT / height)), WIDEST)
        self.pictures.append(small(rgb, self.pictures[0].shape[1] if self.pictures else own, HEIGHT))
        return len(self.pictures) - 1

    def layout(self) -> dict[str, int] | None:
        """Pixels of a small picture, and how many stand side by side."""
        if not self.pictures:
            return None
        width = self.pictures[0].shape[1]
        return {'width': width, 'height': HEIGHT, 'columns': min(COLUMNS, len(self.pictures))}

    def picture(self) -> np.ndarray | None:
        """The sheet (H, W, 3)."""
        if not self.pictures:
            return None
        columns = self.layout()['columns']
        blank = [np.zeros_like(self.pictures[0])] * (-len(self.pictures) % columns)
        tiles = [*self.pictures, *blank]
        return np.concatenate([np.concatenate(tiles[i : i + columns], 1) for i in range(0, len(tiles), columns)])
