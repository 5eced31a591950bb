"""Distil an M3ET into a hybrid whose attention is partly replaced by seeded Mamba-2 (MaTVLM; docs/papers.md 6).

The answers of the teacher to the questions about a view are imitated, and the outputs of its replaced layers. Only the
new mixers learn. Batches are those of training.m3et.Collate.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from m3et_ros.data.checkpoints.m3et import Checkpoint
from m3et_ros.data.errors import InputError
from m3et_ros.models.m3et.model import M3ET
from m3et_ros.models.vlm.matvlm import hybrid_m3et, spread
from m3et_ros.training.distil import IGNORED, DistilConfig, distil
from m3et_ros.training.loop import Outcome, train
from m3et_ros.training.m3et import Collate
from m3et_ros.training.recipe import Recipe
from m3et_ros.training.run_state import WHOLE_RUN, TrainingSession
from m3et_ros.training.talk import DistilledStudent


@dataclass(frozen=True)
class Imitate(Recipe):
    """Train the mixers of a hybrid M3ET to imitate its teacher; a sample is a view with all its questions."""

    samples: int = 16_000
    batch: int = 32
    lr: float = 1e-3
    weight_decay: float = 0.01
    clip: float = 0.5
    # Weights of the outputs of layers, of the answers, and of the right answers.
    layer: float = 1.0
    prob: float = 1.0
    ce: float = 0.0

    def __post_init__(self):
        super().__post_init__()
        DistilConfig(layer=self.layer, prob=self.prob, ce=self.ce)

    def losses(self, model: nn.Module, batch: Mapping[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        """Return layer, prob and ce, weighted; a loss of weight 0 is left out."""
        config = DistilConfig(layer=self.layer, prob=self.prob, ce=self.ce)
        best, right = batch['scores'].max(1)
        labels = right.masked_fill(~batch['asked'] | (best == 0), IGNORED)
        images = {name: batch[name] for name in ('rgb', 'depth') if name in batch}

        def answers(either: M3ET) -> Tensor:
            text = either.encode_text(either.encode_images(images), batch['text'], batch['text_mask'])
            return either.answer_logits(text)

        found = distil(model.teacher, model.student, answers, config=config, labels=labels, counted=batch['asked'])
        return {name: getattr(config, name) * loss for name, loss in found.items() if name != 'total'}


def replaced_layers(teacher: M3ET, share: float, kind: str = 'even') -> tuple[int, ...]:
    """Return the indices of the Transformer layers that become Mamba-2: a share of them, spread as matvlm.spread does.

    Raises:
        ValueError: the model has no Transformer layers; otherwise as spread.
    """
    layers = [index for index, letter in enumerate(teacher.config.schedule) if letter == 'T']
    if not layers:
        raise ValueError(f'the layers are {teacher.config.schedule}; give a model with Transformer layers (T)')
    return tuple(layers[place] for place in spread(len(layers), share, kind))


def imitate(
    recipe: Imitate,
    checkpoint: Checkpoint,
    data: Any,
    folder: str | Path,
    *,
    share: float,
    kind: str = 'even',
    seed: int = 0,
    session: TrainingSession = WHOLE_RUN,
) -> tuple[Outcome, M3ET, bool]:
    """Distil the model of a checkpoint for one session.

    Args:
        recipe: weights of the losses and budget.
        checkpoint: the teacher, with its answer head; it does not change.
        data: map-style data set of Samples with questions.
        folder: folder of state and log; created if missing.
        share: share of the Transformer layers that is replaced, above 0, at most 1.
        kind: one of matvlm.SPREADS.
        seed: seed of the new parameters, of the order and of the draws.
        session: duration, logging, and whether to resume.

    Returns:
        The point that the run has reached; the hybrid; whether this is the main process, which writes.

    Raises:
        InputError: the model answers nothing, has no layers to replace, or as loop.train.
    """
    teacher = checkpoint.model
    if teacher.answer_head is None:
        raise InputError('training', f'{checkpoint.model_id} answers no questions; give a model with an answer head.')
    try:
        student = hybrid_m3et(teacher, replaced_layers(teacher, share, kind), seed=seed)
    except ValueError as error:
        raise InputError('training', f'{error}.') from error
    collate = Collate(teacher.config, checkpoint.tokenizer, tuple(checkpoint.labels.answers))
    pair = DistilledStudent(student, teacher)
    outcome, trained, main = train(recipe, pair, data, collate, folder, seed=seed, session=session)
    return outcome, trained.student.eval(), main
