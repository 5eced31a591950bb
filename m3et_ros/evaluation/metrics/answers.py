"""VQA soft accuracy (VQAv2, TextVQA, VizWiz; docs/papers.md 7.1) and the tally by question family."""

import re
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike

from m3et_ros.data.datasets.openeqa import FEWEST
from m3et_ros.evaluation.metrics.arrays import finite, same_length


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
    inside, outside = matches * min(1.0, (matches - 1) / 3), (answers - matches) * min(1.0, matches / 3)
    return (inside + outside) / answers


def soft_score(prediction: str, answers: Sequence[str]) -> float:
    """Soft score of one prediction, 0 to 1.

    The prediction takes every step of the normaliser, human answers the punctuation step only (docs/papers.md 7.1).

    Args:
        prediction: the model's answer.
        answers: what people answered, ten in the public sets.

    Raises:
        ValueError: fewer than four answers.
    """
    if len(answers) < FEWEST:
        raise ValueError(
            f'{len(answers)} human answers; the soft score needs {FEWEST} or more (ten in VQAv2): '
            'use exact_match for a single reference'
        )
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


# MERGED m3et_ros/evaluation/normalise: How answers are made comparable: the normaliser of the VQA protocol (docs/papers.md 7.1).
PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
"""What the protocol takes for punctuation besides the full stop; the apostrophe is none."""

ARTICLES = frozenset(('a', 'an', 'the'))

NUMBERS = {
    word: str(n)
    for n, word in enumerate(['zero', 'one', 'two', 'three', 'four', 'five', 'six', 'seven', 'eight', 'nine', 'ten'])
}
NUMBERS['none'] = '0'

_CONTRACTED = [
    "ain't",
    "aren't",
    "can't",
    "could've",
    "couldn't",
    "couldn't've",
    "didn't",
    "doesn't",
    "don't",
    "hadn't",
    "hadn't've",
    "hasn't",
    "haven't",
    "he'd",
    "he'd've",
    "he's",
    "how'd",
    "how'll",
    "how's",
    "isn't",
    "it'd",
    "it'd've",
    "it'll",
    "ma'am",
    "mightn't",
    "mightn't've",
    "might've",
    "mustn't",
    "must've",
    "needn't",
    "not've",
    "o'clock",
    "oughtn't",
    "'ow's'at",
    "shan't",
    "she'd've",
    "should've",
    "shouldn't",
    "shouldn't've",
    "somebody'd've",
    "somebody'll",
    "somebody's",
    "someone'd",
    "someone'd've",
    "someone'll",
    "someone's",
    "something'd",
    "something'd've",
    "something'll",
    "that's",
    "there'd",
    "there'd've",
    "there're",
    "there's",
    "they'd",
    "they'd've",
    "they'll",
    "they're",
    "they've",
    "'twas",
    "wasn't",
    "we'd've",
    "we've",
    "weren't",
    "what'll",
    "what're",
    "what's",
    "what've",
    "when's",
    "where'd",
    "where's",
    "where've",
    "who'd",
    "who'd've",
    "who'll",
    "who's",
    "who've",
    "why'll",
    "why're",
    "why's",
    "won't",
    "would've",
    "wouldn't",
    "wouldn't've",
    "y'all",
    "y'all'll",
    "y'all'd've",
    "you'd",
    "you'd've",
    "you'll",
    "you're",
    "you've",
]


def _contractions() -> dict[str, str]:
    """Each contraction by its spellings with exactly one apostrophe missing."""
    found = {word[:i] + word[i + 1 :]: word for word in _CONTRACTED for i, letter in enumerate(word) if letter == "'"}
    # The protocol's own slip, kept so that scores agree with it.
    return found | {"somebody'd": 'somebodyd'}


CONTRACTIONS = _contractions()

_GROUPED_DIGITS = re.compile(r'\d,\d')
_FULL_STOP = re.compile(r'\.(?!\d)')


def strip_punctuation(text: str) -> str:
    """Remove punctuation from one answer; full stops before a digit stay.

    A mark beside a blank, and every mark of an answer with grouped digits such as 1,000, goes without trace; any other
    mark becomes a blank.
    """
    grouped = _GROUPED_DIGITS.search(text)
    out = text
    for mark in PUNCTUATION:
        if mark in text:
            out = out.replace(mark, '' if grouped or f'{mark} ' in text or f' {mark}' in text else ' ')
    return _FULL_STOP.sub('', out)


def _one_line(text: str) -> str:
    return text.replace('\n', ' ').replace('\t', ' ').strip()


@lru_cache(maxsize=65536)
def normalise(answer: str) -> str:
    """Every step, as the protocol treats a prediction: 'The two  Mugs.' becomes '2 mugs'."""
    words = strip_punctuation(_one_line(answer).lower()).split()
    words = [NUMBERS.get(word, word) for word in words]
    return ' '.join(CONTRACTIONS.get(word, word) for word in words if word not in ARTICLES)


@lru_cache(maxsize=65536)
def normalise_reference(answer: str) -> str:
    """The punctuation step only, as the protocol treats a human answer."""
    return strip_punctuation(_one_line(answer))


# MERGED m3et_ros/evaluation/openeqa: OpenEQA's score from marks that a judge gave (docs/papers.md 7.6); nothing here calls a judge.
WORST, BEST = 1.0, 5.0
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
    return sum(a is None or (isinstance(a, str) and not a.strip()) for a in answers) / len(answers)


# MERGED m3et_ros/evaluation/text: Free-text answers against references: exact match and token F1 (docs/papers.md 7.6), GQA's rule (7.2).
#
# MERGED Every score is between 0 and 1. Answers are normalised on both sides unless said otherwise.
def exact_match(prediction: str, references: str | Sequence[str]) -> float:
    """1 if the normalised prediction equals any normalised reference, else 0."""
    return float(normalise(prediction) in {normalise(reference) for reference in _list(references)})


def token_f1(prediction: str, reference: str) -> float:
    """Harmonic mean of precision and recall over the multiset of words; 1 if both sides are empty."""
    said, asked = normalise(prediction).split(), normalise(reference).split()
    if not said or not asked:
        return float(said == asked)
    common = sum((Counter(said) & Counter(asked)).values())
    return 2 * common / (len(said) + len(asked))


def best_f1(prediction: str, references: str | Sequence[str]) -> float:
    """The best token F1 over the reference and its extra references.

    Raises:
        ValueError: there is no reference.
    """
    return max(token_f1(prediction, reference) for reference in _list(references))


def gqa_match(prediction: str, reference: str) -> float:
    """GQA: 1 if equal after lower case and a trailing full stop taken off, else 0 (docs/papers.md 7.2)."""
    return float(_gqa(prediction) == _gqa(reference))


def _gqa(answer: str) -> str:
    return answer.strip().lower().removesuffix('.')


def _list(references: str | Sequence[str]) -> Sequence[str]:
    references = (references,) if isinstance(references, str) else references
    if not references:
        raise ValueError('no reference answer; give at least one')
    return references
