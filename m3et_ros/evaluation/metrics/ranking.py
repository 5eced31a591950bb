"""Top-k scores from the rank of the true label (docs/papers.md 7.7).

Symbols: N samples, C classes, K length of a ranked list. Rank 0 is best; among equal scores the lower id comes first.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from m3et_ros.evaluation.metrics.arrays import finite, same_length, to_numpy


def label_ranks(scores: ArrayLike, labels: ArrayLike) -> np.ndarray:
    """Rank each true label among all classes.

    Args:
        scores: (N, C) finite, higher is better; logits or probabilities.
        labels: (N,) class ids; an id outside 0 to C - 1 is never found.

    Returns:
        (N,) int64, 0 to C; C where the label has no score.

    Raises:
        ValueError: lengths differ, there is nothing to score, or a score is not finite.
    """
    scores, labels = finite('scores', scores), to_numpy(labels).astype(np.int64)
    same_length(scores=scores, labels=labels)
    classes = scores.shape[1]
    known = (labels >= 0) & (labels < classes)
    safe = np.where(known, labels, 0)[:, None]
    own = np.take_along_axis(scores, safe, 1)
    before = (scores > own) | (scores == own) & (np.arange(classes) < safe)
    return np.where(known, before.sum(1), classes)


def listed_ranks(listed: ArrayLike, labels: ArrayLike) -> np.ndarray:
    """Return the position (N,) of each label (N,) in its list (N, K) of ids, best first; K where it is not listed."""
    listed, labels = to_numpy(listed), to_numpy(labels)
    same_length(listed=listed, labels=labels)
    found = listed == labels[:, None]
    return np.where(found.any(1), found.argmax(1), listed.shape[1])


def topk_accuracy(ranks: ArrayLike, k: int) -> float:
    """Return the share of ranks (N,) below k, 0 to 1."""
    return float(np.mean(to_numpy(ranks) < k))


def mean_topk_recall(ranks: ArrayLike, labels: ArrayLike, k: int = 5) -> float:
    """Return class-mean top-k recall, the score of EPIC anticipation.

    Recall of a class is the share of its samples with a rank below k; the mean is over the classes present in labels.

    Args:
        ranks: (N,) ranks of the labels.
        labels: (N,) class ids of any range.
        k: number of guesses that count.

    Returns:
        0 to 1.

    Raises:
        ValueError: lengths differ, or there is nothing to score.
    """
    ranks, labels = to_numpy(ranks), to_numpy(labels)
    same_length(ranks=ranks, labels=labels)
    _, index = np.unique(labels, return_inverse=True)
    return float((np.bincount(index, ranks < k) / np.bincount(index)).mean())


def both_in_topk(verb_ranks: ArrayLike, noun_ranks: ArrayLike, k: int) -> float:
    """Return the share of samples with verb and noun both in their top k.

    This is the multi-task figure of MambaVL, not the official action accuracy.
    """
    return float(np.mean((to_numpy(verb_ranks) < k) & (to_numpy(noun_ranks) < k)))


def members(values: Sequence, chosen: Sequence) -> np.ndarray:
    """Return a mask (N,) bool of the values (N,) that are among the chosen ids."""
    return np.isin(to_numpy(values), list(chosen))


def class_mean(sums: np.ndarray) -> np.ndarray:
    """Average shares over the classes that occur: hits and counts of C classes (..., 2 C) to (...); for intervals."""
    hits, counts = np.split(sums, 2, axis=-1)
    occurs = counts > 0
    return np.where(occurs, hits / np.where(occurs, counts, 1), 0).sum(-1) / occurs.sum(-1)
