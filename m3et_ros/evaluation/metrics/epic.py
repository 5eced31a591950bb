"""EPIC-KITCHENS-100: the action ranking and the official recognition and anticipation scores (docs/papers.md 7.7).

Symbols: N segments, V verbs, M nouns, K listed actions.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

from m3et_ros.evaluation.metrics.arrays import finite, same_length, to_numpy
from m3et_ros.evaluation.metrics.ranking import mean_topk_recall, members, topk_accuracy

BEST = 100
"""Number of verbs and of nouns that form actions, and of actions listed."""

CHUNK = 4096
"""Segments ranked at a time, to bound memory."""

TASKS = ('verb', 'noun', 'action')

Table = dict[str, dict[str, float | None]]
"""Row (all, unseen, tail) to task to score; None for an empty subset."""


def action_id(verb: ArrayLike, noun: ArrayLike) -> np.ndarray:
    """Return the official ids verb * 1000 + noun, any shape; nouns are 0 to 999."""
    return to_numpy(verb) * 1000 + to_numpy(noun)


def rank_actions(verbs: ArrayLike, nouns: ArrayLike, best: int = BEST) -> tuple[np.ndarray, np.ndarray]:
    """Rank verb-noun pairs by softmax(verb) * softmax(noun) over the best of each.

    Args:
        verbs: logits (N, V).
        nouns: logits (N, M).
        best: number of verbs and of nouns that take part, and the most pairs that are listed.

    Returns:
        Ids (N, K) int64, best first, and their scores (N, K) float64 in 0..1; K = min(best, V * M). Of equal scores
        the lower id comes first.

    Raises:
        ValueError: lengths differ, there is nothing to rank, or a logit is not finite.
    """
    verbs, nouns = finite('verbs', verbs), finite('nouns', nouns)
    n = same_length(verbs=verbs, nouns=nouns)
    parts = [_rank_chunk(verbs[i : i + CHUNK], nouns[i : i + CHUNK], best) for i in range(0, n, CHUNK)]
    return tuple(np.concatenate(part) for part in zip(*parts, strict=True))


def _rank_chunk(verbs: np.ndarray, nouns: np.ndarray, best: int) -> tuple[np.ndarray, np.ndarray]:
    (verb_ids, p_verb), (noun_ids, p_noun) = _best_softmax(verbs, best), _best_softmax(nouns, best)
    i, j = np.indices((p_verb.shape[1], p_noun.shape[1])).reshape(2, -1)
    # At least (i + 1) * (j + 1) - 1 pairs are as good as the pair of ranks (i, j), so few pairs can be listed.
    candidates = (i + 1) * (j + 1) <= best
    i, j = i[candidates], j[candidates]
    scores = p_verb[:, i] * p_noun[:, j]
    ids = action_id(verb_ids[:, i], noun_ids[:, j])
    # The lower id first among equal scores. A pair that was left out has `best` pairs before it: those of better ranks
    # in verb and noun have a higher score, or equal ones and lower ids.
    order = np.lexsort((ids, -scores), axis=1)[:, :best]
    return np.take_along_axis(ids, order, 1), np.take_along_axis(scores, order, 1)


def _best_softmax(logits: np.ndarray, best: int) -> tuple[np.ndarray, np.ndarray]:
    ids = np.argsort(-logits, axis=1, kind='stable')[:, :best]
    best_logits = np.take_along_axis(logits, ids, 1)
    p = np.exp(best_logits - best_logits[:, :1])
    return ids, p / p.sum(1, keepdims=True)


def subsets(
    labels: Mapping[str, ArrayLike],
    participants: Sequence[str],
    *,
    unseen: Sequence[str],
    tail_verbs: Sequence[int],
    tail_nouns: Sequence[int],
) -> dict[str, dict[str, np.ndarray]]:
    """Return the segments of each row of the official tables.

    Args:
        labels: 'verb' and 'noun' to class ids (N,).
        participants: (N,) participant of each segment, for example 'P18'.
        unseen: participants without training videos.
        tail_verbs: ids of tail verbs.
        tail_nouns: ids of tail nouns; an action is tail if its verb or its noun is.

    Returns:
        Row to task to mask (N,) bool, rows 'all', 'unseen', 'tail'.
    """
    same_length(verb=labels['verb'], noun=labels['noun'], participants=participants)
    verb, noun = members(labels['verb'], tail_verbs), members(labels['noun'], tail_nouns)
    new = members(participants, unseen)
    return {
        'all': dict.fromkeys(TASKS, np.ones_like(new)),
        'unseen': dict.fromkeys(TASKS, new),
        'tail': {'verb': verb, 'noun': noun, 'action': verb | noun},
    }


def recognition_scores(ranks: Mapping[str, np.ndarray], rows: Mapping[str, Mapping[str, np.ndarray]]) -> Table:
    """Return top-1 accuracy of every row and task, 0 to 1, and top-5 accuracy as row 'all_top5'.

    Args:
        ranks: task to ranks (N,) of the true class.
        rows: as subsets returns them.
    """
    table = _table(rows, lambda task, mask: topk_accuracy(ranks[task][mask], 1))
    return table | {'all_top5': {task: topk_accuracy(ranks[task], 5) for task in TASKS}}


def anticipation_scores(
    ranks: Mapping[str, np.ndarray], labels: Mapping[str, ArrayLike], rows: Mapping[str, Mapping[str, np.ndarray]]
) -> Table:
    """Return mean top-5 recall of every row and task, 0 to 1, over the classes of that row.

    Args:
        ranks: task to ranks (N,) of the true class.
        labels: 'verb' and 'noun' to class ids (N,).
        rows: as subsets returns them.
    """
    ids = {task: to_numpy(labels[task]) for task in ('verb', 'noun')}
    ids['action'] = action_id(ids['verb'], ids['noun'])
    return _table(rows, lambda task, mask: mean_topk_recall(ranks[task][mask], ids[task][mask]))


def _table(rows, score) -> Table:
    return {
        row: {task: score(task, mask) if mask.any() else None for task, mask in masks.items()}
        for row, masks in rows.items()
    }
