"""Forecast the next action from past labels: ensembles of models, n-grams, and their tuning (docs/papers.md 9.2).

Top-1 accuracy rewards the likeliest class; class-mean recall rewards rare classes that are likelier than usual. So the
same probabilities have two rankings, 'plain' and 'corrected' (divided by a power of the prior), and every table names
its ranking.

An n-gram may join the models: p = (1 - share) p_models + share p_ngram. It improves top-1 accuracy like any further
member of another kind. Alone it is a baseline: it reads the labels of one task (verbs, nouns or actions) that ended
before it must answer, newest last.

Symbols of the forecast: N targets, T of a batch, V verbs, M nouns, K listed actions.
Symbols of the n-gram (models.actions.ngram): C classes, c a class, a1 the newest label, a2 the one before, n(...)
counts over training targets.
    p0(c) = (n(c) + 1/C) / (n + 1)                          prior
    p1(c) = (n(a1, c) + m p0(c)) / (n(a1) + m)              bigram with back-off to the prior
    p2(c) = (n(a2, a1, c) + m p1(c)) / (n(a2, a1) + m)      trigram with back-off to the bigram
    p(c)  = (1 - s) p2(c) + s sum_j r^j [c = a_j] / sum_j r^j, the cache, j = 1 the newest
    score = log p(c) - t log p0(c)                          corrected by the prior where t > 0, for mean top-5 recall
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
from m3et_ros.evaluation.metrics.epic import BEST, action_id
from m3et_ros.evaluation.metrics.ranking import label_ranks, mean_topk_recall, topk_accuracy
from m3et_ros.models.actions.history import HistoryModel
from m3et_ros.models.actions.ngram import MEMORY, NGram, NGramSettings

PLAIN, CORRECTED = 'plain', 'corrected'
TOP1, RECALL = 'top1', 'mean_top5_recall'
"""Measures by which settings are chosen."""

WINDOWS = 4
"""Windows at a time, to bound memory."""

CHUNK = 1024
"""Histories that an n-gram scores at a time, to bound memory."""

TAUS = (0.0, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
FLOORS = (1.0, 3.0, 10.0, 30.0, 100.0)
"""Values that are tried for a correction."""

SHARES = (0.0, 0.1, 0.2, 0.3, 0.4)
"""Shares of the n-gram that are tried."""

NGRAM_FIELDS = {
    'cache': (0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8),
    'decay': (0.6, 0.7, 0.8, 0.9, 0.95),
    'backoff': (1.0, 2.0, 4.0, 8.0, 16.0, 32.0),
}
"""Fields of NGramSettings and the values that are tried, in the order of tuning."""

NGRAM_TAUS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
"""Values of tau that are tried for mean top-5 recall; top-1 accuracy takes 0."""


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
        """Return the corrected scores of verbs or nouns."""
        return getattr(self, task) - correction.penalty(counts)


class Ensemble:
    """Models, and perhaps an n-gram, whose probabilities are averaged.

    Args:
        members: models of one config.
        expert: the n-gram; None takes the models alone.
        pairs: verb * 1000 + noun of the classes of the n-gram, in order.
    """

    def __init__(self, members: Sequence[HistoryModel], expert: Expert | None = None, pairs: Sequence[int] = ()):
        self.members, self.expert, config = tuple(members), expert, members[0].config
        pairs = np.array(pairs, np.int64)
        # Positions of the pairs in flattened actions (M, V).
        self._positions = torch.as_tensor(pairs % 1000 * config.verbs + pairs // 1000)

    def predict(self, batch: Mapping[str, Tensor], data: HistoryWindows) -> tuple[Tensor, Tensor, Tensor]:
        """Return log probabilities of verbs (T, V), nouns (T, M) and actions (T, M, V), float32.

        The probability of a verb is the mean of the models' verb output and of the sum over nouns.

        Args:
            batch: as data.collate returns it, on the device of the models.
            data: windows of the batch.
        """
        verbs, actions = [], []
        for member in self.members:
            context = member.context(batch)
            actions.append(member.actions(context).float())
            verbs.append(member.verbs(context).float().log_softmax(-1))
        action = _mean(actions)
        if self.expert is not None and self.expert.share:
            action = self.blend(action, self.ngram_probabilities(batch['target'].tolist(), data), self.expert.share)
        return _mean([_mean(verbs), action.logsumexp(1)]), action.logsumexp(2), action

    def ngram_probabilities(self, targets: Sequence[int], data: HistoryWindows) -> Tensor:
        """Return the probabilities (T, pairs) of the n-gram, float32."""
        contexts = [data.histories.context(place, data.pair, MEMORY) for place in targets]
        found = [self.expert.counts.probabilities(context, self.expert.line) for context in contexts]
        return torch.as_tensor(np.stack(found), dtype=torch.float32)

    def blend(self, action: Tensor, ngram: Tensor, share: float) -> Tensor:
        """Mix a share of n-gram probabilities (T, pairs) into log probabilities (T, M, V)."""
        flat, positions = action.flatten(1) + math.log(1 - share), self._positions.to(action.device)
        flat[:, positions] = torch.logaddexp(flat[:, positions], (share * ngram.to(action.device)).log())
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
        data: windows that contain each segment of a file as a target exactly once.
        device: device of the models, which stay there.
        best: K; all pairs where there are fewer.
        progress: see data.progress.Progress.

    Raises:
        ValueError: a target is missing or occurs twice.
    """
    config, size = checkpoint.config, len(data.histories)
    best = min(best, config.verbs * config.nouns)
    penalties = {PLAIN: None, CORRECTED: checkpoint.corrections['action'].penalty(checkpoint.counts('action'))}
    verb, noun = np.empty((size, config.verbs), np.float32), np.empty((size, config.nouns), np.float32)
    actions = {kind: (np.empty((size, best), np.int64), np.empty((size, best), np.float32)) for kind in penalties}
    asked = np.zeros(size, int)
    ensemble = Ensemble(checkpoint.members, checkpoint.expert, sorted(checkpoint.pairs))
    for places, batch in _batches(checkpoint.members, data, device, progress):
        rows = data.histories.order[places]
        asked[rows] += 1
        verbs, nouns, joint = ensemble.predict(batch, data)
        verb[rows], noun[rows] = verbs.cpu().numpy(), nouns.cpu().numpy()
        for kind, penalty in penalties.items():
            scores = joint if penalty is None else joint - torch.as_tensor(penalty, device=joint.device)
            actions[kind][0][rows], actions[kind][1][rows] = best_actions(scores.cpu(), best)
    if not (asked == 1).all():
        raise ValueError(f'{int((asked != 1).sum())} of {size} targets do not occur exactly once; give all windows')
    return Forecast(verb, noun, actions)


def best_actions(scores: Tensor, best: int) -> tuple[np.ndarray, np.ndarray]:
    """List the best actions of scores (T, M, V), best first and the lower id first among equal scores.

    Returns:
        Ids verb * 1000 + noun (T, best) int64, and their scores (T, best).
    """
    # `topk` finds the least score of the list, but no fixed order of equal scores.
    flat = scores.transpose(1, 2).flatten(1)
    least, rows = flat.topk(best).values[:, -1:].numpy(), flat.numpy()
    order = np.empty((len(rows), best), np.int64)
    for own, row, limit in zip(order, rows, least, strict=True):
        candidates = np.flatnonzero(row >= limit)
        own[:] = candidates[np.argsort(-row[candidates], kind='stable')[:best]]
    return action_id(order // scores.shape[1], order % scores.shape[1]), np.take_along_axis(rows, order, 1)


def choose_share(
    ensemble: Ensemble, data: HistoryWindows, *, device: str = 'cpu', progress: Progress = no_progress
) -> float:
    """Return the share of the n-gram with the best top-1 accuracy of actions.

    Args:
        ensemble: models and n-gram; the share of the n-gram is ignored.
        data: windows of videos that neither was trained on.
        device: as in forecast.
        progress: as in forecast.
    """
    hits, models = dict.fromkeys(SHARES, 0), Ensemble(ensemble.members)
    for places, batch in _batches(ensemble.members, data, device, progress):
        truth = batch['noun'] * ensemble.members[0].config.verbs + batch['verb']
        truth[(batch['noun'] < 0) | (batch['verb'] < 0)] = -1
        action, ngram = models.predict(batch, data)[2], ensemble.ngram_probabilities(places.tolist(), data)
        for share in SHARES:
            mixed = ensemble.blend(action, ngram, share) if share else action
            hits[share] += int((mixed.flatten(1).argmax(1) == truth).sum())
    return max(SHARES, key=lambda share: hits[share])


def choose_corrections(
    ensemble: Ensemble,
    data: HistoryWindows,
    counts: Mapping[str, np.ndarray],
    *,
    device: str = 'cpu',
    progress: Progress = no_progress,
) -> dict[str, Correction]:
    """Return the corrections with the best mean top-5 recall.

    Args:
        ensemble: models and n-gram.
        data: windows of videos that the models were not trained on.
        counts: task to counts, as HistoryCheckpoint.counts returns them.
        device: as in forecast.
        progress: as in forecast.

    Raises:
        ValueError: no target has a known class.
    """
    tried = [Correction(tau, floor) for tau in TAUS for floor in (FLOORS if tau else FLOORS[:1])]
    ranks: dict[tuple[str, Correction], list[np.ndarray]] = {(t, c): [] for t in TASKS for c in tried}
    labels: dict[str, list[np.ndarray]] = {task: [] for task in TASKS}
    for _, batch in _batches(ensemble.members, data, device, progress):
        known = (batch['verb'] >= 0) & (batch['noun'] >= 0)
        verb, noun = batch['verb'][known], batch['noun'][known]
        truth = {'verb': verb, 'noun': noun, 'action': noun * counts['action'].shape[1] + verb}
        for task, scores in zip(TASKS, ensemble.predict(batch, data), strict=True):
            own = scores.flatten(1)[known]
            labels[task].append(truth[task].cpu().numpy())
            corrected = torch.empty_like(own)  # reused; allocation would cost more than the work
            for correction in tried:
                penalty = torch.as_tensor(correction.penalty(counts[task]), device=own.device).flatten()
                torch.sub(own, penalty, out=corrected)
                # Quicker than ranking.label_ranks, which breaks ties.
                above = (corrected > corrected.gather(1, truth[task][:, None])).sum(1)
                ranks[task, correction].append(above.cpu().numpy())
    wanted = {task: np.concatenate(found) for task, found in labels.items()}
    return {
        task: max(tried, key=lambda c: mean_topk_recall(np.concatenate(ranks[task, c]), wanted[task])) for task in TASKS
    }


def on_device(batch: Mapping[str, Any], device: str | torch.device) -> dict[str, Any]:
    """Move the tensors of a batch to a device."""
    return {name: value.to(device) for name, value in batch.items()}


def _batches(
    members: Sequence[HistoryModel], data: HistoryWindows, device: str, progress: Progress
) -> Iterator[tuple[np.ndarray, dict[str, Tensor]]]:
    """Yield places of targets and their batch, with the members in evaluation mode on the device."""
    starts: Iterable[int] = range(0, len(data), WINDOWS)
    with ExitStack() as stack:
        for member in members:
            stack.enter_context(measured(member.to(device)))
        for start in progress(starts, -(-len(data) // WINDOWS), 'anticipating', 'batch'):
            batch, _ = data.collate([data[i] for i in range(start, min(start + WINDOWS, len(data)))])
            yield batch['target'].numpy(), on_device(batch, device)


def _mean(logs: Sequence[Tensor]) -> Tensor:
    """Return the logarithm of the mean of probabilities given as logarithms."""
    if len(logs) == 1:
        return logs[0]
    return torch.stack(tuple(logs)).logsumexp(0) - math.log(len(logs))


def ngram_ranks(
    model: NGram, contexts: Sequence[Sequence[int]], labels: np.ndarray, settings: NGramSettings | None
) -> np.ndarray:
    """Rank the true labels among the scores of an n-gram model.

    Args:
        model: counts over training videos.
        contexts: N histories of labels, oldest first.
        labels: (N,) the labels that came next.
        settings: settings of the model; None ranks by repeating the last labels.

    Returns:
        (N,) ranks, 0 for the highest score.
    """
    parts = []
    for start in range(0, len(contexts), CHUNK):
        chunk = contexts[start : start + CHUNK]
        scores = model.repeated(chunk) if settings is None else model.scores(chunk, settings)
        parts.append(label_ranks(scores, labels[start : start + CHUNK]))
    return np.concatenate(parts)


def tune(
    model: NGram, contexts: Sequence[Sequence[int]], labels: np.ndarray, kind: str, *, rounds: int = 2
) -> NGramSettings:
    """Choose the settings of trigram and cache, one field after another.

    Args:
        model: counts over training videos.
        contexts: N histories of labels, oldest first, of videos that are neither counted nor scored later.
        labels: (N,) the labels that came next.
        kind: measure to maximise, TOP1 or RECALL.
        rounds: number of passes over the fields.

    Raises:
        ValueError: the kind is unknown.
    """
    if kind not in (TOP1, RECALL):
        raise ValueError(f'kind is {kind!r}; give {TOP1} or {RECALL}')

    def worth(settings: NGramSettings) -> float:
        ranks = ngram_ranks(model, contexts, labels, settings)
        return topk_accuracy(ranks, 1) if kind == TOP1 else mean_topk_recall(ranks, labels)

    fields, settings, best = NGRAM_FIELDS, NGramSettings(cache=0.1), -1.0
    if kind == RECALL:
        fields, settings = fields | {'tau': NGRAM_TAUS}, replace(settings, tau=0.4)
    for _ in range(rounds):
        for field, values in fields.items():
            for value in values:
                trial = replace(settings, **{field: value})
                if (found := worth(trial)) > best:
                    settings, best = trial, found
    return settings
