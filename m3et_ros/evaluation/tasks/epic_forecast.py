"""What models of past actions expect next: probabilities, and scores corrected for mean top-5 recall (docs/papers.md 9.2).

Top-1 accuracy wants the likeliest class; class-mean recall wants rare classes named when they are likelier than usual.
So there are two rankings of the same probabilities, 'plain' and 'corrected', and every table says which.

An n-gram may answer beside the models: p = (1 - share) p_models + share p_ngram, which helps top-1 accuracy as one
more member of another kind does.

Symbols: N targets, T of a batch, V verbs, M nouns, K listed actions.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from m3et_ros.data.checkpoints.history import TASKS, Correction, Expert, HistoryCheckpoint
from m3et_ros.data.epic.history import HistoryWindows
from m3et_ros.data.progress import Progress, no_progress
from m3et_ros.evaluation.batches import measured
from m3et_ros.evaluation.metrics.epic import BEST
from m3et_ros.evaluation.metrics.ranking import label_ranks, mean_topk_recall, topk_accuracy
from m3et_ros.models.actions.history import HistoryModel
from m3et_ros.models.actions.ngram import MEMORY, NGram, NGramSettings

PLAIN, CORRECTED = 'plain', 'corrected'
TOGETHER = 4
"""Windows at a time, to bound memory."""

TAUS = (0.0, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
FLOORS = (1.0, 3.0, 10.0, 30.0, 100.0)
"""What is tried for a correction."""

SHARES = (0.0, 0.1, 0.2, 0.3, 0.4)
"""What is tried for the n-gram."""


@dataclass(frozen=True)
class Forecast:
    """Scores of N targets in the order of the file; higher is better."""

    # Log probabilities (N, V) float32.
    verb: np.ndarray
    # Log probabilities (N, M) float32.
    noun: np.ndarray
    # Kind (plain, corrected) to verb * 1000 + noun of the best actions (N, K) int64 and their scores (N, K) float32.
    actions: Mapping[str, tuple[np.ndarray, np.ndarray]]

    def scores(self, task: str, correction: Correction, counts: np.ndarray) -> np.ndarray:
        """Corrected scores of verbs or nouns."""
        return getattr(self, task) - correction.penalty(counts)


class Panel:
    """Models, and perhaps an n-gram, that answer together.

    Args:
        members: models of one config.
        expert: the n-gram; None leaves the models alone.
        pairs: verb * 1000 + noun of its classes, in order.
    """

    def __init__(self, members: Sequence[HistoryModel], expert: Expert | None = None, pairs: Sequence[int] = ()):
        self.members, self.expert, config = tuple(members), expert, members[0].config
        pairs = np.array(pairs, np.int64)
        # Places of the pairs in actions (M, V) laid out in a row.
        self._places = torch.as_tensor(pairs % 1000 * config.verbs + pairs // 1000)

    def answers(self, batch: Mapping[str, Tensor], data: HistoryWindows) -> tuple[Tensor, Tensor, Tensor]:
        """Log probabilities of verbs (T, V), nouns (T, M) and actions (T, M, V), float32.

        That of a verb is the mean of what the models say when asked for the verb alone and of the sum over nouns.

        Args:
            batch: of data.collate, on the device of the models.
            data: which the batch is of.
        """
        verbs, actions = [], []
        for member in self.members:
            seen = member.context(batch)
            actions.append(member.actions(seen).float())
            verbs.append(member.verbs(seen).float().log_softmax(-1))
        action = _mean(actions)
        if self.expert is not None and self.expert.share:
            action = self.blend(action, self.guesses(batch['target'].tolist(), data), self.expert.share)
        return _mean([_mean(verbs), action.logsumexp(1)]), action.logsumexp(2), action

    def guesses(self, targets: Sequence[int], data: HistoryWindows) -> Tensor:
        """Probabilities (T, pairs) of the n-gram, float32."""
        contexts = [data.pasts.context(place, data.pair, MEMORY) for place in targets]
        found = [self.expert.counts.probabilities(context, self.expert.line) for context in contexts]
        return torch.as_tensor(np.stack(found), dtype=torch.float32)

    def blend(self, action: Tensor, guesses: Tensor, share: float) -> Tensor:
        """Log probabilities (T, M, V) with a share of guesses (T, pairs)."""
        flat, places = action.flatten(1) + math.log(1 - share), self._places.to(action.device)
        own = torch.logaddexp(flat[:, places], (share * guesses.to(action.device)).log())
        flat[:, places] = own
        return flat.view_as(action)


def forecast(
    checkpoint: HistoryCheckpoint,
    data: HistoryWindows,
    *,
    device: str = 'cpu',
    best: int = BEST,
    progress: Progress = no_progress,
) -> Forecast:
    """Anticipate every target.

    Args:
        checkpoint: models and corrections.
        data: windows that hold each segment of a file as a target once.
        device: for the models, which are left there.
        best: K, or the number of pairs where there are fewer.
        progress: is told how far along it is.

    Raises:
        ValueError: a target is missing or asked for twice.
    """
    config, size = checkpoint.config, len(data.pasts)
    best = min(best, config.verbs * config.nouns)
    penalties = {PLAIN: None, CORRECTED: checkpoint.corrections['action'].penalty(checkpoint.counts('action'))}
    verb, noun = np.empty((size, config.verbs), np.float32), np.empty((size, config.nouns), np.float32)
    actions = {kind: (np.empty((size, best), np.int64), np.empty((size, best), np.float32)) for kind in penalties}
    asked = np.zeros(size, int)
    panel = Panel(checkpoint.members, checkpoint.expert, sorted(checkpoint.pairs))
    for places, batch in _batches(checkpoint.members, data, device, progress):
        rows = data.pasts.order[places]
        asked[rows] += 1
        verbs, nouns, joint = panel.answers(batch, data)
        verb[rows], noun[rows] = verbs.cpu().numpy(), nouns.cpu().numpy()
        for kind, penalty in penalties.items():
            scores = joint if penalty is None else joint - torch.as_tensor(penalty, device=joint.device)
            found = scores.flatten(1).topk(best)
            ids = found.indices.cpu().numpy()
            actions[kind][0][rows] = ids % config.verbs * 1000 + ids // config.verbs
            actions[kind][1][rows] = found.values.cpu().numpy()
    if not (asked == 1).all():
        raise ValueError(f'{int((asked != 1).sum())} of {size} targets are not asked for once; give all windows')
    return Forecast(verb, noun, actions)


def choose_share(panel: Panel, data: HistoryWindows, *, device: str = 'cpu', progress: Progress = no_progress) -> float:
    """The share of the n-gram with the best top-1 accuracy of actions.

    Args:
        panel: models and n-gram, whose own share does not count.
        data: windows of videos that neither has learnt from.
        device, progress: as in forecast.
    """
    hits, models = dict.fromkeys(SHARES, 0), Panel(panel.members)
    for places, batch in _batches(panel.members, data, device, progress):
        truth = batch['noun'] * panel.members[0].config.verbs + batch['verb']
        truth[(batch['noun'] < 0) | (batch['verb'] < 0)] = -1
        action, guesses = models.answers(batch, data)[2], panel.guesses(places.tolist(), data)
        for share in SHARES:
            mixed = panel.blend(action, guesses, share) if share else action
            hits[share] += int((mixed.flatten(1).argmax(1) == truth).sum())
    return max(SHARES, key=lambda share: hits[share])


def choose(
    panel: Panel,
    data: HistoryWindows,
    counts: Mapping[str, np.ndarray],
    *,
    device: str = 'cpu',
    progress: Progress = no_progress,
) -> dict[str, Correction]:
    """The corrections with the best mean top-5 recall on videos that the models have not learnt from.

    Args:
        panel: models and n-gram.
        data: windows of those videos.
        counts: by task, as HistoryCheckpoint.counts.
        device, progress: as in forecast.

    Raises:
        ValueError: there is no target whose class is known.
    """
    tried = [Correction(tau, floor) for tau in TAUS for floor in (FLOORS if tau else FLOORS[:1])]
    ranks: dict[tuple[str, Correction], list[np.ndarray]] = {(t, c): [] for t in TASKS for c in tried}
    labels: dict[str, list[np.ndarray]] = {task: [] for task in TASKS}
    for _, batch in _batches(panel.members, data, device, progress):
        known = (batch['verb'] >= 0) & (batch['noun'] >= 0)
        verb, noun = batch['verb'][known], batch['noun'][known]
        truth = {'verb': verb, 'noun': noun, 'action': noun * counts['action'].shape[1] + verb}
        for task, scores in zip(TASKS, panel.answers(batch, data)):
            own = scores.flatten(1)[known]
            labels[task].append(truth[task].cpu().numpy())
            corrected = torch.empty_like(own)  # one for all: new ones would cost more than the work
            for correction in tried:
                penalty = torch.as_tensor(correction.penalty(counts[task]), device=own.device).flatten()
                ranks[task, correction].append(_ranks(torch.sub(own, penalty, out=corrected), truth[task]))
    wanted = {task: np.concatenate(found) for task, found in labels.items()}
    return {
        task: max(tried, key=lambda c: mean_topk_recall(np.concatenate(ranks[task, c]), wanted[task])) for task in TASKS
    }


def on_device(batch: Mapping[str, Any], device: str | torch.device) -> dict[str, Any]:
    """A batch with its tensors on a device."""
    return {name: value.to(device) for name, value in batch.items()}


def _batches(
    members: Sequence[HistoryModel], data: HistoryWindows, device: str, progress: Progress
) -> Iterator[tuple[np.ndarray, dict[str, Tensor]]]:
    """Places of targets and their batch, members in evaluation mode on the device."""
    starts: Iterable[int] = range(0, len(data), TOGETHER)
    with ExitStack() as stack:
        for member in members:
            stack.enter_context(measured(member.to(device)))
        for start in progress(starts, -(-len(data) // TOGETHER), 'anticipating', 'batch'):
            batch, _ = data.collate([data[i] for i in range(start, min(start + TOGETHER, len(data)))])
            yield batch['target'].numpy(), on_device(batch, device)


def _ranks(scores: Tensor, labels: Tensor) -> np.ndarray:
    """How many classes of (T, C) score above each label (T,); quicker than ranking.label_ranks, ties aside."""
    return (scores > scores.gather(1, labels[:, None])).sum(1).cpu().numpy()


def _mean(logs: Sequence[Tensor]) -> Tensor:
    """Logarithm of the mean of probabilities given as logarithms."""
    if len(logs) == 1:
        return logs[0]
    return torch.stack(tuple(logs)).logsumexp(0) - math.log(len(logs))


# MERGED m3et_ros/evaluation/ngram: Reference lines for anticipation from past labels: prior, repetition, n-grams with back-off, recency cache (9.2).
#
# MERGED Every line sees the labels of one task (verbs, nouns or actions) that have ended when it must answer, newest last.
#
# MERGED Symbols: N targets, C classes, c a class, a1 the newest label, a2 the one before, n(...) counts over training targets.
# MERGED     p0(c) = (n(c) + 1/C) / (n + 1)                          prior
# MERGED     p1(c) = (n(a1, c) + m p0(c)) / (n(a1) + m)              bigram, falling back on the prior
# MERGED     p2(c) = (n(a2, a1, c) + m p1(c)) / (n(a2, a1) + m)      trigram, falling back on the bigram
# MERGED     p(c)  = (1 - s) p2(c) + s sum_j r^j [c = a_j] / sum_j r^j, the cache, j = 1 the newest
# MERGED     score = log p(c) - t log p0(c)                          prior-corrected where t > 0, for mean top-5 recall
TOP1, RECALL = 'top1', 'mean_top5_recall'
"""What settings are chosen by."""


def candidates(kind: str) -> Iterator[tuple[str, tuple[float, ...]]]:
    """Fields of a Line and the values that are tried for it, in the order in which they are settled."""
    yield 'cache', (0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8)
    yield 'decay', (0.6, 0.7, 0.8, 0.9, 0.95)
    yield 'backoff', (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
    if kind == RECALL:
        yield 'tau', (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)


CHUNK = 1024
"""Histories scored at a time."""


def ngram_ranks(
    model: NGram, contexts: Sequence[Sequence[int]], labels: np.ndarray, line: NGramSettings | None
) -> np.ndarray:
    """Rank the true labels among the scores of an n-gram model.

    Args:
        contexts: N histories of labels, oldest first.
        labels: (N,) the labels that came next.
        line: the settings of the model; None ranks by repeating the last labels.

    Returns:
        (N,) ranks, 0 for the highest score.
    """
    parts = []
    for start in range(0, len(contexts), CHUNK):
        chunk = contexts[start : start + CHUNK]
        scores = model.repeated(chunk) if line is None else model.scores(chunk, line)
        parts.append(label_ranks(scores, labels[start : start + CHUNK]))
    return np.concatenate(parts)


def tune(
    model: NGram, contexts: Sequence[Sequence[int]], labels: np.ndarray, kind: str, *, rounds: int = 2
) -> NGramSettings:
    """Choose the settings of trigram and cache on targets that the counts have not seen, one field after another.

    Args:
        model: counts.
        contexts, labels: of videos that are neither counted nor scored later.
        kind: TOP1 or RECALL, what is made as high as possible.
        rounds: how often every field is gone over.

    Raises:
        ValueError: the kind is unknown.
    """
    if kind not in (TOP1, RECALL):
        raise ValueError(f'kind is {kind!r}; give {TOP1} or {RECALL}')

    def worth(line: NGramSettings) -> float:
        ranks = ngram_ranks(model, contexts, labels, line)
        return topk_accuracy(ranks, 1) if kind == TOP1 else mean_topk_recall(ranks, labels)

    line, best = NGramSettings(cache=0.1, tau=0.4 * (kind == RECALL)), -1.0
    for _ in range(rounds):
        for field, values in candidates(kind):
            for value in values:
                trial = replace(line, **{field: value})
                if (found := worth(trial)) > best:
                    line, best = trial, found
    return line
