"""Questions to a model: its answers, and how often they are right (docs/papers.md 2.6, 7.1).

    vqa_run(model, tokenizer, KitchenSamples(cache, noise=NOISE, length=4000))

Questions are drawn evenly over families (balance.Balance), so the mean over samples is the mean over families.
Intervals are over kitchens.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import Dataset

from m3et_ros.data.errors import InputError
from m3et_ros.data.kitchen.cache.dataset import SUBSETS, KitchenSamples
from m3et_ros.data.kitchen.questions.balance import Balance
from m3et_ros.data.kitchen.questions.frame_wordings import ANSWERS
from m3et_ros.data.noise import Noise
from m3et_ros.data.progress import Progress, no_progress
from m3et_ros.data.sample import Batch, Sample, collate
from m3et_ros.data.tokenizer import Tokenizer
from m3et_ros.evaluation.batches import BATCH, in_batches, kitchen_of, measured, rounded, scored, shown_inputs, told
from m3et_ros.evaluation.metrics.answers import exact_match
from m3et_ros.evaluation.metrics.intervals import bootstrap, mean_rows, ratio

NOISE = Noise(mirror=0)
"""A camera as in training, without a mirror: which side is left is asked."""

SHOWN = ('rgb', 'depth')
BEYOND_A_FRAME = ('action_done', 'action_next')
"""Families that no single frame can answer; accuracy is reported with and without them."""

WORDS = 8
"""Most word pieces of a written answer (docs/papers.md 2.3)."""


@dataclass(frozen=True)
class Prediction:
    """What a model said to one question."""

    # Place in the data set.
    index: int
    # Where the sample came from.
    key: str
    family: str
    question: str
    # The right answer of the highest score.
    answer: str
    # The candidate that the answer head ranks first, and its probability among the candidates.
    predicted: str
    confidence: float
    # Score of the predicted answer, 0..1.
    score: float
    # What the text decoder wrote, and 1 where that is right; None where it was not asked.
    written: str | None = None
    written_score: float | None = None


def ask(
    model: nn.Module,
    tokenizer: Tokenizer,
    samples: Dataset[Sample],
    *,
    answers: Sequence[str] = ANSWERS,
    shown: Sequence[str] = SHOWN,
    write: bool = False,
    batch: int = BATCH,
    progress: Progress = no_progress,
    what: str = 'questions',
) -> list[Prediction]:
    """Put every question of a data set to a model.

    Args:
        model: M3ET with an answer head; it stays on its device and in its mode.
        tokenizer: of the model.
        samples: map-style, with questions and answers.
        answers: candidates in the order of the answer head.
        shown: which of rgb and depth the model sees; () leaves it blind.
        write: whether the text decoder answers, too.
        batch: samples at a time.
        progress: see feed.Progress.
        what: what watch says is being done.

    Returns:
        One reply for each sample, in order.

    Raises:
        ValueError: the model has no answer head, no text decoder though it shall write, or other modalities.
    """
    count = len(samples)
    numbered = ((i, samples[i]) for i in progress(range(count), count, what, 'question'))
    replies: list[Prediction] = []
    with measured(model) as device:
        for group in in_batches(numbered, batch):
            prepared = collate([sample for _, sample in group], model.config, tokenizer, answers=answers)
            encoded = model.encode(shown_inputs(prepared, (*shown, 'text'), device))
            best = model.answer_logits(encoded).float().softmax(-1).max(-1)
            written = _written(model, encoded, tokenizer, len(group)) if write else [None] * len(group)
            replies += _replies(
                group, prepared, [answers[i] for i in best.indices.tolist()], best.values.tolist(), written
            )
    return sorted(replies, key=lambda reply: reply.index)


def _written(model: nn.Module, encoded: Any, tokenizer: Tokenizer, count: int) -> list[str]:
    """Answers of the text decoder."""
    most = min(WORDS, model.config.text_length)
    steps = [ids for ids, _ in model.generate(encoded, bos=tokenizer.cls, eos=tokenizer.sep, max_tokens=most)]
    return [tokenizer.decode(ids) for ids in torch.stack(steps, 1).tolist()] if steps else [''] * count


def _replies(
    group: list[tuple[int, Sample]],
    prepared: Batch,
    predicted: list[str],
    confidence: list[float],
    written: list[str | None],
) -> list[Prediction]:
    return [
        Prediction(
            index,
            sample.key,
            sample.family,
            sample.question,
            answer,
            said,
            rounded(sure),
            sample.answers.get(said, 0.0),
            text,
            None if text is None else exact_match(text, answer),
        )
        for (index, sample), answer, said, sure, text in zip(group, prepared.answers, predicted, confidence, written)
    ]


def vqa_scores(
    replies: Sequence[Prediction], balance: Balance | None = None, *, field: str = 'score'
) -> dict[str, Any]:
    """Accuracy of replies, ready for JSON, next to what can be had without looking.

    best_blind is the accuracy of who knows all odds of these very questions and sees none of the pictures, majority of
    who knows the commonest answer of each family; both are exact, not sampled.

    Args:
        replies: of one subset.
        balance: the odds by which the questions were drawn; None leaves the blind lines out.
        field: 'score' for the answer head, 'written_score' for the text decoder.

    Raises:
        ValueError: no replies.
    """
    scores = np.array([getattr(reply, field) for reply in replies])
    kitchens = [kitchen_of(reply.key) for reply in replies]
    families = np.array([reply.family for reply in replies])
    lines = {'best_blind': balance.best_blind(), 'majority': balance.majority()} if balance else {}
    result = {'samples': len(replies), **_part(scores, kitchens, lines), 'families': {}}
    one_frame = ~np.isin(families, BEYOND_A_FRAME)
    if one_frame.any():
        within = {
            name: {family: value for family, value in line.items() if family not in BEYOND_A_FRAME}
            for name, line in lines.items()
        }
        result['answerable_from_one_frame'] = _part(scores, kitchens, within, one_frame)
    for family in sorted(set(families)):
        own = {name: {family: line[family]} for name, line in lines.items()}
        result['families'][str(family)] = _part(scores, kitchens, own, families == family)
    return result


def _part(
    scores: np.ndarray, kitchens: list[str], lines: dict[str, dict[str, float]], where: np.ndarray | None = None
) -> dict[str, Any]:
    """Accuracy of some samples and the blind lines of their families, all weighing alike."""
    chosen = np.flatnonzero(np.ones(len(scores), bool) if where is None else where)
    accuracy = scored(mean_rows(scores[chosen]), ratio, [kitchens[i] for i in chosen])
    blind = {name: float(np.mean(list(line.values()))) for name, line in lines.items()}
    above = {f'above_{name}': rounded(accuracy['value'] - value) for name, value in blind.items()}
    return {'accuracy': accuracy, 'samples': len(chosen)} | {n: rounded(v) for n, v in blind.items()} | above


def vqa_run(
    model: nn.Module, tokenizer: Tokenizer, samples: Dataset[Sample], *, write: bool = False, **options: Any
) -> dict[str, Any]:
    """Ask and score one data set at one go; options as in ask. With write, 'written' holds the text decoder's scores.

    Raises:
        ValueError: as ask.
    """
    replies = ask(model, tokenizer, samples, write=write, **options)
    return scores_of(replies, getattr(samples, 'balance', None))


def scores_of(replies: Sequence[Prediction], balance: Balance | None = None) -> dict[str, Any]:
    """vqa_scores of the answer head and, where there is one, of the text decoder under 'written'."""
    scores = vqa_scores(replies, balance)
    if replies[0].written is not None:
        scores['written'] = vqa_scores(replies, balance, field='written_score')
    return scores


def subset_samples(
    folders: Path | Sequence[Path],
    *,
    length: int,
    noise: Noise | None = NOISE,
    seed: int = 0,
    subsets: Sequence[str] = SUBSETS,
) -> tuple[dict[str, KitchenSamples], dict[str, str]]:
    """Questions of each subset of a cache, as many of each.

    Returns:
        Subset to samples, and subset to why it has none.

    Raises:
        ValueError: not even 'all' has questions.
        InputError: a folder is no cache.
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
    """How far the answers to other questions fall behind those to seen ones, over the families that both have.

    Returns:
        The families, both accuracies and 'points': seen less other in 0..1; None without a common family.
    """
    common = sorted({reply.family for reply in seen} & {reply.family for reply in other})
    if not common:
        return None
    sides = [[reply for reply in replies if reply.family in common] for replies in (seen, other)]
    rows = [np.stack([mean_rows([reply.score for reply in side])] * 2, 1) for side in sides]
    rows[0][:, 1], rows[1][:, 0] = 0, 0
    kitchens = [kitchen_of(reply.key) for side in sides for reply in side]

    def statistic(sums: np.ndarray) -> np.ndarray:
        return ratio(sums[..., :2]) - ratio(sums[..., 2:])

    accuracies = [
        scored(mean_rows([reply.score for reply in side]), ratio, [kitchen_of(r.key) for r in side]) for side in sides
    ]
    points = bootstrap(np.concatenate(rows).reshape(-1, 4), statistic, kitchens)
    return {'families': common, 'seen': accuracies[0], 'other': accuracies[1], 'points': told(points)}
