"""Train the generative family in stages: text alone, the connector, everything, and MaTVLM's distillation.

Stages of a run, in this order (docs/papers.md 4 to 6):
    words    the language model alone, on questions, answers and descriptions without images
    connect  the connector alone, the language model frozen            (ML-Mamba's stage 1; EMMA has none)
    chat     connector and language model, for EMMA with its alignment  (stage 2)
    distil   MaTVLM only: its new mixers and the connector learn from the teacher that the other stages trained
The papers start from pretrained language models; at kitchen scale the first stage takes their place.

Symbols: B views, Q questions per view, n visual tokens, T word pieces, d width of an alignment target.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from m3et_ros.data.features.visual_tokens import Views
from m3et_ros.data.kitchen.cache.dialogues import Dialogue, DialogueViews, Turn
from m3et_ros.data.kitchen.labels import corpus
from m3et_ros.data.kitchen.questions.sentences import sentences
from m3et_ros.data.preprocess import rgb_input
from m3et_ros.data.tokenizer import Tokenizer
from m3et_ros.models.config_checks import check_choice, check_number
from m3et_ros.models.vlm.emma import EMMA
from m3et_ros.models.vlm.emma_alignment import AlignmentHead
from m3et_ros.models.vlm.matvlm import MaTVLM, spread
from m3et_ros.models.vlm.model import VisualLanguageModel
from m3et_ros.models.vlm.variants import PIXELS, TalkConfig, emma_config, read_texts, set_trainable
from m3et_ros.training.distil import IGNORED, DistilConfig, ce_loss, distil
from m3et_ros.training.loop import Outcome, train
from m3et_ros.training.recipe import Recipe, seeded_by
from m3et_ros.training.run_state import WHOLE_RUN, Interrupted, StageSessions, TrainingSession

LONGEST = 64
"""Most word pieces of a prompt, and of an answer; a kitchen's descriptions have fewer."""

VOCABULARY = 1024
"""Most word pieces of the tokenizer; the kitchen's sentences have about half as many words."""

REDUCTIONS = ('mean', 'sum_1e-5')


def talk_tokenizer() -> Tokenizer:
    """Train the tokenizer on the kitchen's questions, answers and descriptions; the result is always the same."""
    return Tokenizer.train(dict.fromkeys([*corpus(), *sentences()]), vocabulary=VOCABULARY)


class CollateTalk:
    """Turn the dialogues about views into tensors.

    Args:
        tokenizer: tokenizer of prompts and answers.
        views: visual tokens of the views.
        patch: side of a visual token in pixels of the images.
    """

    def __init__(self, tokenizer: Tokenizer, views: Views, *, patch: int = PIXELS):
        self.tokenizer, self.views, self.patch = tokenizer, views, patch

    def __call__(self, talks: Sequence[Dialogue]) -> tuple[dict[str, Tensor], list[str]]:
        """Return tensors by name and B keys.

        The batch holds features (B, n, d_vision); ids and labels (B * Q, T) of the questions; description_ids and
        description_labels (B, T'); and, if the views have pixels, images (B, 3, S, S).
        """
        ids, labels = encode_turns([turn for talk in talks for turn in talk.turns], self.tokenizer)
        description_ids, description_labels = encode_turns([talk.description for talk in talks], self.tokenizer)
        features = torch.stack([torch.from_numpy(self.views.features[talk.view].copy()) for talk in talks]).float()
        batch = {
            'features': features,
            'ids': ids,
            'labels': labels,
            'description_ids': description_ids,
            'description_labels': description_labels,
        }
        if talks[0].rgb is not None:
            side = self.patch * self.views.grid[0]
            batch['images'] = torch.cat([rgb_input(talk.rgb, side) for talk in talks])
        return batch, [talk.key for talk in talks]


def encode_turns(turns: Sequence[Turn], tokenizer: Tokenizer) -> tuple[Tensor, Tensor]:
    """Encode turns as [CLS] prompt [SEP] reply [SEP], padded at the end.

    Returns:
        ids and labels, (B, T) int64; labels are -100 except for the reply and its [SEP].
    """
    prompts, prompt_masks = tokenizer.encode([turn.prompt for turn in turns], LONGEST)
    replies, reply_masks = tokenizer.encode([turn.reply for turn in turns], LONGEST)
    rows = [
        (prompt[prompt_mask], reply[reply_mask][1:])
        for prompt, prompt_mask, reply, reply_mask in zip(prompts, prompt_masks, replies, reply_masks, strict=True)
    ]
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
    """Train the language model alone on questions, answers and descriptions; a sample is a view's dialogue."""

    samples: int = 3_200
    batch: int = 16
    lr: float = 1e-3
    warm_up: float = 0.1
    weight_decay: float = 0.1

    def losses(self, model: nn.Module, batch: Mapping[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        """Return words and words_told: cross-entropies of all words of questions and of descriptions."""
        found = []
        for ids, labels in ((batch['ids'], batch['labels']), (batch['description_ids'], batch['description_labels'])):
            valid = (labels != IGNORED).flip(1).cumsum(1).flip(1) > 0  # prompt and reply, no pads
            found.append(ce_loss(model.language(ids).logits, ids.masked_fill(~valid, IGNORED)))
        return {'words': found[0], 'words_told': found[1]}


@dataclass(frozen=True)
class Connect(Recipe):
    """Train the connector alone on answers and descriptions."""

    samples: int = 4_800
    batch: int = 16
    lr: float = 1e-3
    warm_up: float = 0.1
    weight_decay: float = 0.0
    # Share of the steps that also train on descriptions of the views.
    told: float = 0.5

    def losses(self, model: nn.Module, batch: Mapping[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        """Return answer and, in a share of the steps, told: cross-entropies of answers and of descriptions."""
        with seeded_by(generator):
            output = read_texts(model, batch['features'], batch['ids'])
            return {'answer': ce_loss(output.logits, batch['labels'])} | _description_loss(
                model, batch, self.told, generator
            )


@dataclass(frozen=True)
class Chat(Recipe):
    """Train connector and language model together; EMMA also aligns its hidden states with the image."""

    samples: int = 32_000
    batch: int = 16
    lr: float = 1e-3
    warm_up: float = 0.05
    weight_decay: float = 0.1
    # Share of the steps that also train on descriptions of the views.
    told: float = 0.3
    # Weight of EMMA's alignment with the image; omitted if 0 or if the model has no alignment head.
    align: float = 0.3
    # Epochs in which that weight rises from 0.
    align_warm_up: float = 0.1
    # Reduction of the alignment: 'mean', or 'sum_1e-5' as published.
    align_loss: str = 'mean'

    def __post_init__(self):
        super().__post_init__()
        check_number(self, {'align_warm_up': (0, 1e6)})
        check_choice(self, {'align_loss': REDUCTIONS})

    def at(self, step: int, steps_per_epoch: int) -> 'Chat':
        """Return the recipe with the weight that the alignment has at a step."""
        weight = alignment_weight(step, steps_per_epoch=steps_per_epoch, weight=self.align, warm_up=self.align_warm_up)
        return replace(self, align=weight)

    def losses(self, model: nn.Module, batch: Mapping[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        """Return answer; in a share of the steps told; with an alignment head also its target: pixels, patch, deep."""
        head = getattr(model, 'alignment', None)
        aligned = isinstance(head, AlignmentHead) and self.align > 0
        with seeded_by(generator):
            output = read_texts(model, batch['features'], batch['ids'], keep=head.config.taps if aligned else ())
            found = {'answer': ce_loss(output.logits, batch['labels'])} | _description_loss(
                model, batch, self.told, generator
            )
        if aligned:
            target = head.targets(images=batch.get('images'), features=batch['features'])
            loss = alignment_loss(head(output.hidden), target, reduction=self.align_loss)
            found[head.config.target] = self.align * loss
        return found


def _description_loss(
    model: nn.Module, batch: Mapping[str, Tensor], share: float, generator: torch.Generator
) -> dict[str, Tensor]:
    if float(torch.rand((), generator=generator)) >= share:
        return {}
    logits = read_texts(model, batch['features'], batch['description_ids']).logits
    return {'told': ce_loss(logits, batch['description_labels'])}


def alignment_loss(predicted: Tensor, target: Tensor, *, reduction: str = 'mean') -> Tensor:
    """Return EMMA's alignment loss, the squared error of a predicted image (docs/papers.md 5).

    Args:
        predicted: (B, n, d).
        target: tensor of the same shape, in the same order of tokens.
        reduction: 'mean' does not depend on sizes; 'sum_1e-5' is the published sum times 1e-5, which is 1e-5 B n d
            times as large.

    Raises:
        ValueError: the shapes differ, or the reduction is unknown.
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
    """Return the weight of the alignment loss at a step; it rises linearly over `warm_up` epochs, then is constant."""
    rise = warm_up * steps_per_epoch
    return weight if step >= rise else weight * step / rise


class DistilledStudent(nn.Module):
    """A student with its teacher, which neither learns nor is stored.

    Args:
        student: student that MaTVLM.from_teacher returned.
        teacher: the model that the student was made of.
    """

    def __init__(self, student: VisualLanguageModel, teacher: VisualLanguageModel):
        super().__init__()
        self.student = student
        # In a tuple, because a submodule would be stored and set to training mode with the student.
        self._teacher = (teacher.eval().requires_grad_(False),)

    @property
    def config(self):
        """Config of the student."""
        return self.student.config

    @property
    def teacher(self) -> VisualLanguageModel:
        """The teacher, on the device of the student."""
        return self._teacher[0].to(next(self.student.parameters()).device)


@dataclass(frozen=True)
class Distil(Recipe):
    """Train a hybrid to imitate its Transformer teacher; AdamW (0.9, 0.95) and weight decay as released."""

    samples: int = 9_600
    batch: int = 16
    lr: float = 1e-3
    warm_up: float = 0.05
    weight_decay: float = 0.01
    clip: float = 0.5
    # Weights of L_layer, L_prob and L_ce; temperature, kinds and reduction as in DistilConfig.
    layer: float = 1.0
    prob: float = 1.0
    ce: float = 1.0
    temperature: float = 1.0
    prob_kind: str = 'kl'
    layer_kind: str = 'l2'
    reduction: str = 'token'
    # Share of the steps on descriptions instead of questions; without them the student forgets how to describe.
    told: float = 0.3

    def __post_init__(self):
        super().__post_init__()
        assert self.distil_config

    @property
    def distil_config(self) -> DistilConfig:
        """Return weights, kinds and reduction of the losses."""
        return DistilConfig(**{f.name: getattr(self, f.name) for f in fields(DistilConfig) if f.name != 'pads'})

    def losses(self, model: nn.Module, batch: Mapping[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        """Return layer, prob and ce, weighted."""
        config = self.distil_config
        if float(torch.rand((), generator=generator)) < self.told:
            ids, labels = batch['description_ids'], batch['description_labels']
        else:
            ids, labels = batch['ids'], batch['labels']
        # The logits at a word predict the next one.
        counted = torch.cat([labels[:, 1:] != IGNORED, torch.zeros_like(labels[:, :1], dtype=torch.bool)], 1)
        found = distil(
            model.teacher,
            model.student,
            lambda either: read_texts(either, batch['features'], ids).logits,
            config=config,
            labels=labels,
            counted=counted,
        )
        return {name: getattr(config, name) * loss for name, loss in found.items() if name != 'total'}


@dataclass(frozen=True)
class TalkRecipe:
    """The model and its stages."""

    # Variant and sizes; for matvlm those of the teacher.
    config: TalkConfig
    # The stages; None skips one.
    words: Words | None = Words()
    connect: Connect | None = Connect()
    chat: Chat | None = Chat()
    distil: Distil | None = None
    # Share of the attention layers that distil replaces, and which: one of matvlm.SPREADS.
    share: float = 0.25
    spread: str = 'even'
    # EMMA: the alignment reads several layers (True) or the last alone.
    fusion: bool = True
    # EMMA: the model has the alignment head, its target, and the released order of its keys (emma_config).
    aligned: bool = True
    target: str = 'pixels'
    released_order: bool = False
    # The mixers of distil start from attention's weights (True) or from random ones, for comparison.
    seeded: bool = True
    # Seed of weights, order and draws.
    seed: int = 0


class TalkRun:
    """The training of one model through all stages of a recipe, each in its own folder.

    Args:
        recipe: the model and its stages.
        data: views with their questions.
        views: visual tokens of the views.
        tokenizer: tokenizer of the text.
        folder: folder of the stages.
        encoder: patch embedding of the image encoder and the side of its patches in pixels, for EMMA with the target
            'patch'.
        session: its minutes count for all stages together.

    Attributes:
        outcomes: outcome of each stage, by name.
        taught: the teacher that this run trained; None if it trained none.
    """

    def __init__(
        self,
        recipe: TalkRecipe,
        data: DialogueViews,
        views: Views,
        tokenizer: Tokenizer,
        folder: Path,
        *,
        encoder: tuple[nn.Module, int] | None = None,
        session: TrainingSession = WHOLE_RUN,
    ):
        if recipe.target == 'patch' and encoder is None:
            raise ValueError("the target 'patch' needs the patch embedding of the image encoder; give encoder")
        self.recipe, self.data, self.folder, self.encoder = recipe, data, Path(folder), encoder
        patch = encoder[1] if encoder and recipe.target == 'patch' else PIXELS
        self.collate = CollateTalk(tokenizer, views, patch=patch)
        self.outcomes: dict[str, Outcome] = {}
        self.taught: VisualLanguageModel | None = None
        self._sessions = StageSessions(session)

    def train(self, teacher: VisualLanguageModel | None = None) -> tuple[TalkConfig, VisualLanguageModel]:
        """Train all stages; finished ones are only read.

        Args:
            teacher: an already trained teacher of matvlm; the stages before distil are then skipped.

        Returns:
            The config of the trained model, and the model.

        Raises:
            Interrupted: continue with session.resume.
            InputError: as training.loop.Trainer.
            ValueError: as models.vlm.
        """
        recipe, model = self.recipe, teacher
        if model is None:
            model = self.start()
            for number, stage in enumerate((recipe.words, recipe.connect, recipe.chat)):
                if stage is not None:
                    set_trainable(model, language=not isinstance(stage, Connect))
                    self._train_stage(number, stage, model)
        if recipe.distil is None:
            return recipe.config, model.eval()
        if teacher is None:
            self.taught = model
        student = self.student(model)
        self._train_stage(3, recipe.distil, DistilledStudent(student, model))
        return replace(recipe.config, model=student.config), student.eval()

    def start(self) -> VisualLanguageModel:
        """Build the model with random weights, for EMMA with its alignment head."""
        recipe = self.recipe
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(recipe.seed)
            if recipe.config.variant == 'emma' and recipe.aligned:
                return self._aligned()
            return recipe.config.build()

    def _aligned(self) -> EMMA:
        recipe, patch, width = self.recipe, self.collate.patch, None
        if recipe.target == 'patch' and self.encoder:
            sides = (side * patch for side in self.collate.views.grid)
            with torch.no_grad():
                width = self.encoder[0](torch.zeros(1, 3, *sides)).shape[2]
        model = EMMA(
            emma_config(
                recipe.config.model,
                fusion=recipe.fusion,
                target=recipe.target,
                released_order=recipe.released_order,
                patch=patch,
                d_patch=width,
            )
        )
        if recipe.target == 'patch' and self.encoder and model.alignment:
            model.alignment.set_patch_encoder(self.encoder[0])
        return model

    def student(self, teacher: VisualLanguageModel) -> MaTVLM:
        """Build the hybrid before its distillation."""
        layers = len(teacher.config.language.schedule)
        indices = spread(layers, self.recipe.share, self.recipe.spread)
        student = MaTVLM.from_teacher(teacher, indices, seed=self.recipe.seed)
        if not self.recipe.seeded:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(self.recipe.seed)
                fresh = type(student)(student.config)
            for old, new in zip(student.language.layers, fresh.language.layers, strict=True):
                if any(p.requires_grad for p in old.mixer.parameters()):
                    old.mixer.load_state_dict(new.mixer.state_dict())
        return student

    def _train_stage(self, number: int, recipe: Recipe, model: nn.Module) -> None:
        name = f'{number}_{type(recipe).__name__.lower()}'
        folder = self.folder / name
        session = self._sessions.of_stage(folder)
        outcome, _, _ = train(recipe, model, self.data, self.collate, folder, seed=self.recipe.seed, session=session)
        self.outcomes[name] = outcome
        if not outcome.finished:
            raise Interrupted


def stage_summaries(outcomes: Mapping[str, Outcome]) -> list[dict[str, Any]]:
    """Return the results of the stages for model cards and JSON."""
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
