"""Blind baselines: answers from the question alone, which a model that uses the image must beat (docs/papers.md 9.3).

Each baseline learns from training questions and answers only. Among equally frequent answers the alphabetically first
wins, so a baseline does not depend on the order of the data.
"""

import re
from collections import Counter
from collections.abc import Collection, Hashable, Sequence

import numpy as np

from m3et_ros.evaluation.metrics.arrays import same_length

WORD = re.compile(r'[a-z0-9]+')


def majority(answers: Sequence[str]) -> str:
    """Return the most frequent training answer.

    Raises:
        ValueError: there are no answers.
    """
    same_length(answers=answers)
    return _top(Counter(answers))


def _top(counts: Counter) -> str:
    return min(counts, key=lambda answer: (-counts[answer], answer))


def prior_by_key(
    train_keys: Sequence[Hashable],
    train_answers: Sequence[str],
    keys: Sequence[Hashable],
    fallback: Sequence[str] | None = None,
) -> list[str]:
    """Answer each key with its most frequent training answer.

    With question types as keys this is the prior of each type; with texts, the most frequent answer to that exact
    question.

    Args:
        train_keys: (n,) question types or texts.
        train_answers: (n,) their answers.
        keys: (m,) keys to answer.
        fallback: (m,) answers to keys that training lacks; None takes the overall majority.

    Returns:
        m answers.

    Raises:
        ValueError: lengths differ, or no training answers.
    """
    same_length(train_keys=train_keys, train_answers=train_answers)
    if fallback is not None and len(fallback) != len(keys):
        raise ValueError(f'{len(fallback)} fallback answers for {len(keys)} keys; give one each')
    counts: dict[Hashable, Counter] = {}
    for key, answer in zip(train_keys, train_answers, strict=True):
        counts.setdefault(key, Counter())[answer] += 1
    best = {key: _top(counter) for key, counter in counts.items()}
    fallback = [majority(train_answers)] * len(keys) if fallback is None else fallback
    return [best.get(key, other) for key, other in zip(keys, fallback, strict=True)]


def nearest_question(
    train_questions: Sequence[str], train_answers: Sequence[str], questions: Sequence[str]
) -> list[str]:
    """Answer like the training question with the most similar set of words.

    Similarity is the cosine of word sets weighted by log((1 + n) / (1 + n_w)) + 1, for n distinct training questions of
    which n_w contain the word. Ties go to the question asked more often, then to the alphabetically first. A question
    without a known word gets the overall majority.

    Args:
        train_questions: (n,) texts.
        train_answers: (n,) their answers.
        questions: (m,) texts to answer.

    Returns:
        m answers.

    Raises:
        ValueError: lengths differ, or no training answers.
    """
    same_length(train_questions=train_questions, train_answers=train_answers)
    asked = Counter(train_questions)
    texts = sorted(asked, key=lambda text: (-asked[text], text))
    answers = prior_by_key(train_questions, train_answers, texts)
    postings = _postings(texts)
    weight = {word: np.log((1 + len(texts)) / (1 + len(rows))) + 1 for word, rows in postings.items()}
    norms = np.sqrt(_add_up(postings, weight, postings, len(texts)))
    other = majority(train_answers)

    def answer(question: str) -> str:
        words = sorted(_words(question) & postings.keys())
        if not words:
            return other
        similar = _add_up(words, weight, postings, len(texts)) / np.where(norms > 0, norms, 1)
        # Round, so that the order of summation does not decide between equals.
        return answers[int(similar.round(9).argmax())]

    found = {question: answer(question) for question in dict.fromkeys(questions)}
    return [found[question] for question in questions]


def _words(text: str) -> set[str]:
    return set(WORD.findall(text.lower()))


def _postings(texts: Sequence[str]) -> dict[str, np.ndarray]:
    """Map each word to the ascending rows of the texts that contain it."""
    rows: dict[str, list[int]] = {}
    for i, text in enumerate(texts):
        for word in _words(text):
            rows.setdefault(word, []).append(i)
    return {word: np.array(rows[word]) for word in sorted(rows)}


def _add_up(words: Collection[str], weight: dict[str, float], postings: dict[str, np.ndarray], size: int) -> np.ndarray:
    """Sum the squared weights of the given words that each of `size` texts contains, (size,)."""
    if not words:
        return np.zeros(size)
    lengths = [len(postings[word]) for word in words]
    shares = np.repeat([weight[word] ** 2 for word in words], lengths)
    return np.bincount(np.concatenate([postings[word] for word in words]), shares, size)


def blind_lines(
    train_questions: Sequence[str],
    train_types: Sequence[Hashable],
    train_answers: Sequence[str],
    questions: Sequence[str],
    types: Sequence[Hashable],
) -> dict[str, list[str]]:
    """Return all baselines, name to m answers: 'majority', 'type', 'question' (backs off to its type), 'nearest'.

    Args:
        train_questions: (n,) texts of training questions.
        train_types: (n,) their types or families.
        train_answers: (n,) their answers.
        questions: (m,) texts to answer.
        types: (m,) their types.

    Raises:
        ValueError: lengths differ, or no training answers.
    """
    same_length(questions=questions, types=types)
    by_type = prior_by_key(train_types, train_answers, types)
    return {
        'majority': [majority(train_answers)] * len(questions),
        'type': by_type,
        'question': prior_by_key(train_questions, train_answers, questions, by_type),
        'nearest': nearest_question(train_questions, train_answers, questions),
    }
