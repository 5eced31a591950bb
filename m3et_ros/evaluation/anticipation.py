"""What models of past actions expect next: probabilities, and scores corrected for mean top-5 recall (papers.md 9.2).

Top-1 accuracy wants the likeliest class; class-mean recall wants rare classes named when they are likelier than usual.
So there are two rankings of the same probabilities, 'plain' and 'corrected', and every table says which.

Symbols: N targets, T of a batch, V verbs, M nouns, K listed actions.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from m3et_ros.data.epic_history import HistoryWindows
from m3et_ros.data.history_checkpoint import TASKS, Correction, HistoryCheckpoint
from m3et_ros.evaluation.epic import BEST
from m3et_ros.evaluation.ranking import mean_topk_recall
from m3et_ros.evaluation.runs.feed import Watch, measured, unwatched
from m3et_ros.models.history import HistoryModel

PLAIN, CORRECTED = 'plain', 'corrected'
TOGETHER = 4
"""Windows at a time, to bound memory."""

TAUS = (0.0, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
FLOORS = (1.0, 3.0, 10.0, 30.0, 100.0)
"""What is tried for a correction."""


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


def answers(members: Sequence[HistoryModel], batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Mean probabilities of the members, as logarithms: verbs (T, V), nouns (T, M), actions (T, M, V), float32.

    The verb's probability is the mean of what the model says when asked for the verb alone and of the sum over nouns.
    """
    verbs, actions = [], []
    for member in members:
        seen = member.see(batch)
        actions.append(member.actions(seen).float())
        verbs.append(member.verbs(seen).float().log_softmax(-1))
    action = _mean(actions)
    return _mean([_mean(verbs), action.logsumexp(1)]), action.logsumexp(2), action


def forecast(checkpoint: HistoryCheckpoint, data: HistoryWindows, *, device: str = 'cpu', best: int = BEST,
             watch: Watch = unwatched) -> Forecast:
    """Anticipate every target.

    Args:
        checkpoint: models and corrections.
        data: windows that hold each segment of a file as a target once.
        device: for the models, which are left there.
        best: K, or the number of pairs where there are fewer.
        watch: is told how far along it is.

    Raises:
        ValueError: a target is missing or asked for twice.
    """
    config, size = checkpoint.config, len(data.pasts)
    best = min(best, config.verbs * config.nouns)
    penalties = {PLAIN: None, CORRECTED: checkpoint.corrections['action'].penalty(checkpoint.counts('action'))}
    verb, noun = np.empty((size, config.verbs), np.float32), np.empty((size, config.nouns), np.float32)
    actions = {kind: (np.empty((size, best), np.int64), np.empty((size, best), np.float32)) for kind in penalties}
    asked = np.zeros(size, int)
    for places, batch in _batches(checkpoint.members, data, device, watch):
        rows = data.pasts.order[places]
        asked[rows] += 1
        verbs, nouns, joint = answers(checkpoint.members, batch)
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


def choose(members: Sequence[HistoryModel], data: HistoryWindows, counts: Mapping[str, np.ndarray], *,
           device: str = 'cpu', watch: Watch = unwatched) -> dict[str, Correction]:
    """The corrections with the best mean top-5 recall on videos that the members have not learnt from.

    Args:
        members: models.
        data: windows of those videos.
        counts: by task, as HistoryCheckpoint.counts.
        device, watch: as in forecast.

    Raises:
        ValueError: there is no target whose class is known.
    """
    tried = [Correction(tau, floor) for tau in TAUS for floor in (FLOORS if tau else FLOORS[:1])]
    ranks: dict[tuple[str, Correction], list[np.ndarray]] = {(t, c): [] for t in TASKS for c in tried}
    labels: dict[str, list[np.ndarray]] = {task: [] for task in TASKS}
    for _, batch in _batches(members, data, device, watch):
        known = (batch['verb'] >= 0) & (batch['noun'] >= 0)
        verb, noun = batch['verb'][known], batch['noun'][known]
        truth = {'verb': verb, 'noun': noun, 'action': noun * counts['action'].shape[1] + verb}
        for task, scores in zip(TASKS, answers(members, batch)):
            own = scores.flatten(1)[known]
            labels[task].append(truth[task].cpu().numpy())
            for correction in tried:
                penalty = torch.as_tensor(correction.penalty(counts[task]), device=own.device).flatten()
                ranks[task, correction].append(_ranks(own - penalty, truth[task]))
    wanted = {task: np.concatenate(found) for task, found in labels.items()}
    return {task: max(tried, key=lambda c: mean_topk_recall(np.concatenate(ranks[task, c]), wanted[task]))
            for task in TASKS}


def on_device(batch: Mapping[str, Any], device: str | torch.device) -> dict[str, Any]:
    """A batch with its tensors on a device."""
    return {name: value.to(device) for name, value in batch.items()}


def _batches(members: Sequence[HistoryModel], data: HistoryWindows, device: str,
             watch: Watch) -> Iterator[tuple[np.ndarray, dict[str, Tensor]]]:
    """Places of targets and their batch, members in evaluation mode on the device."""
    starts: Iterable[int] = range(0, len(data), TOGETHER)
    with ExitStack() as stack:
        for member in members:
            stack.enter_context(measured(member.to(device)))
        for start in watch(starts, -(-len(data) // TOGETHER), 'anticipating', 'batch'):
            batch, _ = data.collate([data[i] for i in range(start, min(start + TOGETHER, len(data)))])
            yield batch['target'].numpy(), on_device(batch, device)


def _ranks(scores: Tensor, labels: Tensor) -> np.ndarray:
    """How many classes of (T, C) score above each label (T,); quicker than ranking.label_ranks, ties aside."""
    return (scores > scores.gather(1, labels[:, None])).sum(1).cpu().numpy()


def _mean(logs: Sequence[Tensor]) -> Tensor:
    """Logarithm of the mean of probabilities given as logarithms."""
    if len(logs) == 1:
        return logs[0]
    return torch.stack(tuple(logs)).logsumexp(0) - float(np.log(len(logs)))


