"""Compare free-text answers with references: VQA soft score, exact match, token F1 and OpenEQA's LLM-match.

The normaliser of the VQA protocol (docs/papers.md 7.1) makes answers comparable; the scores below build on it. Every
score lies in 0..1 unless its name contains per cent or mark.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from m3et_ros.data.datasets.openeqa import FEWEST
from m3et_ros.evaluation.metrics.arrays import same_length

PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
"""Punctuation of the protocol besides the full stop; the apostrophe is not part of it."""

ARTICLES = frozenset(('a', 'an', 'the'))

NUMBERS = {
    word: str(n)
    for n, word in enumerate(['zero', 'one', 'two', 'three', 'four', 'five', 'six', 'seven', 'eight', 'nine', 'ten'])
}
NUMBERS['none'] = '0'

_CONTRACTED = (
    "ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't haven't he'd "
    "he'd've he's how'd how'll how's isn't it'd it'd've it'll ma'am mightn't mightn't've might've mustn't must've "
    "needn't not've o'clock oughtn't 'ow's'at shan't she'd've should've shouldn't shouldn't've somebody'd've "
    "somebody'll somebody's someone'd someone'd've someone'll someone's something'd something'd've something'll "
    "that's there'd there'd've there're there's they'd they'd've they'll they're they've 'twas wasn't we'd've we've "
    "weren't what'll what're what's what've when's where'd where's where've who'd who'd've who'll who's who've why'll "
    "why're why's won't would've wouldn't wouldn't've y'all y'all'll y'all'd've you'd you'd've you'll you're you've"
)

_GROUPED_DIGITS = re.compile(r'\d,\d')
_FULL_STOP = re.compile(r'\.(?!\d)')
_FULL_STOPS = 32
"""Full stops that the protocol removes at most, a slip of its own."""


def _contractions() -> dict[str, str]:
    """Map every spelling with exactly one apostrophe missing to its contraction."""
    words = _CONTRACTED.split()
    found = {word[:i] + word[i + 1 :]: word for word in words for i, letter in enumerate(word) if letter == "'"}
    # The protocol has this slip; scores agree with it only if it stays.
    return found | {"somebody'd": 'somebodyd'}


CONTRACTIONS = _contractions()


def strip_punctuation(text: str) -> str:
    """Remove punctuation from an answer; a full stop before a digit stays.

    A mark next to a blank is deleted, and so is every mark of an answer with grouped digits such as 1,000. Any other
    mark becomes a blank. The protocol removes at most 32 full stops.
    """
    grouped = _GROUPED_DIGITS.search(text)
    stripped = text
    for mark in PUNCTUATION:
        if mark in text:
            stripped = stripped.replace(mark, '' if grouped or f'{mark} ' in text or f' {mark}' in text else ' ')
    return _FULL_STOP.sub('', stripped, count=_FULL_STOPS)


def _one_line(text: str) -> str:
    return text.replace('\n', ' ').replace('\t', ' ').strip()


@lru_cache(maxsize=65536)
def normalise(answer: str) -> str:
    """Apply every step of the protocol: 'The two  Mugs.' becomes '2 mugs'."""
    words = strip_punctuation(_one_line(answer).lower()).split()
    words = [NUMBERS.get(word, word) for word in words]
    return ' '.join(CONTRACTIONS.get(word, word) for word in words if word not in ARTICLES)


@lru_cache(maxsize=65536)
def normalise_reference(answer: str) -> str:
    """Apply the punctuation step only, as an older revision of the protocol does to a human answer."""
    return strip_punctuation(_one_line(answer))


def agreement(matches: int, answers: int = 10) -> float:
    """Return the mean over the leave-one-out sets of min(1, matches among the others / 3).

    Args:
        matches: number of human answers that equal the prediction, 0 to answers.
        answers: number of human answers.

    Returns:
        Score in 0..1; with ten answers 0, 0.3, 0.6 and 0.9, then 1 from four matches on.
    """
    inside, outside = matches * min(1.0, (matches - 1) / 3), (answers - matches) * min(1.0, matches / 3)
    return (inside + outside) / answers


SOFT_RULES = {
    'vqa_soft': 'official rule (GT-Vision-Lab/VQA a013f00): every step on both sides, none where all people agree',
    'vqa_soft_older': 'rule of older evaluation code: every step on the answer, punctuation only on the human answers',
}
"""Names of the soft scores in metrics.json, and their rules."""


def soft_score(prediction: str, answers: Sequence[str]) -> float:
    """Return the VQA soft score of one prediction (VQAv2, TextVQA, VizWiz), 0 to 1, by the official rule of today.

    Prediction and human answers take every step of the normaliser, unless all people gave the same answer: then only
    line breaks, tabs and outer blanks go, and 'Two' does not match ten times 'two' (docs/papers.md 7.1).

    Args:
        prediction: the model's answer.
        answers: the answers that people gave, ten in the public data sets.

    Raises:
        ValueError: there are fewer than four answers.
    """
    _check_people(answers)
    given, predicted = [_one_line(answer) for answer in answers], _one_line(prediction)
    if len(set(given)) > 1:
        given, predicted = [normalise(answer) for answer in given], normalise(predicted)
    return agreement(given.count(predicted), len(given))


def older_soft_score(prediction: str, answers: Sequence[str]) -> float:
    """Return the soft score by the rule of older evaluation code, for figures that were published with it.

    The prediction takes every step, human answers the punctuation step only; arguments and errors as in soft_score.
    """
    _check_people(answers)
    predicted = normalise(prediction)
    return agreement(sum(normalise_reference(answer) == predicted for answer in answers), len(answers))


def _check_people(answers: Sequence[str]) -> None:
    if len(answers) < FEWEST:
        raise ValueError(
            f'{len(answers)} human answers; the soft score needs {FEWEST} or more (ten in VQAv2): '
            'use exact_match for a single reference'
        )


def soft_scores(predictions: Sequence[str], answers: Sequence[Sequence[str]]) -> np.ndarray:
    """Return the soft scores (n,) of n predictions; the official figure is 100 times their mean.

    Raises:
        ValueError: lengths differ, there is nothing to score, or a question has fewer than four answers.
    """
    same_length(predictions=predictions, answers=answers)
    return np.array([soft_score(*pair) for pair in zip(predictions, answers, strict=True)])


def exact_match(prediction: str, references: str | Sequence[str]) -> float:
    """Return 1 if the normalised prediction equals any normalised reference, else 0 (docs/papers.md 7.6).

    Raises:
        ValueError: there is no reference.
    """
    return float(normalise(prediction) in {normalise(reference) for reference in _as_list(references)})


def token_f1(prediction: str, reference: str) -> float:
    """Return the harmonic mean of precision and recall over the multiset of words; 1 if both sides are empty."""
    predicted, wanted = normalise(prediction).split(), normalise(reference).split()
    if not predicted or not wanted:
        return float(predicted == wanted)
    common = sum((Counter(predicted) & Counter(wanted)).values())
    return 2 * common / (len(predicted) + len(wanted))


def best_f1(prediction: str, references: str | Sequence[str]) -> float:
    """Return the highest token F1 over all references.

    Raises:
        ValueError: there is no reference.
    """
    return max(token_f1(prediction, reference) for reference in _as_list(references))


def _as_list(references: str | Sequence[str]) -> Sequence[str]:
    references = (references,) if isinstance(references, str) else references
    if not references:
        raise ValueError('no reference answer; give at least one')
    return references


def unanswered_share(answers: Sequence[str | float | None]) -> float:
    """Return the share of answers that are None or blank text, 0 to 1.

    Raises:
        ValueError: there are no answers.
    """
    if not len(answers):
        raise ValueError('no answers to count; give one for each question')
    return sum(a is None or (isinstance(a, str) and not a.strip()) for a in answers) / len(answers)


WORST, BEST = 1.0, 5.0
"""Ends of the judge's scale of marks (OpenEQA, docs/papers.md 7.6)."""


@dataclass(frozen=True)
class LlmMatch:
    """OpenEQA's LLM-match on both of its scales."""

    # Number of questions, answered or not.
    count: int
    # 100 * mean((mark - 1) / 4), 0 to 100.
    percent: float
    # Mean mark, 1 to 5.
    mean_mark: float
    # Share of questions without an answer, 0 to 1; each counts with the worst mark.
    unanswered: float


def mark_scores(marks: Sequence[float | None]) -> np.ndarray:
    """Convert marks to scores (n,) in 0..1, (clip(mark, 1, 5) - 1) / 4; None, a missing answer, scores 0.

    Raises:
        ValueError: a mark is NaN or infinite.
    """
    values = np.array([WORST if mark is None else mark for mark in marks], dtype=np.float64)
    if not np.isfinite(values).all():
        raise ValueError('a mark is not finite; give 1 to 5, or None where there was no answer')
    return (values.clip(WORST, BEST) - WORST) / (BEST - WORST)


def llm_match(marks: Sequence[float | None]) -> LlmMatch:
    """Return the LLM-match of n marks from 1 to 5, None for a question left unanswered.

    Raises:
        ValueError: there are no marks, or one is not finite.
    """
    if not len(marks):
        raise ValueError('no marks to score; give one for each question')
    mean = float(mark_scores(marks).mean())
    return LlmMatch(len(marks), 100 * mean, WORST + (BEST - WORST) * mean, unanswered_share(marks))
