"""From a cache of kitchens to a talking model: the stages of a variant, one after the other, each in its folder."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from m3et_ros.data.kitchen.labels import corpus
from m3et_ros.data.kitchen.sentences import sentences
from m3et_ros.data.kitchen.talk import TalkViews
from m3et_ros.data.tokenizer import Tokenizer
from m3et_ros.models.emma import EMMA
from m3et_ros.models.matvlm import MaTVLM, spread
from m3et_ros.models.talk import TalkConfig, emma_config, trainable
from m3et_ros.models.visual_language import VisualLanguageModel
from m3et_ros.training.loop import Outcome, Sitting, Trainer
from m3et_ros.training.plan import Plan
from m3et_ros.training.seen import Views
from m3et_ros.training.state import STATE
from m3et_ros.training.talk import Chat, CollateTalk, Connect, Distil, Pupil, Words

VOCABULARY = 1024
"""Most word pieces; the kitchen's sentences have about half as many words."""


def talk_tokenizer() -> Tokenizer:
    """Word pieces of the kitchen's questions, answers and descriptions; always the same."""
    return Tokenizer.train(dict.fromkeys([*corpus(), *sentences()]), vocabulary=VOCABULARY)


class Unfinished(Exception):
    """The minutes are over, or somebody asked to stop; what was done is kept."""


@dataclass(frozen=True)
class Course:
    """What a model is and how it is trained."""

    # Variant and sizes; of matvlm those of the teacher.
    config: TalkConfig
    # The stages; None leaves one out.
    words: Words | None = Words()
    connect: Connect | None = Connect()
    chat: Chat | None = Chat()
    distil: Distil | None = None
    # Share of the attention layers that distil replaces.
    share: float = 0.25
    # EMMA: several layers are read, or the last alone.
    fusion: bool = True
    # EMMA: whether it has a training head at all.
    aligned: bool = True
    # False starts the mixers of distil from random weights instead of attention's, for comparison.
    seeded: bool = True
    # Of weights, order and draws.
    seed: int = 0


class Run:
    """The stages of a course.

    Args:
        course: what and how.
        data: views with their questions.
        views: their visual tokens.
        tokenizer: of the words.
        folder: of the stages.
        sitting: its minutes count for all stages together.
        tell: gets the name of the stage and every line of its log.
        stop: as in Trainer.run.

    Attributes:
        outcomes: where each stage ended, by name.
        taught: the teacher that was trained on the way, if any.
    """

    def __init__(self, course: Course, data: TalkViews, views: Views, tokenizer: Tokenizer, folder: Path, *,
                 sitting: Sitting = Sitting(), tell: Callable[[str, dict], None] = lambda what, entry: None,
                 stop: Callable[[], bool] = lambda: False):
        self.course, self.data, self.folder = course, data, Path(folder)
        self.collate, self.sitting, self.tell, self.stop = CollateTalk(tokenizer, views), sitting, tell, stop
        self.outcomes: dict[str, Outcome] = {}
        self.taught: VisualLanguageModel | None = None
        self._started = time.monotonic()

    def train(self, teacher: VisualLanguageModel | None = None) -> tuple[TalkConfig, VisualLanguageModel]:
        """Go through all stages; what is done already is only read.

        Args:
            teacher: of matvlm, where it was trained before; the stages before distil are then left out.

        Returns:
            The config of the model that came out, and that model.

        Raises:
            Unfinished: go on with sitting.resume.
            InputError, ValueError: as training.loop.Trainer.
        """
        course, model = self.course, teacher
        if model is None:
            model = self.start()
            for place, recipe in enumerate((course.words, course.connect, course.chat)):
                if recipe is not None:
                    trainable(model, language=not isinstance(recipe, Connect))
                    self._stage(place, recipe, model)
        if course.distil is None:
            return course.config, model.eval()
        self.taught = model if teacher is None else None
        student = self.student(model)
        self._stage(3, course.distil, Pupil(student, model))
        return replace(course.config, model=student.config), student.eval()

    def start(self) -> VisualLanguageModel:
        """The model with random weights, for EMMA with its training head."""
        course = self.course
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(course.seed)
            if course.config.variant == 'emma' and course.aligned:
                return EMMA(emma_config(course.config.model, fusion=course.fusion))
            return course.config.build()

    def student(self, teacher: VisualLanguageModel) -> MaTVLM:
        """The hybrid before it learns."""
        layers = len(teacher.config.language.schedule)
        student = MaTVLM.from_teacher(teacher, spread(layers, self.course.share), seed=self.course.seed)
        if not self.course.seeded:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(self.course.seed)
                fresh = type(student)(student.config)
            for old, new in zip(student.language.layers, fresh.language.layers):
                if any(p.requires_grad for p in old.mixer.parameters()):
                    old.mixer.load_state_dict(new.mixer.state_dict())
        return student

    def _stage(self, place: int, recipe: Plan, model: nn.Module) -> None:
        name = f'{place}_{type(recipe).__name__.lower()}'
        folder = self.folder / name
        resume = self.sitting.resume and (folder / STATE).exists()
        trainer = Trainer(recipe, model, self.data, self.collate, folder, seed=self.course.seed,
                          sitting=replace(self.sitting, minutes=self._minutes(), resume=resume))
        outcome = trainer.run(lambda entry: self.tell(name, entry), self.stop)
        self.outcomes[name] = outcome
        if outcome.step < outcome.steps:
            raise Unfinished

    def _minutes(self) -> float | None:
        """Minutes that are left for the next stage."""
        if self.sitting.minutes is None:
            return None
        left = self.sitting.minutes - (time.monotonic() - self._started) / 60
        if left <= 0:
            raise Unfinished
        return left


def told_of(outcomes: dict[str, Outcome]) -> list[dict[str, Any]]:
    """What the stages came to, for cards and JSON."""
    return [{'stage': name, 'steps': outcome.steps, 'views': outcome.samples, 'minutes': round(outcome.seconds / 60, 1),
             'losses': outcome.losses} for name, outcome in outcomes.items()]
