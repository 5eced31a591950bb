"""The paper's two stages as recipes: masked pre-training, then question answering (docs/papers.md 2.4, 2.5).

The defaults suit the size `kitchen` at 112 pixels on a few CPU cores, not ImageNet.

Symbols: B batch, Q questions per sample, S image side, s segmentation side, n patches of an image, T text tokens,
    P pairs of a token and a class.
Batch, from Collate: rgb (B, 3, S, S), depth (B, 1 or 2, S, S), semseg (B, s, s), text and text_mask (B * Q, T), each
    if the samples have it; depth_target (B, 1, S, S), NaN where unknown; scores (B * Q, answers); answer and
    answer_mask (B * Q, words + 2); asked (B * Q,) bool; pointed (B * Q, P, 2), tokens with the classes that they name.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from m3et_ros.data.checkpoints.m3et import Checkpoint
from m3et_ros.data.class_names import ClassNames
from m3et_ros.data.errors import InputError
from m3et_ros.data.sample import Sample, collate
from m3et_ros.data.tokenizer import Tokenizer
from m3et_ros.models.config_checks import check_number, check_whole
from m3et_ros.models.m3et.answers import PlacedAnswerHead
from m3et_ros.models.m3et.config import IMAGE_MODALITIES, M3ETConfig
from m3et_ros.models.m3et.encoding import joined
from m3et_ros.models.m3et.masking import draw, visible_total
from m3et_ros.models.m3et.question_groups import encode_questions
from m3et_ros.training.loop import Outcome, train
from m3et_ros.training.losses import (
    answer_loss,
    class_presence,
    depth_loss,
    generation_loss,
    patch_pixels,
    pointing_loss,
    rgb_loss,
    semseg_loss,
    slots_loss,
)
from m3et_ros.training.recipe import Recipe, check_share
from m3et_ros.training.run_state import WHOLE_RUN, TrainingSession

WORDS = 8
"""Most word pieces of a generated answer (docs/papers.md 2.3)."""

TARGETS = {'rgb': 'rgb', 'depth': 'depth_target', 'semseg': 'semseg'}


@dataclass(frozen=True)
class Collate:
    """Turn samples into the tensors of a batch and the keys that identify the samples in messages."""

    # Config of the model.
    config: M3ETConfig
    # Tokenizer of questions and answers.
    tokenizer: Tokenizer
    # Candidate answers in the order of the answer head.
    answers: tuple[str, ...]
    # Finds the classes that questions and answers name; None omits `pointed`.
    naming: ClassNames | None = None

    def __call__(self, samples: Sequence[Sample]) -> tuple[dict[str, Tensor], list[str]]:
        """Return tensors by name (see the module docstring) and B keys."""
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
        """Pair positions in M3ET.encode_text's sequence with the classes that the words there name.

        The global token is paired with every class that the question or its answer names.

        Returns:
            (B * Q, P, 2) int64, filled up with -1 for questions with fewer than P pairs.
        """
        length, rows = text_mask.shape[1], []
        for question, answer, words in zip(questions, answers, text_mask.sum(1).tolist(), strict=True):
            first = length - words + 1
            rows.append(
                [
                    (first + position, number)
                    for position, number in self.naming.pieces(question)
                    if position < words - 2
                ]
                + [(length, number) for number in self.naming.classes(f'{question} {answer}')]
            )
        pointed = torch.full((len(rows), max(map(len, rows)), 2), -1)
        for target, row in zip(pointed, rows, strict=True):
            target[: len(row)] = torch.tensor(row, dtype=torch.int64).view(-1, 2)
        return pointed


@dataclass(frozen=True)
class Pretrain(Recipe):
    """Stage 1: hide most tokens of colour, depth and segmentation and predict them from the rest.

    Depth is also predicted where a visible patch was not measured.
    """

    # Modalities that are partly visible and predicted where hidden.
    modalities: tuple[str, ...] = IMAGE_MODALITIES
    # Share of the tokens that stays visible; the paper masks 70 %, MultiMAE 83.3 % (1/6 visible).
    visible: float = 0.30
    # Number of visible tokens in place of a share, 0 for the share; MultiMAE shows 98 of 588. A batch that lacks a
    # modality shows the same share of what it has.
    tokens: int = 0
    # Concentration of the Dirichlet that divides the visible tokens among the modalities; 1 is uniform (MultiMAE).
    alpha: float = 1.0
    # Show only a random non-empty subset of the modalities, which prepares the model for missing ones.
    subsets: bool = False

    def __post_init__(self):
        super().__post_init__()
        object.__setattr__(self, 'modalities', tuple(self.modalities))
        if not self.modalities or set(self.modalities) - set(IMAGE_MODALITIES):
            raise ValueError(f'modalities is {self.modalities}; give some of {", ".join(IMAGE_MODALITIES)}')
        check_share(self, 'visible', zero=False)
        check_whole(self, {'tokens': (0, 10**6)})
        if not 0 < self.alpha < math.inf:
            raise ValueError(f'alpha is {self.alpha!r}; give a number above 0')

    def share(self, config: M3ETConfig) -> float:
        """Return the share of the tokens that stays visible in a model.

        Raises:
            ValueError: the model has no more tokens than shall be visible.
        """
        most = config.image_tokens * len(set(self.modalities) & set(config.modalities))
        if self.tokens >= most:
            raise ValueError(f'tokens is {self.tokens}; give fewer than {most}, the tokens of the images of the model')
        return self.tokens / most if self.tokens else self.visible

    def losses(self, model: nn.Module, batch: Mapping[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        """Return rgb, depth and semseg: reconstruction losses of all that is hidden, weight 1 each."""
        inputs = {m: batch[m] for m in IMAGE_MODALITIES if m in self.modalities and m in batch}
        size = len(batch['rgb'])
        counts = dict.fromkeys(inputs, model.config.image_tokens)
        drawn = draw(
            counts,
            batch=size,
            total=visible_total(counts, share=self.share(model.config)),
            alpha=self.alpha,
            subsets=self.subsets,
            generator=generator,
        )
        device = batch['rgb'].device
        encoded = model.encode(inputs, visible=drawn.visible.to(device))
        hidden = {m: ~mask.to(device) for m, mask in drawn.masks.items()}
        return reconstruction_losses(
            model, encoded, batch, self.modalities, hidden=hidden, unmeasured=unmeasured_pixels(inputs)
        )


@dataclass(frozen=True)
class Answer(Recipe):
    """Stage 2: answer questions about a view by score and in words, and predict its depth and segmentation.

    A sample is a view with all its questions. The paper gives the encoder a tenth of the learning rate, with a factor
    of 0.75 from layer to layer. Here all layers learn at the same rate: after a short stage 1 without text the encoder
    has the most to learn.
    """

    samples: int = 64_000
    batch: int = 32
    lr: float = 8e-4
    # Weight of the binary cross-entropy over the candidate answers.
    answer: float = 1.0
    # Weight of the cross-entropy of the answer in words, from the text decoder; 0 omits it. Decoding costs more than
    # encoding a question, so only the first question of each view is answered in words.
    words: float = 0.5
    # Weight of pointing_loss in the last two T layers, 0 omits it: the first head of a word that names a class, and of
    # the global token of a question about it, attends to the patches of that class. This is an addition of ours; in the
    # paper the answers alone teach the meaning of words.
    pointing: float = 0.5
    # Weight of slots_loss, 0 omits it: the slots of a model that reads out places find the nouns of the question.
    slots: float = 0.2
    # Weight of depth and segmentation predicted from fully visible colour, depth and question; 0 omits them.
    dense: float = 1.0
    # Number of times that depth counts where the input holds none, 1 to 1000: holes are what a robot has filled.
    holes: float = 3.0
    # Extra weight of rare classes in the segmentation (losses.semseg_loss): small objects in a kitchen fill a
    # thousandth of the pixels that walls do.
    rarity: float = 0.6
    # Share of the micro-batches that also repeat stage 1, so that hidden patches stay predictable.
    rehearse: float = 0.25
    # Share of the micro-batches whose depth and segmentation are predicted without a question.
    silent: float = 0.5
    # Share of the micro-batches without depth, so that the model also serves a camera without depth.
    drop_depth: float = 0.15

    def __post_init__(self):
        super().__post_init__()
        check_share(self, 'rarity', 'rehearse', 'silent', 'drop_depth')
        check_number(self, dict.fromkeys(('answer', 'words', 'pointing', 'slots', 'dense'), (0, 1000)))
        check_number(self, {'holes': (1, 1000)})

    def losses(self, model: nn.Module, batch: Mapping[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        """Return answer, words, pointing, slots, depth, semseg; in some steps also the hidden_* losses of stage 1."""
        drop, silent, rehearse = (
            torch.rand(3, generator=generator) < torch.tensor([self.drop_depth, self.silent, self.rehearse])
        ).tolist()
        shown = ('rgb',) if drop else ('rgb', 'depth')
        inputs = {name: batch[name] for name in shown if name in batch}
        images = model.encode_images(inputs)
        each = len(batch['asked']) // len(batch['rgb'])
        attentions = [] if self.pointing and {'pointed', 'semseg'} <= batch.keys() else None
        if 'text' in batch:
            text = encode_questions(model, images, batch['text'], batch['text_mask'], head_attentions=attentions)
        else:
            text = model.encode_text(images)
        found = {'answer': self.answer * answer_loss(model.answer_logits(text), batch['scores'], batch['asked'])}
        if attentions:
            config = model.config
            presence = class_presence(batch['semseg'], config.classes, config.grid).repeat(1, len(images.tokens), 1)
            presence = presence.repeat_interleave(len(attentions[0].k) // len(presence), 0)
            errors = [pointing_loss(one, presence, batch['pointed']) for one in attentions[-2:]]
            found['pointing'] = self.pointing * torch.stack(errors).mean()
        if self.slots and model.readout is not None and 'pointed' in batch:
            found['slots'] = self.slots * slots_loss(model.readout.slot_weights(text), batch['pointed'])
        if model.config.images_hear and 'text' in batch:
            first = model.add_text(images, batch['text'][::each], batch['text_mask'][::each])
        else:
            first = joined(images, text.sampled(each))
        if self.words:
            answer, mask = batch['answer'][::each], batch['answer_mask'][::each]
            found['words'] = self.words * generation_loss(model.text_logits(first, answer[:, :-1]), answer, mask)
        if self.dense:
            encoded = model.add_text(images) if silent else first
            reconstructed = reconstruction_losses(
                model,
                encoded,
                batch,
                ('depth', 'semseg'),
                rarity=self.rarity,
                unmeasured=unmeasured_pixels(inputs),
                holes=self.holes,
            )
            found |= {name: self.dense * loss for name, loss in reconstructed.items()}
        if rehearse:
            hidden = Pretrain().losses(model, batch, generator)
            found |= {f'hidden_{name}': loss for name, loss in hidden.items()}
        return found


STAGES: dict[str, type[Recipe]] = {'pretrain': Pretrain, 'vqa': Answer}


def run(
    recipe: Recipe,
    checkpoint: Checkpoint,
    data: Any,
    folder: str | Path,
    *,
    seed: int = 0,
    session: TrainingSession = WHOLE_RUN,
) -> tuple[Outcome, nn.Module, bool]:
    """Train the model of a checkpoint in place for one session.

    Args:
        recipe: Pretrain or Answer.
        checkpoint: a model with the heads that the recipe trains, its tokenizer and its labels.
        data: map-style data set of Samples.
        folder: folder of state and log; created if missing.
        seed: seed of the order, the masks and every other random choice.
        session: duration, logging, and whether to resume.

    Returns:
        As loop.train.

    Raises:
        InputError: the model lacks a head or tokens (training), or as loop.train.
    """
    model, tokenizer, labels = checkpoint.model, checkpoint.tokenizer, checkpoint.labels
    naming = None
    if isinstance(recipe, Pretrain):
        try:
            recipe.share(model.config)
        except ValueError as error:
            raise InputError('training', f'{error}.') from error
    if isinstance(recipe, Answer):
        if model.answer_head is None or 'text' not in model.config.tasks:
            raise InputError(
                'training',
                f'{model.config.name} lacks the answer head or the text decoder that stage 2 trains; '
                'build it with both.',
            )
        _start_answers(model.answer_head)
        named = recipe.pointing or (recipe.slots and model.readout is not None)
        naming = ClassNames(tokenizer, labels.classes) if named and labels.classes else None
    collate_batch = Collate(model.config, tokenizer, tuple(labels.answers), naming)
    return train(recipe, model, data, collate_batch, folder, seed=seed, session=session)


def reconstruction_losses(
    model: nn.Module,
    encoded: Any,
    batch: Mapping[str, Tensor],
    tasks: Sequence[str],
    *,
    hidden: Mapping[str, Tensor] | None = None,
    rarity: float = 0.0,
    unmeasured: Tensor | None = None,
    holes: float = 1.0,
) -> dict[str, Tensor]:
    """Return the reconstruction losses of the tasks that both model and batch have.

    Args:
        model: an M3ET.
        encoded: output of its encoder.
        batch: holds the targets rgb, depth_target and semseg.
        tasks: some of rgb, depth, semseg.
        hidden: modality to (B, n) bool, the patches that count; all patches count for a modality that is not given.
        rarity: argument of semseg_loss.
        unmeasured: (B, S, S) bool, pixels without depth in the input, where depth counts in visible patches, too.
        holes: number of times that depth counts there.
    """
    weights = None if unmeasured is None or holes == 1 else 1 + (holes - 1) * unmeasured
    loss_of: dict[str, Any] = {
        'rgb': rgb_loss,
        'depth': partial(depth_loss, weights=weights),
        'semseg': partial(semseg_loss, rarity=rarity),
    }
    found = {}
    for task in tasks:
        if task not in model.config.tasks or TARGETS[task] not in batch:
            continue
        target = batch[TARGETS[task]]
        counted = torch.ones(target.shape[:1] + target.shape[-2:], dtype=torch.bool, device=target.device)
        if hidden is not None and task in hidden:
            counted = patch_pixels(hidden[task], target.shape[-1] // model.config.grid)
        if task == 'depth':
            counted = (counted if unmeasured is None else counted | unmeasured) & target[:, 0].isfinite()
        found[task] = loss_of[task](model.decode(encoded, task), target, counted)
    return found


def unmeasured_pixels(inputs: Mapping[str, Tensor]) -> Tensor | None:
    """Return where the input holds no measured depth, (B, S, S) bool; None without depth.

    Depth without validity has exactly 0 there (data.preprocess.depth_input).
    """
    if 'depth' not in inputs:
        return None
    return inputs['depth'][:, -1] == 0


@torch.no_grad()
def _start_answers(head: nn.Module) -> None:
    """Let an untrained answer head start from a probability of 1 / A for each of A answers.

    From a probability of 1 / 2 the sum over answers would dominate the clipped gradient for a long time.
    """
    bias = head.answer_bias() if isinstance(head, PlacedAnswerHead) else head.layers[-1].bias
    if bias.mean() <= -1:  # a trained bias is far below, because few of the many answers are right
        return
    start = -math.log(max(1, len(bias) - 1))
    if isinstance(head, PlacedAnswerHead):
        head.set_answer_bias(start)
    else:
        bias.fill_(start)
