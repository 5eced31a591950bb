"""Questions as a memory reads them: word pieces, and the class that each of them names."""

import functools
from collections.abc import Sequence

import torch
from torch import Tensor

from m3et_ros.data.naming import KEPT, Naming
from m3et_ros.data.tokenizer import Tokenizer


class Reading:
    """Turns questions into word pieces, and tells which class each of them names.

    Args:
        tokenizer: of the questions.
        classes: names, as Naming takes them.
        length: most word pieces of a question, [CLS] and [SEP] included; a longer one keeps its beginning.
    """

    def __init__(self, tokenizer: Tokenizer, classes: Sequence[str], length: int):
        self._tokenizer, self._naming, self.length = tokenizer, Naming(tokenizer, classes), length
        self._known = functools.lru_cache(KEPT)(self._read)

    def _read(self, question: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
        ids, mask = self._tokenizer.encode([question], self.length)
        ids = tuple(ids[0, :int(mask.sum())].tolist())
        named = [-1] * len(ids)
        for place, number in self._naming.pieces(question):
            if place + 1 < len(ids) - 1:
                named[place + 1] = number
        return ids, tuple(named)

    def __call__(self, questions: Sequence[str]) -> tuple[Tensor, Tensor, Tensor]:
        """Read B questions.

        Returns:
            ids (B, T) int64, mask (B, T) bool, False for pads, and named classes (B, T) int64, -1 for none; T is as the
            longest of them needs it.
        """
        rows = [self._known(question) for question in questions]
        shape = len(rows), max(len(ids) for ids, _ in rows)
        ids, named = torch.zeros(shape, dtype=torch.int64), torch.full(shape, -1)
        mask = torch.zeros(shape, dtype=torch.bool)
        for row, (pieces, classes) in enumerate(rows):
            ids[row, :len(pieces)], named[row, :len(pieces)] = torch.tensor(pieces), torch.tensor(classes)
            mask[row, :len(pieces)] = True
        return ids, mask, named
