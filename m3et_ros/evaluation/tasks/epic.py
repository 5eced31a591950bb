"""Next-action anticipation on EPIC-KITCHENS-100 from past labels, by the official metrics (docs/papers.md 7.7, 9).

The past is given as labels by people ('oracle'); no picture is looked at. Every document says so, because scores of
models that see videos instead are of another kind.

Symbols: N segments, C classes that occur.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from m3et_ros.data.checkpoints.history import HistoryCheckpoint
from m3et_ros.data.epic.annotations import Annotations, histories
from m3et_ros.data.epic.class_lists import Classes
from m3et_ros.data.epic.history import Asking, HistoryWindows, Pasts
from m3et_ros.data.errors import InputError
from m3et_ros.data.progress import Progress, no_progress
from m3et_ros.evaluation.batches import rounded
from m3et_ros.evaluation.metrics.challenge import ACTIONS, NOUNS, VERBS, Supervision, submission
from m3et_ros.evaluation.metrics.epic import TASKS, action_id, subsets
from m3et_ros.evaluation.metrics.intervals import bootstrap
from m3et_ros.evaluation.metrics.ranking import label_ranks, listed_ranks
from m3et_ros.evaluation.tasks.epic_forecast import CORRECTED, PLAIN, Forecast, forecast

INPUT = 'oracle labels (verb, noun, times) of the past; no pixels'
SUPERVISION: Supervision = (0, 4, 3)
"""No pre-training, labels with times, the training set."""

MEASURES = ('top1', 'top5', 'mean_top5_recall')
KINDS = (PLAIN, CORRECTED)

Ranks = dict[str, dict[str, np.ndarray]]
"""Kind to task to ranks (N,)."""


def anticipate(
    checkpoint: HistoryCheckpoint,
    annotations: Annotations,
    classes: Classes,
    *,
    device: str = 'cpu',
    progress: Progress = no_progress,
) -> Forecast:
    """Forecast every segment of a file from what ended before.

    Raises:
        InputError: the class lists are not those of the model.
    """
    if (classes.verbs, classes.nouns) != (checkpoint.classes.verbs, checkpoint.classes.nouns):
        raise InputError(
            'model_config',
            f'The class lists have {len(classes.verbs)} verbs and {len(classes.nouns)} '
            f'nouns, others than the model ({len(checkpoint.classes.verbs)} and '
            f'{len(checkpoint.classes.nouns)}); give the folder that it was trained with',
        )
    config = checkpoint.config
    pasts = Pasts(annotations, checkpoint.classes, slots=(config.slots, config.verb_slots), gap_s=checkpoint.gap_s)
    asking = Asking(checkpoint.classes, checkpoint.words)
    data = HistoryWindows(pasts, sorted(checkpoint.pairs), asking, pasts.windows())
    return forecast(checkpoint, data, device=device, progress=progress)


def labels_of(annotations: Annotations) -> dict[str, np.ndarray]:
    """Verb, noun and action ids (N,) as the file has them."""
    verb, noun = (np.array([getattr(s, name) for s in annotations.segments]) for name in ('verb', 'noun'))
    return {'verb': verb, 'noun': noun, 'action': action_id(verb, noun)}


def ranks_of(checkpoint: HistoryCheckpoint, found: Forecast, annotations: Annotations) -> Ranks:
    """Ranks of the true classes, plain and corrected."""
    labels, ranks = labels_of(annotations), {}
    for kind in KINDS:
        ranks[kind] = {}
        for task in ('verb', 'noun'):
            scores = (
                getattr(found, task)
                if kind == PLAIN
                else found.scores(task, checkpoint.corrections[task], checkpoint.counts(task))
            )
            ranks[kind][task] = label_ranks(scores, labels[task])
        ranks[kind]['action'] = listed_ranks(found.actions[kind][0], labels['action'])
    return ranks


def official_rows(
    annotations: Annotations, *, unseen: Sequence[str], tail_verbs: Sequence[int], tail_nouns: Sequence[int]
) -> dict[str, dict[str, np.ndarray]]:
    """Which segments belong to all, unseen and tail; see evaluation.epic.subsets."""
    people = [segment.participant for segment in annotations.segments]
    return subsets(labels_of(annotations), people, unseen=unseen, tail_verbs=tail_verbs, tail_nouns=tail_nouns)


def measure(
    ranks: Mapping[str, np.ndarray], annotations: Annotations, rows: Mapping[str, Mapping[str, np.ndarray]]
) -> dict[str, Any]:
    """Top-1, top-5 and mean top-5 recall of every row and task with 95 % intervals over videos, 0 to 1.

    Args:
        ranks: by task.
        annotations: the segments.
        rows: of official_rows.

    Returns:
        Row to task to measure to value, low, high and videos; None where a row is empty. 'segments' tells how many.
    """
    labels, videos = labels_of(annotations), np.array([segment.video for segment in annotations.segments])
    return {
        row: {task: _scores(ranks[task][masks[task]], labels[task][masks[task]], videos[masks[task]]) for task in TASKS}
        for row, masks in rows.items()
    }


def _scores(ranks: np.ndarray, labels: np.ndarray, videos: np.ndarray) -> dict[str, Any] | None:
    if not len(ranks):
        return None
    names, own = np.unique(videos, return_inverse=True)
    found: dict[str, Any] = {'segments': len(ranks)}
    for measure_name, k in (('top1', 1), ('top5', 5)):
        sums = np.stack([np.bincount(own, ranks < k), np.bincount(own)], 1)
        found[measure_name] = _told(bootstrap(sums, lambda s: s[..., 0] / s[..., 1], names))
    classes, place = np.unique(labels, return_inverse=True)
    shape = len(names), len(classes)
    sums = [
        np.bincount(own * shape[1] + place, weights, shape[0] * shape[1]).reshape(shape)
        for weights in (ranks < 5, np.ones(len(ranks)))
    ]
    found['mean_top5_recall'] = _told(bootstrap(np.concatenate(sums, 1), class_mean, names)) | {'classes': len(classes)}
    return found


def class_mean(sums: np.ndarray) -> np.ndarray:
    """Hits and numbers of C classes (..., 2 C) to the mean of their shares (...) over the classes that occur."""
    hits, counts = np.split(sums, 2, axis=-1)
    occurs = counts > 0
    return np.where(occurs, hits / np.where(occurs, counts, 1), 0).sum(-1) / occurs.sum(-1)


def _told(interval: Any) -> dict[str, Any]:
    return {
        'value': rounded(interval.value),
        'low': rounded(interval.low),
        'high': rounded(interval.high),
        'videos': interval.clusters,
    }


def summary(annotations: Annotations) -> dict[str, Any]:
    """What was measured on: numbers of segments and videos, targets without history, notes on odd rows."""
    return {
        'input': INPUT,
        'segments': len(annotations.segments),
        'videos': len(annotations.videos),
        'without_history': sum(not history for history in histories(annotations)),
        'notes': [note.text for note in annotations.notes],
    }


def sample_rows(
    checkpoint: HistoryCheckpoint, found: Forecast, ranks: Ranks, annotations: Annotations
) -> list[dict[str, Any]]:
    """A row of per_sample.csv for each segment."""
    past, classes = histories(annotations), checkpoint.classes

    def named(action: int) -> str:
        verb, noun = divmod(int(action), 1000)
        known = verb < len(classes.verbs) and noun < len(classes.nouns)
        return f'{classes.verbs[verb]} {classes.nouns[noun]}' if known else f'{verb},{noun}'

    rows = []
    for i, segment in enumerate(annotations.segments):
        last = annotations.segments[past[i][-1]] if past[i] else None
        row = {
            'narration_id': segment.narration_id,
            'video_id': segment.video,
            'participant_id': segment.participant,
            'visible': len(past[i]),
            'lag_s': round(segment.start_s - last.stop_s, 3) if last else '',
            'last': named(action_id(last.verb, last.noun)) if last else '',
            'truth': named(action_id(segment.verb, segment.noun)),
        }
        row |= {f'expected_{kind}': named(found.actions[kind][0][i, 0]) for kind in KINDS}
        rows.append(row | {f'{task}_rank_{kind}': int(ranks[kind][task][i]) for kind in KINDS for task in TASKS})
    return rows


def challenge_file(
    checkpoint: HistoryCheckpoint,
    found: Forecast,
    annotations: Annotations,
    *,
    kind: str = CORRECTED,
    supervision: Supervision = SUPERVISION,
) -> dict[str, Any]:
    """The official file of the anticipation challenge, scores rounded to 4 decimals.

    It is in the official format, but no entry for the challenge, in which the past is not given as labels.

    Args:
        checkpoint, found, annotations: what was forecast.
        kind: plain or corrected; the challenge is decided by mean top-5 recall.
        supervision: levels, see evaluation.challenge.

    Raises:
        InputError: the model has other than the official 97 verbs and 300 nouns.
    """
    if (checkpoint.config.verbs, checkpoint.config.nouns) != (VERBS, NOUNS):
        raise InputError(
            'challenge',
            f'The challenge has {VERBS} verbs and {NOUNS} nouns and the model '
            f'{checkpoint.config.verbs} and {checkpoint.config.nouns}; use the official class lists',
        )
    parts = [
        getattr(found, task)
        if kind == PLAIN
        else found.scores(task, checkpoint.corrections[task], checkpoint.counts(task))
        for task in ('verb', 'noun')
    ]
    ids, scores = found.actions[kind]
    verbs, nouns, listed = (np.round(values.astype(np.float64), 4) for values in (*parts, scores[:, :ACTIONS]))
    return submission(
        [segment.narration_id for segment in annotations.segments],
        verbs,
        nouns,
        (ids[:, :ACTIONS], listed),
        challenge='action_anticipation',
        supervision=supervision,
    )
