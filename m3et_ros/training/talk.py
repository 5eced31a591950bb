"""Recipes of the generative family: words alone, the connector, all of it, EMMA's alignment, MaTVLM's distillation.

Stages of a run, in this order (docs/papers.md 4 to 6). The papers start from language models that can read; at kitchen scale
the first stage stands for that.
    words    the language model alone, on questions, answers and descriptions without images
    connect  the connector alone, the language model frozen            (ML-Mamba's stage 1; EMMA has none)
    talk     connector and language model, for EMMA with its alignment  (stage 2)
    distil   of MaTVLM: mixers in the place of attention, and the connector, from the teacher that the others made

Symbols: B views, Q questions of a view, n visual tokens, T word pieces.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from m3et_ros.data.features import Views
from m3et_ros.data.kitchen.cache.dialogues import Talk, TalkViews, Turn
from m3et_ros.data.kitchen.labels import corpus
from m3et_ros.data.kitchen.questions.sentences import sentences
from m3et_ros.data.preprocess import rgb_input
from m3et_ros.data.tokenizer import Tokenizer
from m3et_ros.models.vlm.emma import EMMA
from m3et_ros.models.vlm.emma_alignment import AlignmentHead
from m3et_ros.models.vlm.matvlm import MaTVLM, spread
from m3et_ros.models.vlm.model import VisualLanguageModel, VisualOutput
from m3et_ros.models.vlm.variants import PIXELS, TalkConfig, emma_config, read_texts, trainable
from m3et_ros.training.distil import IGNORED, DistilConfig, ce_loss, distil
from m3et_ros.training.loop import Outcome, Trainer, TrainingSession
from m3et_ros.training.recipe import Recipe
from m3et_ros.training.run_state import STATE

LONGEST = 64
"""Most word pieces of a prompt with its answer; a kitchen's descriptions have fewer."""


class CollateTalk:
    """Talks as tensors.

    Args:
        tokenizer: of prompts and answers.
        views: their visual tokens.
    """

    def __init__(self, tokenizer: Tokenizer, views: Views):
        self.tokenizer, self.views = tokenizer, views

    def __call__(self, talks: Sequence[Talk]) -> tuple[dict[str, Tensor], list[str]]:
        """Features (B, n, d_vision), ids and labels (B * Q, T), the same of descriptions (B, T'), perhaps images."""
        ids, labels = encode_turns([turn for talk in talks for turn in talk.turns], self.tokenizer)
        told, told_labels = encode_turns([talk.description for talk in talks], self.tokenizer)
        features = torch.stack([torch.from_numpy(self.views.features[talk.view].copy()) for talk in talks]).float()
        batch = {'features': features, 'ids': ids, 'labels': labels, 'told': told, 'told_labels': told_labels}
        if talks[0].rgb is not None:
            side = PIXELS * self.views.grid[0]
            batch['images'] = torch.cat([rgb_input(talk.rgb, side) for talk in talks])
        return batch, [talk.key for talk in talks]


def encode_turns(turns: Sequence[Turn], tokenizer: Tokenizer) -> tuple[Tensor, Tensor]:
    """[CLS] prompt [SEP] answer [SEP], pads at the end: ids and labels (B, T) int64, -100 but for answer and end."""
    rows = []
    for (prompt, asked), (reply, said) in zip(
        *(
            zip(*tokenizer.encode(texts, LONGEST))
            for texts in ([turn.prompt for turn in turns], [turn.reply for turn in turns])
        )
    ):
        rows.append((prompt[asked], reply[said][1:]))
    longest = max(len(prompt) + len(reply) for prompt, reply in rows)
    ids = torch.full((len(rows), longest), tokenizer.pad)
    labels = torch.full_like(ids, IGNORED)
    for row, (prompt, reply) in enumerate(rows):
        end = len(prompt) + len(reply)
        ids[row, :end] = torch.cat([prompt, reply])
        labels[row, len(prompt) : end] = reply
    return ids, labels


@dataclass(frozen=True)
class Words(Recipe):
    """The language model alone learns how questions, answers and descriptions are worded; a sample is a view's talk."""

    samples: int = 3_200
    batch: int = 16
    lr: float = 1e-3
    warm_up: float = 0.1
    weight_decay: float = 0.1

    def losses(self, model: nn.Module, batch: Mapping[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        """Return words: cross-entropy of every word of prompts and answers."""
        found = []
        for ids, labels in ((batch['ids'], batch['labels']), (batch['told'], batch['told_labels'])):
            valid = (labels != IGNORED).flip(1).cumsum(1).flip(1) > 0  # up to the end of the answer
            found.append(ce_loss(model.language(ids).logits, ids.masked_fill(~valid, IGNORED)))
        return {'words': found[0], 'words_told': found[1]}


@dataclass(frozen=True)
class Connect(Recipe):
    """The connector alone learns from descriptions and answers."""

    samples: int = 4_800
    batch: int = 16
    lr: float = 1e-3
    warm_up: float = 0.1
    weight_decay: float = 0.0
    # Share of the steps in which views are described besides.
    told: float = 0.5

    def losses(self, model: nn.Module, batch: Mapping[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        """Return answer and, in a share of the steps, told: cross-entropies of answers and of descriptions."""
        with drawn_from(generator):
            output = read_texts(model, batch['features'], batch['ids'])
            return {'answer': ce_loss(output.logits, batch['labels'])} | _told(model, batch, self.told, generator)


@dataclass(frozen=True)
class Chat(Recipe):
    """Connector and language model learn together; EMMA's with the alignment of its hidden states."""

    samples: int = 32_000
    batch: int = 16
    lr: float = 1e-3
    warm_up: float = 0.05
    weight_decay: float = 0.1
    # Share of the steps in which views are described besides.
    told: float = 0.3
    # Weight of EMMA's alignment with the pixels; 0, or a model without the head, leaves it out.
    align: float = 0.3

    def losses(self, model: nn.Module, batch: Mapping[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        """Return answer; now and then told; and of a model with an alignment head pixels."""
        head = getattr(model, 'alignment', None)
        aligned = isinstance(head, AlignmentHead) and self.align > 0
        with drawn_from(generator):
            output = read_texts(model, batch['features'], batch['ids'], keep=head.config.taps if aligned else ())
            found = {'answer': ce_loss(output.logits, batch['labels'])} | _told(model, batch, self.told, generator)
        if aligned:
            found['pixels'] = self.align * _pixels(head, output, batch['images'])
        return found


@contextmanager
def drawn_from(generator: torch.Generator) -> Iterator[None]:
    """Let what layers drop depend on a generator alone, so that a run that goes on repeats what it would have done."""
    seed = int(torch.randint(2**62, (), generator=generator))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


def _told(model: nn.Module, batch: Mapping[str, Tensor], share: float, generator: torch.Generator) -> dict[str, Tensor]:
    if float(torch.rand((), generator=generator)) >= share:
        return {}
    return {'told': ce_loss(read_texts(model, batch['features'], batch['told']).logits, batch['told_labels'])}


def _pixels(head: AlignmentHead, output: VisualOutput, images: Tensor) -> Tensor:
    return alignment_loss(head(output.hidden), head.targets(images=images))


class DistilledStudent(nn.Module):
    """A student beside its teacher, who neither learns nor is stored with it.

    Args:
        student: of MaTVLM.from_teacher.
        teacher: what it came from.
    """

    def __init__(self, student: VisualLanguageModel, teacher: VisualLanguageModel):
        super().__init__()
        self.student = student
        # In a tuple: a submodule would be stored, and turned to training, with the student.
        self._teacher = (teacher.eval().requires_grad_(False),)

    @property
    def config(self):
        """That of the student."""
        return self.student.config

    @property
    def teacher(self) -> VisualLanguageModel:
        """The teacher, on the device of the student."""
        return self._teacher[0].to(next(self.student.parameters()).device)


@dataclass(frozen=True)
class Distil(Recipe):
    """A hybrid learns to do what its Transformer teacher does; AdamW (0.9, 0.95) and weight decay as released."""

    samples: int = 9_600
    batch: int = 16
    lr: float = 1e-3
    warm_up: float = 0.05
    weight_decay: float = 0.01
    clip: float = 0.5
    # Weights of L_layer, L_prob and L_ce.
    layer: float = 1.0
    prob: float = 1.0
    ce: float = 1.0
    # Share of the steps that are about descriptions instead of questions; with none the student forgets to describe.
    told: float = 0.3

    def losses(self, model: nn.Module, batch: Mapping[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        """Return layer, prob and ce, weighted."""
        config = DistilConfig(layer=self.layer, prob=self.prob, ce=self.ce)
        about = 'told' if float(torch.rand((), generator=generator)) < self.told else 'ids'
        ids, labels = batch[about], batch['told_labels' if about == 'told' else 'labels']
        # Logits at a word speak of the next one.
        counted = torch.cat([labels[:, 1:] != IGNORED, torch.zeros_like(labels[:, :1], dtype=torch.bool)], 1)
        found = distil(
            model.teacher,
            model.student,
            lambda one: read_texts(one, batch['features'], ids).logits,
            config=config,
            labels=labels,
            counted=counted,
        )
        return {name: getattr(config, name) * loss for name, loss in found.items() if name != 'total'}


# MERGED m3et_ros/training/alignment: EMMA's loss beside that of the text: how far a predicted image is from the one that was seen (docs/papers.md, section 5).
#
# MERGED Symbols: B batch, n visual tokens, d width of a target.
REDUCTIONS = ('mean', 'sum_1e-5')


def alignment_loss(predicted: Tensor, target: Tensor, *, reduction: str = 'mean') -> Tensor:
    """Squared error of (B, n, d) tensors in one order.

    'mean' does not depend on sizes; 'sum_1e-5' is the published sum times 1e-5, 1e-5 B n d times as large.

    Raises:
        ValueError: shapes that differ, or an unknown reduction.
    """
    if predicted.shape != target.shape:
        raise ValueError(
            f'the prediction is {tuple(predicted.shape)} and the target {tuple(target.shape)}; give two of one shape'
        )
    if reduction not in REDUCTIONS:
        raise ValueError(f'reduction is {reduction!r}; give one of {", ".join(REDUCTIONS)}')
    errors = (predicted.float() - target.float()).square()
    return errors.mean() if reduction == 'mean' else 1e-5 * errors.sum()


def alignment_weight(step: int, *, steps_per_epoch: int, weight: float = 1.0, warm_up: float = 0.1) -> float:
    """Weight of the loss at a step: rises linearly from 0 over `warm_up` epochs and then stays."""
    rise = warm_up * steps_per_epoch
    return weight if step >= rise else weight * step / rise


# MERGED m3et_ros/training/talk_run: From a cache of kitchens to a talking model: the stages of a variant, one after the other, each in its folder.
VOCABULARY = 1024
"""Most word pieces; the kitchen's sentences have about half as many words."""


def talk_tokenizer() -> Tokenizer:
    """Word pieces of the kitchen's questions, answers and descriptions; always the same."""
    return Tokenizer.train(dict.fromkeys([*corpus(), *sentences()]), vocabulary=VOCABULARY)


class Interrupted(Exception):
    """The minutes are over, or somebody asked to stop; what was done is kept."""


@dataclass(frozen=True)
class TalkRecipe:
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


class TalkRun:
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

    def __init__(
        self,
        course: TalkRecipe,
        data: TalkViews,
        views: Views,
        tokenizer: Tokenizer,
        folder: Path,
        *,
        sitting: TrainingSession = TrainingSession(),
        tell: Callable[[str, dict], None] = lambda what, entry: None,
        stop: Callable[[], bool] = lambda: False,
    ):
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
        self._stage(3, course.distil, DistilledStudent(student, model))
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

    def _stage(self, place: int, recipe: Recipe, model: nn.Module) -> None:
        name = f'{place}_{type(recipe).__name__.lower()}'
        folder = self.folder / name
        resume = self.sitting.resume and (folder / STATE).exists()
        trainer = Trainer(
            recipe,
            model,
            self.data,
            self.collate,
            folder,
            seed=self.course.seed,
            sitting=replace(self.sitting, minutes=self._minutes(), resume=resume),
        )
        outcome = trainer.run(lambda entry: self.tell(name, entry), self.stop)
        self.outcomes[name] = outcome
        if outcome.step < outcome.steps:
            raise Interrupted

    def _minutes(self) -> float | None:
        """Minutes that are left for the next stage."""
        if self.sitting.minutes is None:
            return None
        left = self.sitting.minutes - (time.monotonic() - self._started) / 60
        if left <= 0:
            raise Interrupted
        return left


def told_of(outcomes: dict[str, Outcome]) -> list[dict[str, Any]]:
    """What the stages came to, for cards and JSON."""
    return [
        {
            'stage': name,
            'steps': outcome.steps,
            'views': outcome.samples,
            'minutes': round(outcome.seconds / 60, 1),
            'losses': outcome.losses,
        }
        for name, outcome in outcomes.items()
    ]
