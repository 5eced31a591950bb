"""Which question is asked of which frame, so that guessing without looking gains little.

A draw takes a family evenly, a kind of question in it evenly, a wording, then one of the answers that this wording
has, evenly, and only then a frame in which it is the answer. What has one answer throughout ("Is the milk white?") is
not asked. So the best blind guess is right about once in as many times as a wording has answers.

Glossary: wording, a kind of question with its fields ('colour', a = 'cup'); pool, the frames of one wording and answer.
"""

from collections.abc import Sequence

import numpy as np

RARE = 8
"""An answer seen in fewer frames than this is drawn proportionally less, or a few frames would be learnt by heart."""


class Balance:
    """Draws rows of a question table.

    Args:
        wording: number of the wording of each row, (R,).
        answer: number of the answer of each row, (R,).
        kinds: (family, kind) of each wording.
        chosen: rows that may be drawn, (R,) bool; the odds are those of all rows. None for all.

    Raises:
        ValueError: no row is left that can be drawn.
    """

    def __init__(
        self,
        wording: np.ndarray,
        answer: np.ndarray,
        kinds: Sequence[tuple[str, str]],
        *,
        chosen: np.ndarray | None = None,
    ):
        answers = int(answer.max(initial=0)) + 1
        pool = wording.astype(np.int64) * answers + answer
        pools, counts = np.unique(pool, return_counts=True)
        odds = _wording_odds(pools // answers, counts, len(kinds))
        if chosen is not None:
            kept = np.flatnonzero(chosen)
            pools, counts = np.unique(pool[kept], return_counts=True)
            self._rows = kept[np.argsort(pool[kept], kind='stable')]
        else:
            self._rows = np.argsort(pool, kind='stable')
        self._rows = self._rows.astype(np.uint32)
        self._start = np.concatenate([[0], np.cumsum(counts)])
        self._of_wording, self._answer = pools // answers, pools % answers
        weight = np.minimum(counts, RARE) / RARE
        share = np.bincount(self._of_wording, weight, len(kinds))[self._of_wording]
        self._within = weight / share  # odds of an answer, given the wording
        self._plan(odds, kinds)

    def _plan(self, odds: np.ndarray, kinds: Sequence[tuple[str, str]]) -> None:
        """Cumulative odds of the pools of each family."""
        by_kind = {}
        for i, wording in enumerate(self._of_wording):
            if odds[wording] > 0:
                by_kind.setdefault(kinds[wording], []).append(i)
        by_family = {}
        for (family, _), members in sorted(by_kind.items()):
            value = odds[self._of_wording[members]] * self._within[members]
            by_family.setdefault(family, []).append((np.array(members), value / value.sum()))
        if not by_family:
            raise ValueError('no question has two answers; give more frames')
        self.families = tuple(by_family)
        self._members = [np.concatenate([members for members, _ in groups]) for groups in by_family.values()]
        self._odds = [np.concatenate([value for _, value in groups]) / len(groups) for groups in by_family.values()]
        self._steps = [np.cumsum(odds) for odds in self._odds]

    def draw(self, rng: np.random.Generator) -> int:
        """One row."""
        family = rng.integers(len(self.families))
        steps = self._steps[family]
        place = min(np.searchsorted(steps, rng.random() * steps[-1], side='right'), len(steps) - 1)
        pool = self._members[family][place]
        return int(self._rows[rng.integers(self._start[pool], self._start[pool + 1])])

    def row_odds(self, rows: int) -> np.ndarray:
        """How likely a draw takes each of the first `rows` rows of the table, (rows,) float64, summing to 1."""
        odds = np.zeros(rows)
        for members, values in zip(self._members, self._odds):
            for pool, value in zip(members, values / values.sum() / len(self._members)):
                first, end = self._start[pool], self._start[pool + 1]
                odds[self._rows[first:end]] = value / (end - first)
        return odds

    def best_blind(self) -> dict[str, float]:
        """Family -> accuracy of who knows every odd and sees nothing but the question."""
        result = {}
        for family, members, odds in zip(self.families, self._members, self._odds):
            best: dict[int, float] = {}
            for wording, value in zip(self._of_wording[members], odds):
                best[wording] = max(best.get(wording, 0.0), value)
            result[family] = float(sum(best.values()))
        return result

    def majority(self) -> dict[str, float]:
        """Family -> share of its commonest answer: the accuracy of who knows only the family."""
        return {
            family: float(np.bincount(self._answer[members], odds).max())
            for family, members, odds in zip(self.families, self._members, self._odds)
        }


def _wording_odds(of_wording: np.ndarray, counts: np.ndarray, wordings: int) -> np.ndarray:
    """How much is to be learnt from each wording: the root of how often its second answer is seen, (wordings,)."""
    order = np.lexsort((-counts, of_wording))
    sorted_wording = of_wording[order]
    second = np.flatnonzero(sorted_wording[1:] == sorted_wording[:-1]) + 1
    first_of = np.concatenate([[True], sorted_wording[1:] != sorted_wording[:-1]])
    second = second[first_of[second - 1]]
    odds = np.zeros(wordings)
    odds[sorted_wording[second]] = np.sqrt(counts[order][second])
    return odds
