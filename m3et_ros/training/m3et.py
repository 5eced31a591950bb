"""The paper's two stages as recipes: masked pre-training, then question answering (docs/papers.md, sections 2.4 and 2.5).

Defaults are for the size `kitchen` at 112 pixels on a few cores (perf.md, sections 1.7 and 2.4), not for ImageNet.

Symbols: B batch, Q questions of a sample, S image side, s segmentation side, n patches of an image, T text tokens.
A batch is what Collate makes: rgb (B, 3, S, S), depth (B, 1, S, S), semseg (B, s, s), text and text_mask (B * Q, T),
each where the samples have it; depth_target (B, 1, S, S), NaN unknown; scores (B * Q, answers), answer and answer_mask
(B * Q, words + 2), asked (B * Q,) bool; pointed (B * Q, P, 2), tokens and the classes they speak of (Collate).
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from m3et_ros.data.class_names import Naming
from m3et_ros.data.errors import InputError
from m3et_ros.data.sample import Sample, collate
from m3et_ros.data.tokenizer import Tokenizer
from m3et_ros.layers.attention import HeadAttention
from m3et_ros.models.m3et.config import IMAGE_MODALITIES, M3ETConfig
from m3et_ros.models.m3et.encoding import joined
from m3et_ros.models.m3et.masking import draw, visible_total
from m3et_ros.training.loop import Outcome, Trainer, TrainingSession
from m3et_ros.training.losses import (
    answer_loss,
    class_presence,
    depth_loss,
    generation_loss,
    patch_pixels,
    pointing_loss,
    rgb_loss,
    semseg_loss,
)
from m3et_ros.training.recipe import Recipe

WORDS = 8
"""Most word pieces of a generated answer (docs/papers.md, section 2.3)."""
TARGETS = {'rgb': 'rgb', 'depth': 'depth_target', 'semseg': 'semseg'}


@dataclass(frozen=True)
class Collate:
    """Samples to the tensors that recipes take, and the keys that name the samples in messages."""

    # Of the model.
    config: M3ETConfig
    # For questions and answers.
    tokenizer: Tokenizer
    # Candidate answers in the order of the answer head.
    answers: tuple[str, ...]
    # Finds what questions and answers speak of; None leaves that out.
    naming: Naming | None = None

    def __call__(self, samples: Sequence[Sample]) -> tuple[dict[str, Tensor], list[str]]:
        """Return tensors by name, see the head of this file, and B keys."""
        batch = collate(samples, self.config, self.tokenizer, answers=self.answers)
        length = min(WORDS + 2, self.config.text_length)
        answer, mask = self.tokenizer.encode(batch.answers, length)
        asked = torch.tensor([bool(question) for question in batch.questions])
        answered = torch.tensor([bool(words) for words in batch.answers]) & asked
        tensors = {
            **batch.inputs,
            'scores': batch.scores,
            'answer': answer,
            'answer_mask': mask & answered[:, None],
            'asked': asked,
        }
        if batch.depth is not None:
            tensors['depth_target'] = batch.depth
        if self.naming is not None and 'text' in tensors:
            tensors['pointed'] = self._pointed(batch.questions, batch.answers, tensors['text_mask'])
        return tensors, list(batch.keys)

    def _pointed(self, questions: Sequence[str], answers: Sequence[str], text_mask: Tensor) -> Tensor:
        """Places of words in M3ET.encode_text's sequence with the classes they name; the global token speaks of all of them.

        Returns:
            (B * Q, P, 2) int64, -1 where a question has less than P such pairs.
        """
        length, rows = text_mask.shape[1], []
        for question, answer, words in zip(questions, answers, text_mask.sum(1).tolist()):
            first = length - words + 1
            rows.append(
                [(first + place, number) for place, number in self.naming.pieces(question) if place < words - 2]
                + [(length, number) for number in self.naming.classes(f'{question} {answer}')]
            )
        pointed = torch.full((len(rows), max(map(len, rows)), 2), -1)
        for to, row in zip(pointed, rows):
            to[: len(row)] = torch.tensor(row, dtype=torch.int64).view(-1, 2)
        return pointed


@dataclass(frozen=True)
class Pretrain(Recipe):
    """Stage 1: most tokens of colour, depth and segmentation are hidden and predicted from the rest."""

    # Modalities that are shown in part and predicted where hidden.
    modalities: tuple[str, ...] = IMAGE_MODALITIES
    # Share of the tokens that the encoder sees; the paper masks 70 %, MultiMAE 83.3 % (1/6).
    visible: float = 0.30
    # Concentration of the Dirichlet that splits the visible tokens among the modalities; 1 is uniform (MultiMAE).
    alpha: float = 1.0
    # Show tokens of a random non-empty subset of the modalities only, which trains for missing ones.
    subsets: bool = False

    def __post_init__(self):
        super().__post_init__()
        object.__setattr__(self, 'modalities', tuple(self.modalities))
        if not self.modalities or set(self.modalities) - set(IMAGE_MODALITIES):
            raise ValueError(f'modalities is {self.modalities}; give some of {", ".join(IMAGE_MODALITIES)}')
        _check_share('visible', self.visible, above_zero=True)
        if not self.alpha > 0:
            raise ValueError(f'alpha is {self.alpha!r}; give a number above 0')

    def losses(self, model: nn.Module, batch: Mapping[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        """Return rgb, depth and semseg: the errors of hidden patches, weight 1 each."""
        inputs = {m: batch[m] for m in IMAGE_MODALITIES if m in self.modalities and m in batch}
        size = len(batch['rgb'])
        counts = dict.fromkeys(inputs, model.config.image_tokens)
        drawn = draw(
            counts,
            batch=size,
            total=visible_total(counts, share=self.visible),
            alpha=self.alpha,
            subsets=self.subsets,
            generator=generator,
        )
        device = batch['rgb'].device
        encoded = model.encode(inputs, visible=drawn.kept.to(device))
        hidden = {m: ~mask.to(device) for m, mask in drawn.masks.items()}
        return dense_losses(model, encoded, batch, self.modalities, hidden=hidden)


@dataclass(frozen=True)
class Answer(Recipe):
    """Stage 2: questions about what is seen, answered by score and in words, with live depth and segmentation.

    A sample is a view with all its questions. The paper gives the encoder a tenth of the learning rate and 0.75 of it
    from layer to layer; after a short stage 1 that never saw a word the encoder has most to learn here, so all learn
    alike.
    """

    samples: int = 64_000
    batch: int = 32
    lr: float = 8e-4
    # Weight of the binary cross-entropy over the candidate answers.
    answer: float = 1.0
    # Weight of the cross-entropy of the answer in words, from the text decoder; 0 leaves it out. It costs more than a
    # question does, so only the first one of each view is answered so.
    words: float = 0.5
    # Weight of looking at what is spoken of: in the last two T layers the first head of a word that names a class, and
    # of the global token of a question about it, is to look at the patches of that class; 0 leaves it out. Our own: the
    # paper leaves it to the answers to teach which word means what.
    pointing: float = 0.5
    # Weight of depth and segmentation predicted from fully visible colour, depth and question; 0 leaves them out.
    dense: float = 1.0
    # How much more rare classes weigh in the segmentation (losses.semseg_loss): what lies about in a kitchen fills a
    # thousandth of what walls do.
    rarity: float = 0.6
    # Share of the micro-batches that rehearse stage 1 besides, so that hidden patches stay predictable.
    rehearse: float = 0.25
    # Share of the micro-batches whose depth and segmentation are predicted while nothing is asked.
    silent: float = 0.5
    # Share of the micro-batches without depth, so that a camera without it is served too.
    drop_depth: float = 0.15

    def __post_init__(self):
        super().__post_init__()
        for name in ('rarity', 'rehearse', 'silent', 'drop_depth'):
            _check_share(name, getattr(self, name))
        for name in ('answer', 'words', 'pointing', 'dense'):
            if not 0 <= getattr(self, name) < 1000:
                raise ValueError(f'{name} is {getattr(self, name)!r}; give a weight from 0 to less than 1000')

    def losses(self, model: nn.Module, batch: Mapping[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        """Return answer, words, pointing, depth and semseg; now and then hidden_rgb, hidden_depth and hidden_semseg."""
        drop, silent, rehearse = (
            torch.rand(3, generator=generator) < torch.tensor([self.drop_depth, self.silent, self.rehearse])
        ).tolist()
        shown = ('rgb',) if drop else ('rgb', 'depth')
        sight = model.encode_images({name: batch[name] for name in shown if name in batch})
        each = len(batch['asked']) // len(batch['rgb'])
        looks = [] if self.pointing and {'pointed', 'semseg'} <= batch.keys() else None
        heard = model.encode_text(sight, batch.get('text'), batch.get('text_mask'), looks=looks)
        found = {'answer': self.answer * answer_loss(model.answer_logits(heard), batch['scores'], batch['asked'])}
        if looks:
            found['pointing'] = self.pointing * _pointing(looks[-2:], batch, len(sight.tokens), model.config)
        first = joined(sight, heard.sampled(each))
        if self.words:
            answer, mask = batch['answer'][::each], batch['answer_mask'][::each]
            found['words'] = self.words * generation_loss(model.text_logits(first, answer[:, :-1]), answer, mask)
        if self.dense:
            dense = dense_losses(
                model, model.add_text(sight) if silent else first, batch, ('depth', 'semseg'), rarity=self.rarity
            )
            found |= {name: self.dense * loss for name, loss in dense.items()}
        if rehearse:
            hidden = Pretrain().losses(model, batch, generator)
            found |= {f'hidden_{name}': loss for name, loss in hidden.items()}
        return found


STAGES: dict[str, type[Recipe]] = {'pretrain': Pretrain, 'vqa': Answer}


def run(
    recipe: Recipe,
    model: nn.Module,
    data: Any,
    *,
    tokenizer: Tokenizer,
    answers: Sequence[str],
    folder: str | Path,
    classes: Sequence[str] = (),
    seed: int = 0,
    sitting: TrainingSession = TrainingSession(),
    tell: Callable[[dict], None] = lambda entry: None,
    stop: Callable[[], bool] = lambda: False,
) -> tuple[Outcome, nn.Module, bool]:
    """Train a model in place, for one sitting.

    Args:
        recipe: Pretrain or Answer.
        model: an M3ET that has the heads that the recipe trains.
        data: map-style data set of Samples.
        tokenizer: for questions and answers.
        answers: candidates in the order of the answer head.
        classes: names of the segmentation classes, for questions that speak of them.
        folder: of state and log; made if need be.
        seed: of order, masks and every other choice.
        sitting: how long, how often, how many processes.
        tell, stop: see Trainer.run.

    Returns:
        Where the sitting ended; the model to deliver; whether this is the main process, the one that writes.

    Raises:
        InputError: a missing head, or as Trainer.run and training.state.
    """
    if isinstance(recipe, Answer) and (model.answer_head is None or 'text' not in model.config.tasks):
        raise InputError(
            'training',
            f'{model.config.name} lacks the answer head or the text decoder that stage 2 trains; build it with both.',
        )
    naming = None
    if isinstance(recipe, Answer):
        _start_answers(model.answer_head.layers[-1].bias)
        naming = Naming(tokenizer, classes) if recipe.pointing and classes else None
    trainer = Trainer(
        recipe,
        model,
        data,
        Collate(model.config, tokenizer, tuple(answers), naming),
        Path(folder),
        seed=seed,
        sitting=sitting,
    )
    outcome = trainer.run(tell, stop)
    return outcome, trainer.delivered, trainer.accelerator.is_main_process


def dense_losses(
    model: nn.Module,
    encoded: Any,
    batch: Mapping[str, Tensor],
    tasks: Sequence[str],
    *,
    hidden: Mapping[str, Tensor] | None = None,
    rarity: float = 0.0,
) -> dict[str, Tensor]:
    """Return the reconstruction losses of the tasks that model and batch have.

    Args:
        model: an M3ET.
        encoded: what its encoder saw.
        batch: with the targets rgb, depth_target and semseg.
        tasks: some of rgb, depth, semseg.
        hidden: modality to (B, n) bool, the patches that count; None, or a modality not named, counts all.
        rarity: of semseg_loss.
    """
    measures, found = {'rgb': rgb_loss, 'depth': depth_loss, 'semseg': partial(semseg_loss, rarity=rarity)}, {}
    for task in tasks:
        if task not in model.config.tasks or TARGETS[task] not in batch:
            continue
        target = batch[TARGETS[task]]
        counted = torch.ones(target.shape[:1] + target.shape[-2:], dtype=torch.bool, device=target.device)
        if hidden is not None and task in hidden:
            counted = patch_pixels(hidden[task], target.shape[-1] // model.config.grid)
        if task == 'depth':
            counted = counted & target[:, 0].isfinite()
        found[task] = measures[task](model.decode(encoded, task), target, counted)
    return found


def _pointing(
    looks: Sequence[HeadAttention], batch: Mapping[str, Tensor], modalities: int, config: M3ETConfig
) -> Tensor:
    """Mean pointing_loss of some layers."""
    presence = class_presence(batch['semseg'], config.classes, config.grid).repeat(1, modalities, 1)
    return torch.stack([pointing_loss(look, presence, batch['pointed']) for look in looks]).mean()


@torch.no_grad()
def _start_answers(bias: Tensor) -> None:
    """Let an untrained answer head start by giving each of A answers a chance of 1 in A.

    From 1 in 2 the sum over answers, and with it the clipped gradient, would speak of nothing else for long.
    """
    if bias.mean() > -1:  # a trained one is far below: of many answers few are right
        bias.fill_(-math.log(max(1, len(bias) - 1)))


def _check_share(name: str, value: float, *, above_zero: bool = False) -> None:
    if not 0 <= value <= 1 or (above_zero and value == 0):
        raise ValueError(f'{name} is {value!r}; give a share {"above 0" if above_zero else "from 0"} to 1')
