"""Score answers about episodes by category, next to blind baselines (docs/papers.md 7.6, 9.3).

An unanswered question scores 0, as in OpenEQA; the share of unanswered questions and the score of the answered ones are
reported too. Intervals are over episodes, because questions about one episode resemble each other.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from m3et_ros.data.datasets.openeqa import EqaQuestion
from m3et_ros.evaluation.batches import interval_json, rounded
from m3et_ros.evaluation.metrics.answers import (
    SOFT_RULES,
    best_f1,
    exact_match,
    llm_match,
    mark_scores,
    normalise,
    older_soft_score,
    soft_score,
    token_f1,
    unanswered_share,
)
from m3et_ros.evaluation.metrics.blind_baselines import blind_lines, majority, prior_by_key
from m3et_ros.evaluation.metrics.intervals import bootstrap_mean

FIGURES = ('exact_match', 'token_f1', 'best_f1')
"""Scores of an answer, each in 0..1; best_f1 is the highest token F1 over all references."""


@dataclass(frozen=True)
class ScoredAnswer:
    """One question with its answer and scores."""

    question: EqaQuestion
    # None where the question was left unanswered.
    answer: str | None
    exact_match: float
    token_f1: float
    best_f1: float
    # Mark of a judge, 1 to 5; None where no judge was asked or there is no answer.
    mark: float | None = None
    # Soft score of VQAv2 by the official rule of today, 0..1; None where the question has no human answers.
    vqa_soft: float | None = None
    # The same by the rule of older evaluation code.
    vqa_soft_older: float | None = None


def score_answer(question: EqaQuestion, answer: str | None, mark: float | None = None) -> ScoredAnswer:
    """Score one answer; a blank one counts as none."""
    if answer is None or not answer.strip():
        none = 0.0 if question.answers else None
        return ScoredAnswer(question, None, 0.0, 0.0, 0.0, vqa_soft=none, vqa_soft_older=none)
    return ScoredAnswer(
        question,
        answer,
        exact_match(answer, question.references),
        token_f1(answer, question.answer),
        best_f1(answer, question.references),
        mark,
        soft_score(answer, question.answers) if question.answers else None,
        older_soft_score(answer, question.answers) if question.answers else None,
    )


def answer_type(answer: str) -> str:
    """Return the type of an answer as VQAv2 has it: 'yes/no', 'number' or 'other'."""
    normalised = normalise(answer)
    if normalised in ('yes', 'no'):
        return 'yes/no'
    return 'number' if normalised.isdecimal() else 'other'


def eqa_scores(
    rows: Sequence[ScoredAnswer], training: Sequence[EqaQuestion] = (), *, judged: bool = False
) -> dict[str, Any]:
    """Return the scores of answers for metrics.json.

    Args:
        rows: one for each question.
        training: questions from which the blind baselines learn; without any they count the questions of `rows`, whose
            answers an honest blind model would not know.
        judged: True if a judge gave marks; an unanswered question then has the worst mark.

    Returns:
        'all' and 'categories'; where questions have a time or human answers also 'answer_types', VQAv2's types of the
        reference.

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
    """Return blind answers: baseline to one answer for each question; see metrics.blind_baselines.

    'majority' is the commonest answer of all and 'category' that of the category. 'question' is the answer to the exact
    question, with back-off to its category, and 'nearest' that to the most similar question. The last two need training
    questions: among the asked questions they would find the question itself.
    """
    known = training or questions
    texts, kinds, answers = zip(*((q.question, q.category, q.answer) for q in known), strict=True)
    asked, asked_kinds = [q.question for q in questions], [q.category for q in questions]
    if training:
        lines = blind_lines(texts, kinds, answers, asked, asked_kinds)
        return {'category' if name == 'type' else name: line for name, line in lines.items()}
    return {'majority': [majority(answers)] * len(questions), 'category': prior_by_key(kinds, answers, asked_kinds)}


def _part(
    rows: Sequence[ScoredAnswer], lines: Mapping[str, list[str]], places: Sequence[int], judged: bool
) -> dict[str, Any]:
    """Score the rows at some positions."""
    chosen = [rows[i] for i in places]
    episodes = [row.question.episode for row in chosen]
    answered = [row for row in chosen if row.answer is not None]
    part: dict[str, Any] = {
        'questions': len(chosen),
        'episodes': len(set(episodes)),
        'unanswered': rounded(unanswered_share([row.answer for row in chosen])),
    }
    for figure in FIGURES:
        part[figure] = interval_json(bootstrap_mean([getattr(row, figure) for row in chosen], episodes), None)
    spoken = [row for row in chosen if row.question.answers]
    for name, rule in SOFT_RULES.items() if spoken else ():
        values, own_episodes = [getattr(row, name) for row in spoken], [row.question.episode for row in spoken]
        score = interval_json(bootstrap_mean(values, own_episodes), None)
        part[name] = score | {'questions': len(spoken), 'rule': rule}
    part['exact_match_of_answered'] = rounded(np.mean([row.exact_match for row in answered])) if answered else None
    part['guessing'] = {
        name: rounded(np.mean([exact_match(line[i], rows[i].question.references) for i in places]))
        for name, line in lines.items()
    }
    if judged:
        marks = [row.mark for row in chosen]
        part['llm_match'] = {
            'percent': _percent(interval_json(bootstrap_mean(mark_scores(marks), episodes), None)),
            'mean_mark': rounded(llm_match(marks).mean_mark),
        }
    return part


def _percent(share: dict[str, Any]) -> dict[str, Any]:
    return {name: None if value is None else rounded(100 * value) for name, value in share.items()}
