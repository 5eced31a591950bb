"""Questions about one bag: read it from beginning to end, then answer from memory, its last frame, or no frame.

    part, times, strip = examine(engine, EqaTask(), Path('kitchens/20000'), questions)

A part holds the result, ready for JSON and without any time of this machine; times are stored separately. The same bag
with the same settings gives the same part.
"""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from m3et_ros.data.bags.reader import BagReader
from m3et_ros.data.datasets.openeqa import EqaQuestion
from m3et_ros.data.errors import InputError
from m3et_ros.evaluation.batches import rounded
from m3et_ros.evaluation.tasks.bag_pass import STRIP, BagPass, jpeg, topics_of
from m3et_ros.runtime.engine import Engine
from m3et_ros.runtime.session import Session, checked_question
from m3et_ros.runtime.view import View

WORDS = 8
"""Most word pieces of a written answer (docs/papers.md 2.3)."""

QUALITY = 85
"""JPEG quality of the pictures for a report."""


@dataclass(frozen=True)
class EqaTask:
    """Settings of the task; see jobs.BagTask.

    Raises:
        ValueError: a setting is out of its range.
    """

    SCOPES: ClassVar[tuple[str, ...]] = ('episode', 'frame', 'blind')
    version: ClassVar[int] = 3

    # One of SCOPES: answer from the memory of the whole bag, from its last frame, or without images.
    scope: str = 'episode'
    # True lets the text decoder write the answers; otherwise the candidates are ranked.
    write: bool = False
    # n for only every n-th colour image, at least 1.
    every: int = 1
    # Capacity of a memory of frames, at least 2.
    memory_frames: int = 8
    # Prefix of the camera's topics, such as '/camera/camera'; None finds the camera.
    camera: str | None = None
    # Topic in the bag -> its name here.
    remaps: dict[str, str] = field(default_factory=dict)
    # True answers from a sample of frames even if the model has a learnt memory.
    comb: bool = False
    # Threads of each process; other numbers of threads may change the last digit of a result.
    threads: int = 1

    def __post_init__(self):
        if self.scope not in self.SCOPES:
            raise ValueError(f'scope is {self.scope!r}; give one of {", ".join(self.SCOPES)}')
        for name, least in (('every', 1), ('memory_frames', 2), ('threads', 1)):
            if getattr(self, name) < least:
                raise ValueError(f'{name} is {getattr(self, name)}; give {least} or more')

    def settings(self) -> dict[str, Any]:
        """Return the settings for metrics.json."""
        return asdict(self)

    def examine(
        self, engine: Engine, bag: Path, questions: Sequence[EqaQuestion]
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, bytes]]:
        """Examine a bag as a job: its part, its times, and a strip of frames as JPEG; see `examine`."""
        part, times, strip = examine(engine, self, bag, questions)
        return part, times, {'jpg': jpeg(strip, QUALITY)}


def examine(
    engine: Engine, task: EqaTask, bag: Path, questions: Sequence[EqaQuestion]
) -> tuple[dict[str, Any], dict[str, Any], np.ndarray]:
    """Read a bag and answer the questions about it.

    Args:
        engine: the model; the caller sets the number of threads.
        task: settings.
        bag: rosbag2 folder, .mcap or .db3 file.
        questions: questions about this bag.

    Returns:
        The part, with answers in the order of the questions; times in milliseconds; frames side by side (H, W, 3)
        uint8 for a report.

    Raises:
        InputError: nothing of the bag can be used.
    """
    start = time.perf_counter()
    session = Session(engine, memory_frames=task.memory_frames, sample_frames=task.comb)
    session.reset()
    encode_ms: list[float] = []
    with BagReader(bag) as reader:
        bag_pass = BagPass(reader, topics_of(reader, task.camera, task.remaps), task.every)
        newest = None
        for frame in bag_pass:
            # A frame that the memory would not use need not be encoded.
            if task.scope == 'episode' and session.memory.due(frame.stamp_ns):
                encode_ms.append(1e3 * session.observe(frame).latency_s)
            newest = frame
    bag_pass.require_frames(bag)
    if task.scope == 'frame':
        encode_ms.append(1e3 * session.observe(newest).latency_s)
    views = [] if task.scope == 'blind' else [_encoded(engine, view) for view in session.views(task.scope)]
    answers: list[dict[str, Any]] = []
    answer_ms: list[float] = []
    for question in questions:
        answer, took_ms = answered(engine, session, task, question, views)
        answers.append(answer)
        answer_ms += took_ms
    times = {'encode_ms': encode_ms, 'answer_ms': answer_ms, 'wall_s': time.perf_counter() - start}
    strip = np.concatenate(bag_pass.strip[:: max(1, len(bag_pass.strip) // STRIP)][:STRIP], 1)
    return bag_pass.part(bag, answers), times, strip


def answered(
    engine: Engine, session: Session, task: EqaTask, question: EqaQuestion, views: list[View]
) -> tuple[dict[str, Any], list[float]]:
    """Ask one question.

    Returns:
        The answer for the part, and its time in milliseconds as a list, which is empty where the question cannot be
        asked; the answer then contains the reason.
    """
    start = time.perf_counter()
    try:
        text = checked_question(question.question, parameter='')
    except InputError as error:
        return unanswered(question, str(error)), []
    if task.scope == 'blind':
        answer = {'question_id': question.question_id, **_answer_blind(engine, text, write=task.write)}
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
    """Return the answer of a part to a question that could not be answered, with the reason."""
    return {'question_id': question.question_id, 'answer': None, 'trouble': trouble}


def _encoded(engine: Engine, view: Any) -> Any:
    """Return a view with its image encoding, so that it is encoded once instead of for every question."""
    if isinstance(view, View) and view.image_encoding is None:
        return engine.encode(view.frame)
    return view


def _answer_blind(engine: Engine, text: str, *, write: bool) -> dict[str, Any]:
    """Answer a question without any image."""
    model, tokenizer = engine.checkpoint.model, engine.checkpoint.tokenizer
    with torch.inference_mode():
        ids, mask = tokenizer.encode([text], engine.config.text_length)
        encoded = model.add_text(None, ids.to(engine.device), mask.to(engine.device))
        if write:
            steps = list(model.generate(encoded, bos=tokenizer.cls, eos=tokenizer.sep, max_tokens=WORDS))
            answer = tokenizer.decode([int(token[0]) for token, _ in steps])
            confidence = float(np.prod([float(probability[0]) for _, probability in steps]))
        else:
            best = model.answer_logits(encoded).float().softmax(-1)[0].max(-1)
            answer, confidence = engine.labels.answers[int(best.indices)], float(best.values)
    return {'answer': answer or None, 'confidence': rounded(confidence), 'frames_used': 0}
