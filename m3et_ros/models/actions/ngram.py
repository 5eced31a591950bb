"""NEW FILE."""

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

# MERGED from m3et_ros/evaluation/ngram
"""Targets scored at a time, to bound memory."""


MEMORY = 64
"""Labels that the cache looks back on."""


NONE = -2
"""Stands in tables for a context that is shorter."""


Counts = tuple[dict[tuple[int, ...], Counter], dict[tuple[int, ...], Counter], dict[tuple[int, ...], Counter]]
"""By number of labels of context: context to how often each class followed."""


@dataclass(frozen=True)
class NGramSettings:
    """Settings of a reference line.

    Raises:
        ValueError: a field is out of range; the message names field, value and range.
    """

    # Labels of context: 0 the prior, 1 bigram, 2 trigram.
    order: int = 2
    # m: how many observations the shorter context is worth.
    backoff: float = 4.0
    # s: share of the cache.
    cache: float = 0.0
    # r: how much a label counts for against the next newer one.
    decay: float = 0.9
    # t: power of the prior by which scores are divided.
    tau: float = 0.0

    def __post_init__(self):
        if isinstance(self.order, bool) or self.order not in (0, 1, 2):
            raise ValueError(f'order is {self.order!r}; give 0, 1 or 2')
        for name, low, high in (('backoff', 0, math.inf), ('cache', -1e-9, 1), ('decay', 0, 1), ('tau', -1e-9, 4)):
            if not low < (value := getattr(self, name)) <= high:
                raise ValueError(f'{name} is {value!r}; give a number above {max(low, 0)} and at most {high}')


class NGram:
    """Counts of one task over training targets.

    Args:
        contexts: for each training target the labels that it can see, newest last.
        labels: (N,) the targets themselves, 0 to classes - 1; a label outside is left out.
        classes: C.

    Raises:
        ValueError: nothing to count, or the lengths differ.
    """

    def __init__(self, contexts: Sequence[Sequence[int]], labels: Sequence[int], classes: int):
        if len(contexts) != len(labels) or not len(labels):
            raise ValueError(f'{len(contexts)} contexts and {len(labels)} labels; give as many, and at least one')
        counts: Counts = (defaultdict(Counter), defaultdict(Counter), defaultdict(Counter))
        for context, label in zip(contexts, labels):
            if 0 <= label < classes:
                for order in range(min(len(context), 2) + 1):
                    counts[order][tuple(context[len(context) - order :])][label] += 1
        self._keep(counts, classes)

    @classmethod
    def from_table(cls, table: np.ndarray, classes: int) -> 'NGram':
        """Counts as `table` gave them.

        Raises:
            ValueError: the table is not (R, 4), or names a class that is not there or a count below 1.
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
        found = cls.__new__(cls)
        found._keep(counts, classes)
        return found

    @property
    def table(self) -> np.ndarray:
        """All counts: rows (R, 4) int64 of a2, a1, c and n(a2, a1, c); -2 where a context is shorter."""
        rows = [
            (*(NONE,) * (2 - len(context)), *context, label, count)
            for counts in self._counts
            for context, own in counts.items()
            for label, count in own.items()
        ]
        return np.array(sorted(rows), np.int64)

    def _keep(self, counts: Counts, classes: int) -> None:
        self.classes, self._counts = classes, counts
        prior, own = np.full(classes, 1 / classes), counts[0][()]
        prior[list(own)] += list(own.values())
        self.prior = prior / prior.sum()

    def probabilities(self, context: Sequence[int], line: NGramSettings) -> np.ndarray:
        """p(c) of one target, (C,) float64, before any correction."""
        p = self.prior
        for order in range(1, min(line.order, len(context)) + 1):
            counts = self._counts[order].get(tuple(context[len(context) - order :]))
            if counts:
                total = sum(counts.values())
                p = p * (line.backoff / (total + line.backoff))
                p[list(counts)] += np.array(list(counts.values())) / (total + line.backoff)
        if not line.cache or not len(context):
            return p
        newest = [label for label in context[: -MEMORY - 1 : -1] if 0 <= label < self.classes]
        weights = line.decay ** np.arange(len(newest))
        cache = np.bincount(newest, weights / weights.sum(), self.classes) if newest else self.prior
        return (1 - line.cache) * p + line.cache * cache

    def scores(self, contexts: Sequence[Sequence[int]], line: NGramSettings) -> np.ndarray:
        """Scores (N, C) float32 of targets by what they see; higher is better."""
        correction = line.tau * np.log(self.prior)
        found = np.empty((len(contexts), self.classes), np.float32)
        for row, context in zip(found, contexts):
            row[:] = np.log(self.probabilities(context, line)) - correction
        return found

    def repeated(self, contexts: Sequence[Sequence[int]]) -> np.ndarray:
        """Scores (N, C) that name the labels of the context, newest first, then the commonest classes."""
        found = np.tile(self.prior.astype(np.float32), (len(contexts), 1))
        for row, context in zip(found, contexts):
            for place, label in enumerate(context[-MEMORY:]):
                if 0 <= label < self.classes:
                    row[label] = 2.0 + place
        return found
