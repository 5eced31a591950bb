"""Teach a model a place: label, extend, train both stages in the minutes that there are, measure before and after.

The folder holds the data set (labels), the runs of the stages (pretrain, vqa), teach.json with the plan and the time
spent, and at the end the checkpoint, table.json and a contact sheet. The same call continues after a stop.
"""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch.utils.data import Subset

from m3et_ros.data.calibration import Calibration
from m3et_ros.data.checkpoints.m3et import Checkpoint, save_checkpoint
from m3et_ros.data.datasets.class_map import read_json
from m3et_ros.data.datasets.sources import Sources
from m3et_ros.data.errors import InputError
from m3et_ros.data.files import refuse_unwritable, write_atomically
from m3et_ros.data.kitchen.cache.dataset import KitchenSamples
from m3et_ros.data.labelled.samples import HOLED, LabelledSamples
from m3et_ros.data.noise import Noise
from m3et_ros.data.progress import Progress, no_progress
from m3et_ros.evaluation.tasks.calibrate import calibrate
from m3et_ros.models.m3et.model import M3ET
from m3et_ros.training.m3et import run as run_stage
from m3et_ros.training.recipe import Recipe
from m3et_ros.training.run_state import LogEntry, Outcome, TrainingSession, never, no_report
from m3et_ros.training.teach.extend import extended, extended_taught
from m3et_ros.training.teach.label import LabelOptions, label
from m3et_ros.training.teach.measure import Exam, measure, open_exam
from m3et_ros.training.teach.plan import EACH, GRACE_S, planned, recipes, seconds_per_step, split_minutes
from m3et_ros.training.teach.teachers import Teachers

LABELS, CHECKPOINT, TABLE, STATE, BEFORE = 'labels', 'checkpoint', 'table.json', 'teach.json', 'before.json'
KEPT_QUESTIONS = 300
"""Questions in kept kitchens on which the loss of old knowledge is measured."""
KEPT_FRAMES = 0.1
"""Share of the frames of a kept cache that is not trained on but measured."""
AFTER = 1.3
"""Time of the measurement after, as a multiple of that before: the model is calibrated, too."""


@dataclass(frozen=True)
class Lesson:
    """All that decides what is taught."""

    bags: tuple[Path, ...]
    teachers: Teachers
    # Minutes of the whole command.
    minutes: float
    every: int = 1
    # Cache of training kitchens that is rehearsed; None for none.
    keep: Path | None = None
    seed: int = 0
    # Processes that load samples.
    workers: int = 0
    bf16: bool = False


@dataclass(frozen=True)
class LessonEnd:
    """The end of a session."""

    # The taught model; None where the session was stopped.
    checkpoint: Checkpoint | None
    before: dict[str, Any]
    after: dict[str, Any]
    # Contents of labelled.json.
    contents: dict[str, Any]
    outcomes: dict[str, Outcome]
    # Names and answers that the model did not have.
    new_classes: tuple[str, ...]
    new_answers: tuple[str, ...]
    minutes: float


Report = Callable[[str, LogEntry], None]


class Clock:
    """The time of a lesson over all its sessions, and the plans of its stages, in teach.json."""

    def __init__(self, folder: Path, minutes: float):
        self._path, self._start = folder / STATE, time.monotonic()
        found = read_json(self._path) if self._path.exists() else {}
        self._before = float(found.get('seconds', 0))
        self.plans: dict[str, int] = found.get('plans', {})
        self.limit = 60 * minutes

    @property
    def seconds(self) -> float:
        """Seconds spent so far, earlier sessions included."""
        return self._before + time.monotonic() - self._start

    @property
    def left(self) -> float:
        """Seconds to the end, 0 or more."""
        return max(self.limit - self.seconds, 0.0)

    def save(self) -> None:
        """Write the state."""
        with write_atomically(self._path) as part:
            part.write_text(json.dumps({'schema': 1, 'seconds': round(self.seconds, 1), 'plans': self.plans}))


def teach(
    lesson: Lesson,
    out: Path,
    *,
    report: Report = no_report,
    progress: Progress = no_progress,
    say: Callable[[str], None] = lambda _: None,
    stop: Callable[[], bool] = never,
) -> LessonEnd:
    """Teach a model.

    Args:
        lesson: what is taught.
        out: folder of the run.
        report: receives every log entry; its seconds_left are those to the end of the whole command.
        progress: see data.progress.Progress.
        say: receives sentences for the user.
        stop: True ends the training after a step, state saved.

    Raises:
        InputError: 'nothing_to_learn', the recording has neither depth nor a teacher; 'out_unwritable'; and the
            refusals of label, of the caches and of the training.
    """
    student, options = (
        lesson.teachers.student,
        LabelOptions(lesson.teachers.student.model.config.image_size, lesson.every),
    )
    with refuse_unwritable(out, 'give a writable folder with free space'):
        out.mkdir(parents=True, exist_ok=True)
        clock = Clock(out, lesson.minutes)
        contents = label(lesson.bags, out / LABELS, lesson.teachers, options, progress)
        clock.save()
        data, ready = prepared(student, out / LABELS, lesson.seed)
        check_lesson(data, lesson)
        pupil = Pupil(lesson, out, clock, data, ready, say, report, stop)
        exam = open_exam(
            out / LABELS,
            ready.labels.classes,
            ready.labels.answers,
            bags=lesson.bags,
            every=lesson.every,
            kitchen=pupil.kitchen_exam(),
        )
        before, spent = pupil.measured_before(student, exam, progress)
        outcomes = pupil.train(AFTER * spent)
        end: dict[str, Any] = {'before': before, 'contents': contents, 'outcomes': outcomes, **_added(student, ready)}
        if stop():
            clock.save()
            return LessonEnd(None, after={}, minutes=clock.seconds / 60, **end)
        taught = pupil.calibrated()
        after = measure(taught, exam, progress)
        return LessonEnd(taught, after=after, minutes=clock.seconds / 60, **end)


def _added(student: Checkpoint, ready: Checkpoint) -> dict[str, tuple[str, ...]]:
    return {
        'new_classes': ready.labels.classes[len(student.labels.classes) :],
        'new_answers': ready.labels.answers[len(student.labels.answers) :],
    }


def prepared(student: Checkpoint, folder: Path, seed: int) -> tuple[LabelledSamples, Checkpoint]:
    """Return the training split of a labelled recording, and the student extended by its classes and answers."""
    found = LabelledSamples(folder, classes=student.labels.classes)
    ready = extended(student, found.wanted_classes(), found.wanted_answers())
    data = LabelledSamples(
        folder, classes=ready.labels.classes, answers=ready.labels.answers, each=EACH, noise=HOLED, seed=seed
    )
    if not data.has_questions:
        data = LabelledSamples(folder, classes=ready.labels.classes, noise=HOLED, seed=seed)
        return data, ready
    return data, replace(ready, labels=replace(ready.labels, taught=extended_taught(student, data)))


def check_lesson(data: LabelledSamples, lesson: Lesson) -> None:
    """Refuse a recording that nothing can be learnt from."""
    if not data.has_questions and not data.has_depth and not data.contents['masks']:
        raise InputError(
            'nothing_to_learn',
            f'{" and ".join(map(str, lesson.bags))} has no depth, and no teacher labels it; give --detection, '
            '--segmentation, --depth or --questions',
        )


class Pupil:
    """The model while it is taught."""

    def __init__(
        self,
        lesson: Lesson,
        out: Path,
        clock: Clock,
        data: LabelledSamples,
        ready: Checkpoint,
        say: Callable[[str], None],
        report: Report,
        stop: Callable[[], bool],
    ):
        self.lesson, self.out, self.clock, self.data, self.checkpoint = lesson, out, clock, data, ready
        self.say, self._report, self._stop = say, report, stop
        if not data.each:
            say('No teacher asks questions, so the model learns depth and segmentation alone; its answers may change.')

    def _kitchen(self, length: int, *, each: int, exam: bool) -> KitchenSamples:
        """Open the kept cache without its measured frames, or these alone."""
        kitchen = KitchenSamples(
            [self.lesson.keep] if self.lesson.keep is not None else [],
            each=each,
            noise=Noise(),
            length=length,
            seed=self.lesson.seed + 17 * exam,
        )
        frames = kitchen.frames
        border = frames[int((1 - KEPT_FRAMES) * len(frames))]
        kitchen.restrict_to(frames[frames >= border] if exam else frames[frames < border])
        return kitchen

    def kitchen_exam(self) -> KitchenSamples | None:
        """Return the questions on which the loss of old knowledge is measured; None without a cache."""
        return None if self.lesson.keep is None else self._kitchen(KEPT_QUESTIONS, each=1, exam=True)

    def measured_before(self, student: Checkpoint, exam: Exam, progress: Progress) -> tuple[dict[str, Any], float]:
        """Return the measurement of the student, from an earlier session if there was one, and its seconds."""
        path = self.out / BEFORE
        if not path.exists():
            started = time.monotonic()
            found = measure(student, exam, progress)
            with write_atomically(path) as part:
                part.write_text(json.dumps({'schema': 1, 'seconds': time.monotonic() - started, 'found': found}))
        stored = read_json(path)
        return stored['found'], stored['seconds']

    def sources(self) -> Any:
        """Return the training data: the recording, and as many kept kitchens."""
        count = len(self.data)
        if self.lesson.keep is None:
            return self.data
        kitchen = self._kitchen(count, each=max(self.data.each, 1), exam=False)
        return Sources([self.data, kitchen], ['the recording', str(self.lesson.keep)], [self.lesson.keep])

    def train(self, reserved: float) -> dict[str, Outcome]:
        """Train both stages in the time that is left, less `reserved` seconds; return their outcomes."""
        data = self.sources()
        plan = recipes(
            self.checkpoint,
            samples=len(self.data),
            questions=self.data.each > 0,
            masks=bool(self.data.contents['masks']),
        )
        step_s = {
            name: 0.0
            if name in self.clock.plans
            else seconds_per_step(
                recipe,
                self.checkpoint,
                data,
                seed=self.lesson.seed,
                workers=self.lesson.workers,
                bf16=self.lesson.bf16,
                left=self.clock.left,
            )
            for name, recipe in plan.items()
        }
        outcomes: dict[str, Outcome] = {}
        names = list(plan)
        for place, name in enumerate(names):
            left = max(self.clock.left - reserved, 0.0)
            seconds = split_minutes(left, names[place:])[name]
            if name not in self.clock.plans:
                self.clock.plans[name] = planned(plan[name], seconds, step_s[name]).samples
                self.clock.save()
            recipe = replace(plan[name], samples=self.clock.plans[name])
            outcomes[name] = self._stage(name, recipe, data, seconds, left - seconds + reserved)
            self.clock.save()
            if self._stop():
                break
        return outcomes

    def _stage(self, name: str, recipe: Recipe, data: Any, seconds: float, later: float) -> Outcome:
        """Train one stage that is planned for some seconds; `later` are those of all that follows."""

        def report(_: str, entry: LogEntry) -> None:
            self._report(name, replace(entry, seconds_left=round(entry.seconds_left + later, 1)))

        folder = self.out / name
        session = TrainingSession(
            minutes=(seconds + GRACE_S) / 60,
            save_minutes=2.0,
            log_steps=1,
            workers=self.lesson.workers,
            bf16=self.lesson.bf16,
            resume=True,
            report=report,
            stop=self._stop,
        ).of_stage(folder)
        outcome, model, _ = run_stage(recipe, self.checkpoint, data, folder, seed=self.lesson.seed, session=session)
        self.checkpoint = replace(self.checkpoint, model=cast(M3ET, model))
        return outcome

    def calibrated(self) -> Checkpoint:
        """Return the trained model, its confidence and its sense of strange frames fitted to the held-out frames."""
        labels, model = self.checkpoint.labels, self.checkpoint.model.eval()
        taught = replace(self.checkpoint, model=model, trained=True)
        shown = LabelledSamples(self.out / LABELS, classes=labels.classes, noise=HOLED, split='held_out')
        asked = LabelledSamples(
            self.out / LABELS, classes=labels.classes, answers=labels.answers, split='held_out', each=1
        )
        if not asked.has_questions:
            return taught
        with torch.no_grad():
            found = calibrate(taught, Subset(asked, range(len(asked))), shown)
        calibration: Calibration = replace(found, min_confidence=labels.calibration.min_confidence)
        return replace(taught, labels=replace(labels, calibration=calibration))


def save_taught(out: Path, taught: LessonEnd, card: str) -> str:
    """Write the checkpoint and table.json into the folder of a run; return the model id.

    Raises:
        ValueError: the lesson has not come to its end.
    """
    if taught.checkpoint is None:
        raise ValueError('the lesson was stopped; continue it before its model is saved')
    with refuse_unwritable(out, 'give a writable folder with free space'):
        model_id = save_checkpoint(out / CHECKPOINT, taught.checkpoint, card=card)
        document = {'schema': 1, 'model_id': model_id, 'before': taught.before, 'after': taught.after}
        with write_atomically(out / TABLE) as part:
            part.write_text(json.dumps(document, indent=1), encoding='utf-8')
    return model_id
