"""Balanced draws from a table of questions, so that guessing without an image gains little.

A draw takes a family evenly, then a kind of question evenly, then a wording, then one of the answers of that wording
evenly, and only then a frame with that answer. A wording that always has the same answer ("Is the milk white?") is not
asked. For a wording with n answers, the best blind guess is therefore right in about 1 / n of the cases.

The family 'absent' asks in the words of other families about things out of view, and its answer is always 'not in
view'. Such a wording is drawn only if its words are also drawn in another family, and as often as there: "What colour
is the milk?" gives its answer away, since the milk is always white, and is drawn in neither. The best blind guess is
then one for both families together, and each family reports its share of it.

Glossary: wording, a kind of question with its fields ('colour', a = 'cup') in one family; text, the same without the
family, so that wordings of several families may share it; pool, the rows of one wording and answer.

From a seed to a question: after questions/frame.py, before questions/splits.py.
"""

from collections.abc import Mapping, Sequence

import numpy as np

RARE = 8
"""An answer of fewer rows than this is drawn less often in proportion, or a model would memorise a few frames.

This ties the odds to the size of a cache: the more kitchens, the more answers have this many rows, and the evener the
odds of a wording with many answers are. A small test cache asks for common answers more often than a large one. The
evaluation keeps this definition, so that its figures compare; training tempers the odds instead (TEMPERED).
"""

TEMPERED = {'count': 0.5, 'count_colour': 0.5, 'nearest': 0.5}
"""Kind of question -> exponent of the odds of its answers in training. Drawn evenly, '9' and 'purple kettle' would come
as often as '1' and 'white cup', from the same few frames."""


class Balance:
    """Draw rows of a question table.

    Args:
        wording: number of the wording of each row, (R,).
        answer: number of the answer of each row, (R,).
        kinds: (family, kind) of each wording.
        chosen: rows that may be drawn, (R,) bool; None for all. The odds of the wordings are those of all rows.
        texts: number of the text of each wording, (W,); None if no two wordings share one.
        temper: kind -> tau in 0..1: within its wordings, an answer of n rows is drawn in proportion to n ** tau. Kinds
            that it lacks have tau 0, even odds.

    Attributes:
        families: those that can be drawn.

    Raises:
        ValueError: no row can be drawn.
    """

    def __init__(
        self,
        wording: np.ndarray,
        answer: np.ndarray,
        kinds: Sequence[tuple[str, str]],
        *,
        chosen: np.ndarray | None = None,
        texts: np.ndarray | None = None,
        temper: Mapping[str, float] | None = None,
    ):
        self._texts = np.arange(len(kinds)) if texts is None else np.asarray(texts)
        answers = int(answer.max(initial=0)) + 1
        pool = wording.astype(np.int64) * answers + answer
        pools, counts = np.unique(pool, return_counts=True)
        odds = _wording_odds(pools // answers, counts, self._texts)
        if chosen is None:
            rows = np.argsort(pool, kind='stable')
        else:
            allowed = np.flatnonzero(chosen)
            pools, counts = np.unique(pool[allowed], return_counts=True)
            rows = allowed[np.argsort(pool[allowed], kind='stable')]
        self._rows = rows.astype(np.uint32)
        self._start = np.concatenate([[0], np.cumsum(counts)])
        self._of_wording, self._answer = pools // answers, pools % answers
        tau = np.array([(temper or {}).get(kind, 0.0) for _, kind in kinds])[self._of_wording]
        weight = np.minimum(counts, RARE) / RARE * counts**tau
        share = np.bincount(self._of_wording, weight, len(kinds))[self._of_wording]
        self._set_odds(odds, weight / share, kinds)

    def _set_odds(self, odds: np.ndarray, within: np.ndarray, kinds: Sequence[tuple[str, str]]) -> None:
        """Compute the odds of the pools of each family.

        Args:
            odds: odds of each wording.
            within: odds of the answer of each pool, given the wording.
            kinds: (family, kind) of each wording.
        """
        by_kind: dict[tuple[str, str], list[int]] = {}
        for i, wording in enumerate(self._of_wording):
            if odds[wording] > 0:
                by_kind.setdefault(kinds[wording], []).append(i)
        by_family: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}
        for (family, _), members in sorted(by_kind.items()):
            value = odds[self._of_wording[members]] * within[members]
            by_family.setdefault(family, []).append((np.array(members), value / value.sum()))
        if not by_family:
            raise ValueError('no question has two answers; give more frames')
        self.families = tuple(by_family)
        self._members = [np.concatenate([members for members, _ in groups]) for groups in by_family.values()]
        self._odds = [np.concatenate([value for _, value in groups]) / len(groups) for groups in by_family.values()]
        self._steps = [np.cumsum(odds) for odds in self._odds]

    def draw(self, rng: np.random.Generator) -> int:
        """Draw one row."""
        family = rng.integers(len(self.families))
        steps = self._steps[family]
        place = min(np.searchsorted(steps, rng.random() * steps[-1], side='right'), len(steps) - 1)
        pool = self._members[family][place]
        return int(self._rows[rng.integers(self._start[pool], self._start[pool + 1])])

    def row_odds(self, rows: int) -> np.ndarray:
        """Return the probability of each of the first `rows` rows in a draw, (rows,) float64; all rows sum to 1."""
        odds = np.zeros(rows)
        for members, values in zip(self._members, self._odds, strict=True):
            for pool, value in zip(members, values / values.sum() / len(self._members), strict=True):
                first, end = self._start[pool], self._start[pool + 1]
                odds[self._rows[first:end]] = value / (end - first)
        return odds

    def best_blind(self) -> dict[str, float]:
        """Return family -> accuracy of a guesser that knows all odds and the question, but not the picture.

        The guesser does not know the family: for a text of several families it gives the one answer that is right most
        often over all of them. No other guesser has a higher mean over the families.
        """
        odds: dict[tuple[int, int], float] = {}  # of each text and answer
        for members, values in zip(self._members, self._odds, strict=True):
            for pool, value in zip(members, values, strict=True):
                key = int(self._texts[self._of_wording[pool]]), int(self._answer[pool])
                odds[key] = odds.get(key, 0.0) + value
        best: dict[int, int] = {}
        for text, answer in odds:
            if odds[text, answer] > odds[text, best.setdefault(text, answer)]:
                best[text] = answer
        return {
            family: float(
                sum(
                    value
                    for pool, value in zip(members, values, strict=True)
                    if best[int(self._texts[self._of_wording[pool]])] == self._answer[pool]
                )
            )
            for family, members, values in zip(self.families, self._members, self._odds, strict=True)
        }

    def majority(self) -> dict[str, float]:
        """Return family -> share of its commonest answer: the accuracy of a guesser that knows only the family."""
        return {
            family: float(np.bincount(self._answer[members], odds).max())
            for family, members, odds in zip(self.families, self._members, self._odds, strict=True)
        }


def _wording_odds(of_wording: np.ndarray, counts: np.ndarray, texts: np.ndarray) -> np.ndarray:
    """Return the odds of each wording, (W,): the root of the number of rows of its second commonest answer.

    A wording with a single answer has the odds of the other wordings of its text, but at most the root of its rows; 0
    if there are none.

    Args:
        of_wording: wording of each pool, rising.
        counts: rows of each pool.
        texts: number of the text of each wording, (W,).
    """
    order = np.lexsort((-counts, of_wording))
    sorted_wording = of_wording[order]
    second = np.flatnonzero(sorted_wording[1:] == sorted_wording[:-1]) + 1
    first_of = np.concatenate([[True], sorted_wording[1:] != sorted_wording[:-1]])
    second = second[first_of[second - 1]]
    odds = np.zeros(len(texts))
    odds[sorted_wording[second]] = np.sqrt(counts[order][second])
    of_text = np.zeros(texts.max(initial=-1) + 1)
    np.maximum.at(of_text, texts, odds)
    single = odds[of_wording] == 0
    odds[of_wording[single]] = np.minimum(of_text[texts[of_wording[single]]], np.sqrt(counts[single]))
    return odds
