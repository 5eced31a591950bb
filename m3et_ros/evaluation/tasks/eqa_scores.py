"""Scores of answers about episodes: per category, next to what guessing gives (docs/papers.md 7.6, 9.3).

A question left unanswered scores 0, as OpenEQA has it; its share is told, and so is the score of what was answered.
Intervals are over episodes, since questions about one episode resemble each other.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from m3et_ros.data.datasets.openeqa import EqaQuestion
from m3et_ros.evaluation.batches import rounded
from m3et_ros.evaluation.metrics.answers import (
    best_f1,
    exact_match,
    llm_match,
    mark_scores,
    normalise,
    soft_score,
    token_f1,
    unanswered_share,
)
from m3et_ros.evaluation.metrics.blind_baselines import blind_lines, majority, prior_by_key
from m3et_ros.evaluation.metrics.intervals import Interval, bootstrap_mean

FIGURES = ('exact_match', 'token_f1', 'best_f1')
"""Scores of an answer, each from 0 to 1; best_f1 is token F1 against the best of all references."""


@dataclass(frozen=True)
class Scored:
    """One question with its answer and scores."""

    question: EqaQuestion
    # None where it was left unanswered.
    answer: str | None
    exact_match: float
    token_f1: float
    best_f1: float
    # What a judge gave, 1 to 5; None where none was asked or nothing was answered.
    mark: float | None = None
    # Soft score of VQAv2, 0 to 1; None where the question does not tell what people answered.
    vqa_soft: float | None = None


def score_answer(question: EqaQuestion, answer: str | None, mark: float | None = None) -> Scored:
    """Score one answer; a blank one counts as none."""
    if answer is None or not answer.strip():
        return Scored(question, None, 0.0, 0.0, 0.0, vqa_soft=0.0 if question.answers else None)
    return Scored(
        question,
        answer,
        exact_match(answer, question.references),
        token_f1(answer, question.answer),
        best_f1(answer, question.references),
        mark,
        soft_score(answer, question.answers) if question.answers else None,
    )


def answer_type(answer: str) -> str:
    """One of VQAv2's three types of answers: 'yes/no', 'number' or 'other'."""
    said = normalise(answer)
    return 'yes/no' if said in ('yes', 'no') else 'number' if said.isdecimal() else 'other'


def eqa_scores(rows: Sequence[Scored], training: Sequence[EqaQuestion] = (), *, judged: bool = False) -> dict[str, Any]:
    """Everything that metrics.json says about answers.

    Args:
        rows: one for each question that was asked.
        training: questions from which the blind lines are learnt; without any they are counted over these very
            questions, whose answers an honest blind model would not know.
        judged: whether a judge gave marks; a question left unanswered then has the worst.

    Returns:
        'all' and 'categories'; where there are questions with a time or with people's answers also 'answer_types',
        VQAv2's, by the reference.

    Raises:
        ValueError: there are no rows.
    """
    if not rows:
        raise ValueError('no answers to score; give at least one')
    lines = guesses([row.question for row in rows], training)
    groups = {'categories': [row.question.category for row in rows]}
    if any(row.question.time is not None or row.question.answers for row in rows):
        groups['answer_types'] = [answer_type(row.question.answer) for row in rows]
    return {
        'lines_from': 'training questions' if training else 'these questions',
        'all': _part(rows, lines, range(len(rows)), judged),
    } | {
        group: {
            name: _part(rows, lines, [i for i, own in enumerate(names) if own == name], judged)
            for name in sorted(set(names))
        }
        for group, names in groups.items()
    }


def guesses(questions: Sequence[EqaQuestion], training: Sequence[EqaQuestion] = ()) -> dict[str, list[str]]:
    """Answers without looking: line to one answer for each question; see evaluation.blind.

    'majority' is the commonest answer of all, 'category' that of the category, 'question' that of the exact question,
    backed off to its category, 'nearest' that of the most similar question. The last two need training questions: among
    the asked ones themselves they would find the question again.
    """
    known = training or questions
    texts, kinds, answers = zip(*((q.question, q.category, q.answer) for q in known))
    asked, asked_kinds = [q.question for q in questions], [q.category for q in questions]
    if training:
        lines = blind_lines(texts, kinds, answers, asked, asked_kinds)
        return {'category' if name == 'type' else name: line for name, line in lines.items()}
    return {'majority': [majority(answers)] * len(questions), 'category': prior_by_key(kinds, answers, asked_kinds)}


def _part(
    rows: Sequence[Scored], lines: Mapping[str, list[str]], places: Sequence[int], judged: bool
) -> dict[str, Any]:
    """Scores of some rows."""
    chosen = [rows[i] for i in places]
    episodes = [row.question.episode for row in chosen]
    answered = [row for row in chosen if row.answer is not None]
    part: dict[str, Any] = {
        'questions': len(chosen),
        'episodes': len(set(episodes)),
        'unanswered': rounded(unanswered_share([row.answer for row in chosen])),
    }
    for figure in FIGURES:
        part[figure] = _told(bootstrap_mean([getattr(row, figure) for row in chosen], episodes))
    soft = [(row.vqa_soft, row.question.episode) for row in chosen if row.vqa_soft is not None]
    if soft:
        part['vqa_soft'] = _told(bootstrap_mean(*zip(*soft))) | {'questions': len(soft)}
    part['exact_match_of_answered'] = rounded(np.mean([row.exact_match for row in answered])) if answered else None
    part['guessing'] = {
        name: rounded(np.mean([exact_match(line[i], rows[i].question.references) for i in places]))
        for name, line in lines.items()
    }
    if judged:
        part['llm_match'] = _judged(chosen, episodes)
    return part


def _judged(chosen: Sequence[Scored], episodes: Sequence[str]) -> dict[str, Any]:
    """LLM-match on both scales: 0 to 100 with its interval, and the mean mark of 1 to 5."""
    marks = [row.mark for row in chosen]
    found = llm_match(marks)
    return {'percent': _told(bootstrap_mean(100 * mark_scores(marks), episodes)), 'mean_mark': rounded(found.mean_mark)}


def _told(interval: Interval) -> dict[str, Any]:
    """An interval as JSON has it."""
    return {'value': rounded(interval.value), 'low': rounded(interval.low), 'high': rounded(interval.high)}
