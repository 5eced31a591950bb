"""Visual question answering on cached kitchens: predictions and their accuracy (docs/papers.md 2.6, 7.1).

    samples = KitchenSamples(cache, noise=NOISE, length=4000)
    scores_of(ask(model, tokenizer, samples), samples.balance)

Questions are drawn evenly over families (balance.Balance), so the mean over samples is the mean over families.
Intervals are over kitchens.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import Dataset

from m3et_ros.data.calibration import Calibration
from m3et_ros.data.errors import InputError
from m3et_ros.data.kitchen.cache.dataset import SUBSETS, KitchenSamples
from m3et_ros.data.kitchen.questions.balance import Balance
from m3et_ros.data.kitchen.questions.frame_wordings import ANSWERS
from m3et_ros.data.noise import Noise
from m3et_ros.data.progress import Progress, no_progress
from m3et_ros.data.sample import Sample, collate
from m3et_ros.data.tokenizer import Tokenizer
from m3et_ros.evaluation.batches import (
    BATCH,
    cluster_of,
    in_batches,
    interval_json,
    measured,
    rounded,
    scored,
    shown_inputs,
)
from m3et_ros.evaluation.metrics.answers import exact_match
from m3et_ros.evaluation.metrics.calibration import calibration_error, calibration_rows
from m3et_ros.evaluation.metrics.intervals import Interval, bootstrap, mean_rows, ratio
from m3et_ros.evaluation.predictions import Prediction

NOISE = Noise(mirror=0)
"""The noise of training, without mirroring, because questions ask for left and right."""

NOT_CALIBRATED = Calibration()
SHOWN = ('rgb', 'depth')
BEYOND_A_FRAME = ('action_done', 'action_next')
"""Families that a single frame cannot answer; accuracy is reported with and without them."""

WORDS = 8
"""Most word pieces of a written answer (docs/papers.md 2.3)."""


def ask(
    model: nn.Module,
    tokenizer: Tokenizer,
    samples: Dataset[Sample],
    *,
    answers: Sequence[str] = ANSWERS,
    shown: Sequence[str] = SHOWN,
    write: bool = False,
    batch: int = BATCH,
    calibration: Calibration = NOT_CALIBRATED,
    progress: Progress = no_progress,
    what: str = 'questions',
) -> list[Prediction]:
    """Ask a model every question of a data set; returns one prediction for each sample, in order.

    Args:
        model: M3ET with an answer head; its device and mode are restored.
        tokenizer: tokenizer of the model.
        samples: map-style, with questions and answers.
        answers: candidates in the order of the answer head.
        shown: inputs of the model among rgb and depth; () leaves it blind.
        write: True lets the text decoder answer too.
        batch: samples at a time.
        calibration: of the odds of the answers.
        progress: see data.progress.Progress.
        what: description of the work for `progress`.

    Raises:
        ValueError: the model has no answer head, no text decoder to write with, or other modalities.
    """
    numbered = ((i, samples[i]) for i in progress(range(len(samples)), len(samples), what, 'question'))
    predictions: list[Prediction] = []
    with measured(model) as device:
        for group in in_batches(numbered, batch):
            prepared = collate([sample for _, sample in group], model.config, tokenizer, answers=answers)
            encoded = model.encode(shown_inputs(prepared, (*shown, 'text'), device))
            bonuses = torch.from_numpy(calibration.bonuses(answers, [sample.question for _, sample in group]))
            logits = model.answer_logits(encoded).float() + bonuses.to(device)
            best = (logits / calibration.temperature).softmax(-1).max(-1)
            written = _decoded_answers(model, encoded, tokenizer, len(group)) if write else [None] * len(group)
            for (index, sample), answer, number, confidence, text in zip(
                group, prepared.answers, best.indices.tolist(), best.values.tolist(), written, strict=True
            ):
                predictions.append(
                    Prediction(
                        index=index,
                        key=sample.key,
                        cluster=cluster_of(sample),
                        family=sample.family,
                        question=sample.question,
                        answer=answer,
                        predicted=answers[number],
                        closed=sample.closed,
                        score=sample.answers.get(answers[number], 0.0),
                        confidence=rounded(confidence),
                        written=text,
                        written_score=None if text is None else exact_match(text, answer),
                    )
                )
    return sorted(predictions, key=lambda prediction: prediction.index)


def _decoded_answers(model: nn.Module, encoded: Any, tokenizer: Tokenizer, count: int) -> list[str]:
    """Return the answers of the text decoder."""
    most = min(WORDS, model.config.text_length)
    steps = [ids for ids, _ in model.generate(encoded, bos=tokenizer.cls, eos=tokenizer.sep, max_tokens=most)]
    if not steps:
        return [''] * count
    return [tokenizer.decode(ids) for ids in torch.stack(steps, 1).tolist()]


def vqa_scores(
    predictions: Sequence[Prediction], balance: Balance | None = None, *, field: str = 'score'
) -> dict[str, Any]:
    """Score predictions for JSON, next to exact blind baselines.

    best_blind is the accuracy of a model that knows all odds of these questions but no image; majority that of one that
    knows the commonest answer of each family. `forms` has the accuracy of open and of closed questions, over all
    families and of each, where the data set knows the form. calibration_error is the expected calibration error of the
    answer head.

    Args:
        predictions: predictions of one subset.
        balance: odds by which the questions were drawn; None leaves the baselines out.
        field: 'score' for the answer head, 'written_score' for the text decoder.

    Raises:
        ValueError: there are no predictions.
    """
    scores = np.array([getattr(prediction, field) for prediction in predictions])
    kitchens = [prediction.cluster for prediction in predictions]
    families = np.array([prediction.family for prediction in predictions])
    lines = {'best_blind': balance.best_blind(), 'majority': balance.majority()} if balance else {}
    result = {'samples': len(predictions), **_part(scores, kitchens, lines), 'families': {}}
    confidences = [one.confidence for one in predictions if one.confidence is not None]
    if field == 'score' and len(confidences) == len(predictions):
        rows = calibration_rows(confidences, scores)
        # Its bins add up absolute values, so it is too large even for a model that is calibrated: no interval covers.
        error = Interval(float(calibration_error(rows.sum(0))), None, None, len(set(kitchens)))
        result['calibration_error'] = interval_json(error)
    forms = {'open': False, 'closed': True}
    of_form = {name: np.array([p.closed is closed for p in predictions]) for name, closed in forms.items()}
    result['forms'] = {name: _part(scores, kitchens, {}, where) for name, where in of_form.items() if where.any()}
    one_frame = ~np.isin(families, BEYOND_A_FRAME)
    if one_frame.any():
        within = {
            name: {family: value for family, value in line.items() if family not in BEYOND_A_FRAME}
            for name, line in lines.items()
        }
        result['answerable_from_one_frame'] = _part(scores, kitchens, within, one_frame)
    for family in sorted(set(families)):
        own = {name: {family: line[family]} for name, line in lines.items()}
        result['families'][str(family)] = _part(scores, kitchens, own, families == family) | {
            'forms': {
                name: _part(scores, kitchens, {}, where & (families == family))
                for name, where in of_form.items()
                if (where & (families == family)).any()
            }
        }
    return result


def _part(
    scores: np.ndarray, kitchens: list[str], lines: dict[str, dict[str, float]], where: np.ndarray | None = None
) -> dict[str, Any]:
    """Return the accuracy of some samples, and the blind baselines of their families with equal weights."""
    chosen = np.flatnonzero(np.ones(len(scores), bool) if where is None else where)
    accuracy = scored(mean_rows(scores[chosen]), ratio, [kitchens[i] for i in chosen])
    blind = {name: float(np.mean(list(line.values()))) for name, line in lines.items()}
    above = {f'above_{name}': rounded(accuracy['value'] - value) for name, value in blind.items()}
    return {'accuracy': accuracy, 'samples': len(chosen)} | {n: rounded(v) for n, v in blind.items()} | above


def scores_of(predictions: Sequence[Prediction], balance: Balance | None = None) -> dict[str, Any]:
    """Score the answer head as vqa_scores does, and the text decoder, if it answered, under 'written'."""
    scores = vqa_scores(predictions, balance)
    if predictions[0].written is not None:
        scores['written'] = vqa_scores(predictions, balance, field='written_score')
    return scores


def subset_samples(
    folders: Path | Sequence[Path],
    *,
    length: int,
    noise: Noise | None = NOISE,
    seed: int = 0,
    subsets: Sequence[str] = SUBSETS,
) -> tuple[dict[str, KitchenSamples], dict[str, str]]:
    """Draw equally many questions of each subset of a cache.

    Args:
        folders: one or several caches.
        length: questions of each subset.
        noise: noise of the camera; None for clean images.
        seed: seed of the draws and the noise.
        subsets: names of the subsets.

    Returns:
        Subset to samples, and subset to the reason why it has none.

    Raises:
        ValueError: even 'all' has no questions.
        InputError: a folder is not a cache.
    """
    found, empty = {}, {}
    for subset in subsets:
        try:
            found[subset] = KitchenSamples(folders, subset=subset, noise=noise, length=length, seed=seed)
        except InputError:
            raise
        except ValueError as error:
            if subset == 'all':
                raise
            empty[subset] = str(error)
    return found, empty


def gap(seen: Sequence[Prediction], other: Sequence[Prediction]) -> dict[str, Any] | None:
    """Return the gap between the accuracy on seen and on other questions, over their common families.

    Returns:
        The families, both accuracies and 'points': seen minus other in 0..1; None without a common family.
    """
    common = sorted({prediction.family for prediction in seen} & {prediction.family for prediction in other})
    if not common:
        return None
    sides = [[prediction for prediction in side if prediction.family in common] for side in (seen, other)]
    scores = [mean_rows([prediction.score for prediction in side]) for side in sides]
    clusters = [[prediction.cluster for prediction in side] for side in sides]

    def difference(sums: np.ndarray) -> np.ndarray:
        return ratio(sums[..., :2]) - ratio(sums[..., 2:])

    # Each row has four sums, and those of the other side are zero.
    rows = np.concatenate([np.pad(scores[0], ((0, 0), (0, 2))), np.pad(scores[1], ((0, 0), (2, 0)))])
    return {
        'families': common,
        'seen': scored(scores[0], ratio, clusters[0]),
        'other': scored(scores[1], ratio, clusters[1]),
        'points': interval_json(bootstrap(rows, difference, clusters[0] + clusters[1])),
    }
