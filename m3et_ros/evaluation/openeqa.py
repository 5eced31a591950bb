"""OpenEQA's score from marks that a judge gave (papers.md 7.6); nothing here calls a judge."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

WORST, BEST = 1., 5.
"""Ends of the judge's scale."""


@dataclass(frozen=True)
class LlmMatch:
    """The LLM-match figure on both of its scales."""

    # Questions, answered or not.
    count: int
    # 100 * mean((mark - 1) / 4), 0 to 100.
    percent: float
    # Mean mark, 1 to 5.
    mean_mark: float
    # Share of questions without an answer, 0 to 1; each counts with the worst mark.
    unanswered: float


def mark_scores(marks: Sequence[float | None]) -> np.ndarray:
    """Marks as scores (n,) from 0 to 1: (clip(mark, 1, 5) - 1) / 4; None, no answer given, is 0.

    Raises:
        ValueError: a mark is NaN or infinite.
    """
    values = np.array([WORST if mark is None else mark for mark in marks], dtype=np.float64)
    if not np.isfinite(values).all():
        raise ValueError('a mark is not finite; give 1 to 5, or None where there was no answer')
    return (values.clip(WORST, BEST) - WORST) / (BEST - WORST)


def llm_match(marks: Sequence[float | None]) -> LlmMatch:
    """Score n marks of 1 to 5, None for a question left unanswered.

    Raises:
        ValueError: there are no marks, or one is not finite.
    """
    if not len(marks):
        raise ValueError('no marks to score; give one for each question')
    mean = float(mark_scores(marks).mean())
    return LlmMatch(len(marks), 100 * mean, WORST + (BEST - WORST) * mean, unanswered_share(marks))


def llm_match_by_category(marks: Sequence[float | None], categories: Sequence[str]) -> dict[str, LlmMatch]:
    """The same figure for every category, by name in order.

    Raises:
        ValueError: lengths differ, or as llm_match.
    """
    if len(marks) != len(categories):
        raise ValueError(f'{len(marks)} marks for {len(categories)} categories; give one each')
    groups: dict[str, list[float | None]] = {}
    for mark, category in zip(marks, categories):
        groups.setdefault(category, []).append(mark)
    return {category: llm_match(groups[category]) for category in sorted(groups)}


def unanswered_share(answers: Sequence[str | float | None]) -> float:
    """Share of answers that are None or blank text, 0 to 1.

    Raises:
        ValueError: there are no answers.
    """
    if not len(answers):
        raise ValueError('no answers to count; give one for each question')
    return sum(a is None or isinstance(a, str) and not a.strip() for a in answers) / len(answers)
