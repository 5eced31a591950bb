"""Calibrate a trained model on validation kitchens: the odds of its answers and the scores of its frames.

    labels = replace(checkpoint.labels, calibration=calibrate(checkpoint, asked, shown))

The frames should come from own and other cameras alike, with the noise of training, and from no kitchen of training.
"""

from collections.abc import Collection

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from m3et_ros.data.calibration import STEPS, Calibration
from m3et_ros.data.checkpoints.m3et import Checkpoint
from m3et_ros.data.frame import Frame
from m3et_ros.data.progress import Progress, no_progress
from m3et_ros.data.sample import Sample, collate
from m3et_ros.evaluation.batches import in_batches, measured, shown_inputs
from m3et_ros.evaluation.metrics.temperature import fit_temperature
from m3et_ros.evaluation.metrics.untaught import fit_bonus
from m3et_ros.runtime.domain import domain_score
from m3et_ros.runtime.engine import Engine

DIGITS = 5
"""Digits of the stored figures."""


def calibrate(
    checkpoint: Checkpoint,
    asked: Dataset[Sample],
    shown: Dataset[Sample],
    *,
    untaught: Collection[str] = (),
    min_confidence: float = 0.0,
    progress: Progress = no_progress,
) -> Calibration:
    """Measure how sure a model may be.

    Args:
        checkpoint: the trained model.
        asked: samples with a question each, of validation kitchens; a few thousand.
        shown: samples without questions, of validation kitchens; several hundred frames.
        untaught: answers that no question of training had.
        min_confidence: stored as it is.
        progress: see data.progress.Progress.

    Raises:
        ValueError: no question has an answer that the model knows.
    """
    logits, answers, questions = answer_scores(checkpoint, asked, progress=progress)
    marked = Calibration(untaught=dict.fromkeys(untaught, 1.0))
    marks = torch.from_numpy(marked.bonuses(checkpoint.labels.answers, questions))
    bonus = fit_bonus(logits, answers, marks > 0)
    return Calibration(
        round(fit_temperature(logits + bonus * marks, answers), DIGITS),
        min_confidence,
        domain_quantiles(checkpoint, shown, progress),
        dict.fromkeys(sorted(untaught), bonus),
    )


def answer_scores(
    checkpoint: Checkpoint, samples: Dataset[Sample], *, batch: int = 32, progress: Progress = no_progress
) -> tuple[Tensor, Tensor, list[str]]:
    """Return the answer logits (N, answers) of questions, the positions (N,) of their right answers, and their texts.

    Questions whose answer the model does not know are left out.
    """
    model, place = checkpoint.model, {answer: i for i, answer in enumerate(checkpoint.labels.answers)}
    logits, answers, questions = [], [], []
    count = len(samples)  # type: ignore[arg-type]
    with measured(model) as device:
        numbered = ((i, samples[i]) for i in progress(range(count), count, 'answers', 'question'))
        for group in in_batches(numbered, batch):
            known = [sample for _, sample in group if sample.answer in place]
            if known:
                prepared = collate(known, model.config, checkpoint.tokenizer, answers=checkpoint.labels.answers)
                encoded = model.encode(shown_inputs(prepared, ('rgb', 'depth', 'text'), device))
                logits.append(model.answer_logits(encoded).float().cpu())
                answers += [place[sample.answer] for sample in known]
                questions += [sample.question for sample in known]
    scores = torch.cat(logits) if logits else torch.empty(0, len(place))
    return scores, torch.tensor(answers, dtype=torch.int64), questions


def domain_quantiles(
    checkpoint: Checkpoint, samples: Dataset[Sample], progress: Progress = no_progress
) -> dict[str, tuple[float, ...]]:
    """Return the quantiles of the score of frames, with their depth and from colours alone, as Calibration has them."""
    if 'semseg' not in checkpoint.model.config.tasks:
        return {}
    engine, scores = Engine(checkpoint), dict[str, list[float]]()
    count = len(samples)  # type: ignore[arg-type]
    for i in progress(range(count), count, 'frames', 'frame'):
        sample = samples[i]
        for depth in (sample.depth, None) if sample.depth is not None else (None,):
            view = engine.encode(Frame(sample.rgb, depth))
            score = domain_score(view.inputs, engine.decode(view, ['semseg'])['semseg'])
            scores.setdefault('+'.join(view.inputs), []).append(score)
    return {
        name: tuple(np.quantile(found, np.linspace(0, 1, STEPS + 1)).round(DIGITS).tolist())
        for name, found in scores.items()
    }
