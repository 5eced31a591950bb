"""Recognition and anticipation on EPIC-KITCHENS-100 from clips, by the official metrics (docs/papers.md 7.7).

Symbols: N segments, V verbs, M nouns.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from m3et_ros.data.checkpoints.video import VideoCheckpoint
from m3et_ros.data.epic.annotations import Annotations
from m3et_ros.data.epic.clips import Clips, CollateClips
from m3et_ros.data.errors import InputError
from m3et_ros.data.progress import Progress, no_progress
from m3et_ros.evaluation.batches import measured
from m3et_ros.evaluation.metrics.challenge import ACTIONS, Supervision, submission
from m3et_ros.evaluation.metrics.epic import TASKS, rank_actions
from m3et_ros.evaluation.metrics.ranking import label_ranks, listed_ranks
from m3et_ros.evaluation.tasks.epic import Ranks, labels_of
from m3et_ros.evaluation.tasks.epic_forecast import CORRECTED, PLAIN

SUPERVISION: Supervision = (2, 4, 3)
"""Public pretraining without EPIC's videos, labels with times, the training set."""


TASK = 'anticipation'
"""The task whose official score, mean top-5 recall, gains from scores without the prior."""


@dataclass(frozen=True)
class ClipScores:
    """Logits of N segments: verbs (N, V) and nouns (N, M), plain and without the prior of the classes."""

    plain: tuple[np.ndarray, np.ndarray]
    corrected: tuple[np.ndarray, np.ndarray]

    def of(self, kind: str) -> tuple[np.ndarray, np.ndarray]:
        """Return the logits of a kind, PLAIN or CORRECTED."""
        return self.plain if kind == PLAIN else self.corrected


def classify_clips(
    checkpoint: VideoCheckpoint, data: Clips, *, batch: int = 64, device: str = 'cpu', progress: Progress = no_progress
) -> ClipScores:
    """Classify clips.

    Args:
        checkpoint: the head.
        data: clips of features with their questions.
        batch: clips at a time.
        device: as torch takes it.
        progress: see data.progress.Progress.

    Raises:
        InputError: 'model_config' where the features have another width than those of training; as Clips.
    """
    head, collate, parts = checkpoint.head.to(device), CollateClips(checkpoint.tokenizer), []
    starts = range(0, len(data), batch)
    with measured(head):
        for start in progress(starts, len(starts), 'clips', 'batch'):
            tensors, _ = collate([data[i] for i in range(start, min(start + batch, len(data)))])
            width = tensors['video'].shape[2]
            if width != head.config.d_in:
                raise InputError(
                    'model_config',
                    f'The features have {width} numbers and the model takes {head.config.d_in}; give the features of '
                    'the network that it was trained with.',
                )
            video, *questions = (
                tensors[name].to(device) for name in ('video', 'noun_ids', 'verb_ids', 'noun_mask', 'verb_mask')
            )
            logits = head(video, *questions)
            parts.append([*logits, *head.balanced(*logits)])
    verbs, nouns, *corrected = (torch.cat(part).float().cpu().numpy() for part in zip(*parts, strict=True))
    return ClipScores((verbs, nouns), (corrected[0], corrected[1]))


def clip_summary(annotations: Annotations, checkpoint: VideoCheckpoint) -> dict[str, Any]:
    """Describe task and data: what is observed, features, questions, numbers of segments and videos, odd rows."""
    observed = checkpoint.observation
    return {
        'task': observed.task,
        'input': f'{observed.frames} rows of features'
        + (f' up to {observed.gap_s:g} s before the action' if observed.task == TASK else ' of the action'),
        'features': dict(checkpoint.features),
        'questions': checkpoint.questions,
        'segments': len(annotations.segments),
        'videos': len(annotations.videos),
        'notes': [note.text for note in annotations.notes],
    }


def clip_ranks(found: ClipScores, annotations: Annotations) -> Ranks:
    """Rank the true verb, noun and action of every segment, by plain and by corrected scores."""
    labels, ranks = labels_of(annotations), {}
    for kind in (PLAIN, CORRECTED):
        verbs, nouns = found.of(kind)
        ids, _ = rank_actions(verbs, nouns)
        ranks[kind] = {
            'verb': label_ranks(verbs, labels['verb']),
            'noun': label_ranks(nouns, labels['noun']),
            'action': listed_ranks(ids, labels['action']),
        }
    return ranks


def clip_rows(found: ClipScores, ranks: Ranks, annotations: Annotations, names: Any) -> list[dict[str, Any]]:
    """Return a row of per_sample.csv for each segment.

    Args:
        found: the logits.
        ranks: as clip_ranks returns them.
        annotations: the segments.
        names: class lists (data.epic.class_lists.Classes).
    """
    best = {kind: rank_actions(*found.of(kind), best=1)[0][:, 0] for kind in ranks}
    rows = []
    for i, segment in enumerate(annotations.segments):
        row = {
            'narration_id': segment.narration_id,
            'video_id': segment.video,
            'participant_id': segment.participant,
            'truth': _named(segment.verb * 1000 + segment.noun, names),
        }
        row |= {f'expected_{kind}': _named(int(best[kind][i]), names) for kind in ranks}
        rows.append(row | {f'{task}_rank_{kind}': int(ranks[kind][task][i]) for kind in ranks for task in TASKS})
    return rows


def _named(action: int, names: Any) -> str:
    verb, noun = divmod(action, 1000)
    known = 0 <= verb < len(names.verbs) and 0 <= noun < len(names.nouns)
    return f'{names.verbs[verb]} {names.nouns[noun]}' if known else f'{verb},{noun}'


def clip_challenge(found: ClipScores, ids: Sequence[str], task: str) -> dict[str, Any]:
    """Build the official file, with scores rounded to 4 decimals: recognition by plain, anticipation by corrected ones.

    Args:
        found: logits of the official 97 verbs and 300 nouns.
        ids: N narration ids.
        task: 'recognition' or 'anticipation'.

    Raises:
        ValueError: as metrics.challenge.submission.
    """
    verbs, nouns = (np.round(part.astype(np.float64), 4) for part in found.of(CORRECTED if task == TASK else PLAIN))
    listed, scores = rank_actions(verbs, nouns)
    return submission(
        ids,
        verbs,
        nouns,
        (listed[:, :ACTIONS], np.round(scores[:, :ACTIONS], 8)),
        challenge=f'action_{task}',
        supervision=SUPERVISION,
    )
