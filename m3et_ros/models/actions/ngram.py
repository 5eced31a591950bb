"""N-gram models of action labels: the baseline of the history model, and an expert beside it (docs/papers.md 9.2).

A label c is predicted from the labels before it, newest last, by counts over training targets with back-off, and from
a cache of recent labels. With m = backoff, s = cache, r = decay, t = tau and C classes:
    p_0(c) = (n(c) + 1 / C) / (n + 1)
    p_k(c) = (n(context_k, c) + m p_{k-1}(c)) / (n(context_k) + m),    context_k the last k labels, k = 1 to order
    p(c) = (1 - s) p_order(c) + s sum_j r^j [label j + 1 from the end is c] / sum_j r^j
    score(c) = log p(c) - t log p_0(c)
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from m3et_ros.models.config_checks import check_above, check_number, check_whole

MEMORY = 64
"""Number of labels that the cache covers."""
NONE = -2
"""Entry of a table where the context is shorter."""

Counts = tuple[dict[tuple[int, ...], Counter], dict[tuple[int, ...], Counter], dict[tuple[int, ...], Counter]]
"""By length of the context, 0 to 2: context to how often each class followed."""


@dataclass(frozen=True)
class NGramSettings:
    """Settings of an n-gram model.

    Raises:
        ValueError: a field has the wrong type or is out of range; the message names field, value and range.
    """

    # Labels of context: 0 the prior, 1 a bigram, 2 a trigram.
    order: int = 2
    # m: number of observations that the shorter context is worth.
    backoff: float = 4.0
    # s: share of the cache.
    cache: float = 0.0
    # r: weight of a label relative to the next newer one.
    decay: float = 0.9
    # t: power of the prior by which scores are divided.
    tau: float = 0.0

    def __post_init__(self):
        check_whole(self, {'order': (0, 2)})
        check_above(self, {'backoff': (0, 1e9), 'decay': (0, 1)})
        check_number(self, {'cache': (0, 1), 'tau': (0, 4)})


class NGram:
    """Counts of one task over training targets.

    Args:
        contexts: for each training target the labels before it, newest last.
        labels: (N,) the targets, 0 to classes - 1; a label outside that range is left out.
        classes: C.

    Raises:
        ValueError: there is nothing to count, or the lengths differ.
    """

    def __init__(self, contexts: Sequence[Sequence[int]], labels: Sequence[int], classes: int):
        if len(contexts) != len(labels) or not len(labels):
            raise ValueError(f'{len(contexts)} contexts and {len(labels)} labels; give as many, and at least one')
        counts: Counts = (defaultdict(Counter), defaultdict(Counter), defaultdict(Counter))
        for context, label in zip(contexts, labels, strict=True):
            if 0 <= label < classes:
                for order in range(min(len(context), 2) + 1):
                    counts[order][tuple(context[len(context) - order :])][label] += 1
        self._set_counts(counts, classes)

    @classmethod
    def from_table(cls, table: np.ndarray, classes: int) -> 'NGram':
        """Build a model from the counts in a `table`.

        Raises:
            ValueError: the table is not (R, 4), or holds an unknown class or a count below 1.
        """
        if (
            table.ndim != 2
            or table.shape[1:] != (4,)
            or not len(table)
            or (table[:, 3] < 1).any()
            or not ((table[:, 2] >= 0) & (table[:, 2] < classes)).all()
        ):
            raise ValueError(
                f'the table of counts is {table.shape}; give rows of a2, a1, class (0 to {classes - 1}) '
                'and a count from 1'
            )
        counts: Counts = (defaultdict(Counter), defaultdict(Counter), defaultdict(Counter))
        for *context, label, count in table.tolist():
            known = tuple(item for item in context if item != NONE)
            counts[len(known)][known][label] = count
        model = cls.__new__(cls)
        model._set_counts(counts, classes)
        return model

    @property
    def table(self) -> np.ndarray:
        """Return all counts as rows (R, 4) int64 of a2, a1, c and n(a2, a1, c); NONE where a context is shorter."""
        rows = [
            (*(NONE,) * (2 - len(context)), *context, label, count)
            for counts in self._counts
            for context, own in counts.items()
            for label, count in own.items()
        ]
        return np.array(sorted(rows), np.int64)

    def _set_counts(self, counts: Counts, classes: int) -> None:
        self.classes, self._counts = classes, counts
        prior, own = np.full(classes, 1 / classes), counts[0][()]
        prior[list(own)] += list(own.values())
        self.prior = prior / prior.sum()

    def probabilities(self, context: Sequence[int], settings: NGramSettings) -> np.ndarray:
        """Return p(c) of one target, (C,) float64, before the correction by tau."""
        p = self.prior
        for order in range(1, min(settings.order, len(context)) + 1):
            counts = self._counts[order].get(tuple(context[len(context) - order :]))
            if counts:
                total = sum(counts.values())
                p = p * (settings.backoff / (total + settings.backoff))
                p[list(counts)] += np.array(list(counts.values())) / (total + settings.backoff)
        if not settings.cache or not len(context):
            return p
        newest = [label for label in context[: -MEMORY - 1 : -1] if 0 <= label < self.classes]
        weights = settings.decay ** np.arange(len(newest))
        cache = np.bincount(newest, weights / weights.sum(), self.classes) if newest else self.prior
        return (1 - settings.cache) * p + settings.cache * cache

    def scores(self, contexts: Sequence[Sequence[int]], settings: NGramSettings) -> np.ndarray:
        """Return scores (N, C) float32 of targets, given the labels before each; higher is better."""
        correction = settings.tau * np.log(self.prior)
        scores = np.empty((len(contexts), self.classes), np.float32)
        for row, context in zip(scores, contexts, strict=True):
            row[:] = np.log(self.probabilities(context, settings)) - correction
        return scores

    def repeated(self, contexts: Sequence[Sequence[int]]) -> np.ndarray:
        """Return scores (N, C) that rank the labels of each context, newest first, and then the most common classes."""
        scores = np.tile(self.prior.astype(np.float32), (len(contexts), 1))
        for row, context in zip(scores, contexts, strict=True):
            for place, label in enumerate(context[-MEMORY:]):
                if 0 <= label < self.classes:
                    row[label] = 2.0 + place
        return scores
