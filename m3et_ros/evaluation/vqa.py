"""VQA soft accuracy (VQAv2, TextVQA, VizWiz; papers.md 7.1) and the tally by question family."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from m3et_ros.evaluation.arrays import finite, same_length
from m3et_ros.evaluation.normalise import normalise, normalise_reference

FEWEST = 4
"""With fewer human answers even full agreement would score below 1."""


@dataclass(frozen=True)
class Group:
    """Score of one family, category or answer type."""

    # Number of samples.
    count: int
    # Mean of their scores.
    score: float


def agreement(matches: int, answers: int = 10) -> float:
    """Mean over the leave-one-out sets of min(1, matches among the others / 3).

    Args:
        matches: human answers that equal the prediction, 0 to answers.
        answers: human answers altogether.

    Returns:
        0 to 1; with ten answers 0, 0.3, 0.6, 0.9 and, from four matches on, 1.
    """
    inside, outside = matches * min(1., (matches - 1) / 3), (answers - matches) * min(1., matches / 3)
    return (inside + outside) / answers


def soft_score(prediction: str, answers: Sequence[str]) -> float:
    """Soft score of one prediction, 0 to 1.

    The prediction takes every step of the normaliser, human answers the punctuation step only (papers.md 7.1).

    Args:
        prediction: the model's answer.
        answers: what people answered, ten in the public sets.

    Raises:
        ValueError: fewer than four answers.
    """
    if len(answers) < FEWEST:
        raise ValueError(f'{len(answers)} human answers; the soft score needs {FEWEST} or more (ten in VQAv2): '
                         'use exact_match for a single reference')
    said = normalise(prediction)
    return agreement(sum(normalise_reference(answer) == said for answer in answers), len(answers))


def soft_scores(predictions: Sequence[str], answers: Sequence[Sequence[str]]) -> np.ndarray:
    """Soft scores (n,) of n predictions; the official figure is 100 times their mean.

    Raises:
        ValueError: lengths differ, nothing to score, or a question with fewer than four answers.
    """
    same_length(predictions=predictions, answers=answers)
    return np.array([soft_score(*pair) for pair in zip(predictions, answers)])


def by_group(scores: ArrayLike, groups: Sequence[Hashable]) -> dict[str, Group]:
    """Count and mean score of every group, by name in order.

    Args:
        scores: (n,) any finite scores.
        groups: (n,) family, category or answer type of each sample.

    Raises:
        ValueError: lengths differ, nothing to score, or a score that is not finite.
    """
    same_length(scores=scores, groups=groups)
    names, index = np.unique(np.array([str(group) for group in groups]), return_inverse=True)
    counts = np.bincount(index)
    means = np.bincount(index, finite('scores', scores)) / counts
    return {str(name): Group(int(n), float(mean)) for name, n, mean in zip(names, counts, means)}
