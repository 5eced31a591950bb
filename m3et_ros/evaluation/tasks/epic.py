"""Next-action anticipation on EPIC-KITCHENS-100 from past labels, by the official metrics (docs/papers.md 7.7, 9).

The past is given as human labels ('oracle'); no image is used. Every document states this, because scores of models
that use video are not comparable.

Symbols: N segments, C classes that occur.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from m3et_ros.data.checkpoints.history import HistoryCheckpoint
from m3et_ros.data.epic.annotations import Annotations, histories
from m3et_ros.data.epic.class_lists import Classes
from m3et_ros.data.epic.history import ActionHistories, HistoryWindows, QuestionWords
from m3et_ros.data.errors import InputError
from m3et_ros.data.progress import Progress, no_progress
from m3et_ros.evaluation.batches import interval_json
from m3et_ros.evaluation.metrics.challenge import ACTIONS, NOUNS, VERBS, Supervision, submission
from m3et_ros.evaluation.metrics.epic import TASKS, action_id, subsets
from m3et_ros.evaluation.metrics.intervals import SHARE, bootstrap, ratio
from m3et_ros.evaluation.metrics.ranking import class_mean, label_ranks, listed_ranks
from m3et_ros.evaluation.tasks.epic_forecast import CORRECTED, PLAIN, Forecast, forecast

INPUT = 'oracle labels (verb, noun, times) of the past; no pixels'
SUPERVISION: Supervision = (0, 4, 3)
"""No pretraining, labels with times, the training set."""

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
    """Forecast every segment of a file from the segments that ended before it.

    Args:
        checkpoint: models of past actions, n-gram and corrections.
        annotations: the segments.
        classes: class lists of the file, which must be those of the model.
        device: as torch takes it.
        progress: see data.progress.Progress.

    Raises:
        InputError: the class lists are not those of the model.
    """
    if (classes.verbs, classes.nouns) != (checkpoint.classes.verbs, checkpoint.classes.nouns):
        raise InputError(
            'model_config',
            f'The class lists have {len(classes.verbs)} verbs and {len(classes.nouns)} '
            f'nouns and differ from those of the model ({len(checkpoint.classes.verbs)} and '
            f'{len(checkpoint.classes.nouns)}); give the folder that it was trained with',
        )
    config = checkpoint.config
    pasts = ActionHistories(
        annotations, checkpoint.classes, slots=(config.slots, config.verb_slots), gap_s=checkpoint.gap_s
    )
    asking = QuestionWords(checkpoint.classes, checkpoint.words)
    data = HistoryWindows(pasts, sorted(checkpoint.pairs), asking, pasts.windows())
    return forecast(checkpoint, data, device=device, progress=progress)


def labels_of(annotations: Annotations) -> dict[str, np.ndarray]:
    """Return the verb, noun and action ids (N,) of the file."""
    verb, noun = (np.array([getattr(s, name) for s in annotations.segments]) for name in ('verb', 'noun'))
    return {'verb': verb, 'noun': noun, 'action': action_id(verb, noun)}


def ranks_of(checkpoint: HistoryCheckpoint, found: Forecast, annotations: Annotations) -> Ranks:
    """Rank the true classes by plain and by corrected scores."""
    labels, ranks = labels_of(annotations), {}
    for kind in KINDS:
        ranks[kind] = {}
        for task in ('verb', 'noun'):
            ranks[kind][task] = label_ranks(_task_scores(checkpoint, found, task, kind), labels[task])
        ranks[kind]['action'] = listed_ranks(found.actions[kind][0], labels['action'])
    return ranks


def _task_scores(checkpoint: HistoryCheckpoint, found: Forecast, task: str, kind: str) -> np.ndarray:
    """Return the plain or corrected scores of verbs or nouns."""
    if kind == PLAIN:
        return getattr(found, task)
    return found.scores(task, checkpoint.corrections[task], checkpoint.counts(task))


def official_rows(
    annotations: Annotations, *, unseen: Sequence[str], tail_verbs: Sequence[int], tail_nouns: Sequence[int]
) -> dict[str, dict[str, np.ndarray]]:
    """Return the segments of the rows all, unseen and tail; see metrics.epic.subsets."""
    people = [segment.participant for segment in annotations.segments]
    return subsets(labels_of(annotations), people, unseen=unseen, tail_verbs=tail_verbs, tail_nouns=tail_nouns)


def measure(
    ranks: Mapping[str, np.ndarray], annotations: Annotations, rows: Mapping[str, Mapping[str, np.ndarray]]
) -> dict[str, Any]:
    """Score every row and task: top-1, top-5 and mean top-5 recall with 95 % intervals over videos, 0 to 1.

    Args:
        ranks: task to ranks (N,) of the true class.
        annotations: the segments.
        rows: as official_rows returns them.

    Returns:
        Row to task to measure to value, low, high and number of videos, and 'segments'; None for an empty row.
    """
    labels, videos = labels_of(annotations), np.array([segment.video for segment in annotations.segments])
    return {
        row: {task: _scores(ranks[task][masks[task]], labels[task][masks[task]], videos[masks[task]]) for task in TASKS}
        for row, masks in rows.items()
    }


def _scores(ranks: np.ndarray, labels: np.ndarray, videos: np.ndarray) -> dict[str, Any] | None:
    if not len(ranks):
        return None
    clusters, own = np.unique(videos, return_inverse=True)
    found: dict[str, Any] = {'segments': len(ranks)}
    for name, k in (('top1', 1), ('top5', 5)):
        sums = np.stack([np.bincount(own, ranks < k), np.bincount(own)], 1)
        found[name] = interval_json(bootstrap(sums, ratio, clusters), 'videos')
    classes, column = np.unique(labels, return_inverse=True)
    shape = len(clusters), len(classes)
    sums = [
        np.bincount(own * shape[1] + column, weights, shape[0] * shape[1]).reshape(shape)
        for weights in (ranks < 5, np.ones(len(ranks)))
    ]
    recall = interval_json(bootstrap(np.concatenate(sums, 1), class_mean, clusters, bounds=SHARE), 'videos')
    found['mean_top5_recall'] = recall | {'classes': len(classes)}
    return found


def summary(annotations: Annotations) -> dict[str, Any]:
    """Describe the data: numbers of segments and videos, targets without history, notes on odd rows."""
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
    """Return a row of per_sample.csv for each segment."""
    past, classes = histories(annotations), checkpoint.classes

    def named(action: int) -> str:
        verb, noun = divmod(int(action), 1000)
        if verb < len(classes.verbs) and noun < len(classes.nouns):
            return f'{classes.verbs[verb]} {classes.nouns[noun]}'
        return f'{verb},{noun}'

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
    """Build the official file of the anticipation challenge, with scores rounded to 4 decimals.

    The file has the official format but is not a valid entry, because the challenge does not give the past as labels.

    Args:
        checkpoint: the model.
        found: its forecast.
        annotations: the segments.
        kind: plain or corrected scores; mean top-5 recall decides the challenge.
        supervision: levels, see metrics.challenge.

    Raises:
        InputError: the model does not have the official 97 verbs and 300 nouns.
    """
    if (checkpoint.config.verbs, checkpoint.config.nouns) != (VERBS, NOUNS):
        raise InputError(
            'challenge',
            f'The challenge has {VERBS} verbs and {NOUNS} nouns and the model '
            f'{checkpoint.config.verbs} and {checkpoint.config.nouns}; use the official class lists',
        )
    parts = [_task_scores(checkpoint, found, task, kind) for task in ('verb', 'noun')]
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
