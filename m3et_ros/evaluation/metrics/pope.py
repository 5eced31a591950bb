"""POPE by its two harnesses, whose figures are not comparable (docs/papers.md 7.4).

Harness A (ML-Mamba, EMMA) compares P(Yes) with P(No) and reports accuracy; harness B (LLaVA, TinyLLaVA, MaTVLM) reads
free text and reports F1.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from m3et_ros.evaluation.metrics.arrays import finite, same_length, to_numpy


@dataclass(frozen=True)
class YesNo:
    """Scores of yes/no answers, each 0 to 1; yes is the positive class, and a share of nothing is 0."""

    # Share of right answers.
    accuracy: float
    # Share of yes answers that are right.
    precision: float
    # Share of the true yes that were answered with yes.
    recall: float
    # Harmonic mean of precision and recall.
    f1: float
    # Share of questions answered with yes.
    yes_ratio: float


@dataclass(frozen=True)
class Pope:
    """Result of one harness over the splits (adversarial, popular, random)."""

    # 'A' or 'B'.
    harness: str
    # Split to its scores.
    splits: dict[str, YesNo]
    # Mean over splits of accuracy (A) or of F1 (B), 0 to 1.
    headline: float


def yes_no_scores(answers: ArrayLike, truth: ArrayLike) -> YesNo:
    """Score answers (n,) bool against truth (n,) bool, True for yes.

    Raises:
        ValueError: lengths differ, or there is nothing to score.
    """
    answers, truth = to_numpy(answers).astype(bool), to_numpy(truth).astype(bool)
    n = same_length(answers=answers, truth=truth)
    hits, yes, positives = (int(np.count_nonzero(mask)) for mask in (answers & truth, answers, truth))
    return YesNo(
        accuracy=float(np.mean(answers == truth)),
        precision=hits / yes if yes else 0.0,
        recall=hits / positives if positives else 0.0,
        f1=2 * hits / (yes + positives) if yes + positives else 0.0,
        yes_ratio=yes / n,
    )


def says_yes(answer: str) -> bool:
    """Read an answer as harness B does: no if its first sentence has the word No, no or not, else yes."""
    words = answer.split('.')[0].replace(',', '').split(' ')
    return not {'No', 'no', 'not'} & set(words)


def pope_a(splits: Mapping[str, tuple[ArrayLike, ArrayLike, ArrayLike]]) -> Pope:
    """Score by harness A.

    Args:
        splits: name to (P(Yes) (n,), P(No) (n,), truth (n,) bool); a tie is yes. Logits may be given instead of
            probabilities.

    Raises:
        ValueError: there is no split, lengths differ, or a probability is not finite.
    """
    scores = {
        name: yes_no_scores(finite('P(Yes)', yes) >= finite('P(No)', no), truth)
        for name, (yes, no, truth) in splits.items()
    }
    return _pope('A', scores, 'accuracy')


def pope_b(splits: Mapping[str, tuple[Sequence[str], ArrayLike]]) -> Pope:
    """Score by harness B.

    Args:
        splits: name to (answers as text (n,), truth (n,) bool).

    Raises:
        ValueError: there is no split, or lengths differ.
    """
    scores = {
        name: yes_no_scores([says_yes(answer) for answer in answers], truth)
        for name, (answers, truth) in splits.items()
    }
    return _pope('B', scores, 'f1')


def _pope(harness: str, scores: dict[str, YesNo], headline: str) -> Pope:
    if not scores:
        raise ValueError('no POPE split to score; give at least one of adversarial, popular, random')
    return Pope(harness, scores, float(np.mean([getattr(score, headline) for score in scores.values()])))
