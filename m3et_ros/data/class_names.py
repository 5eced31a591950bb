"""Which of a model's classes a sentence names, and by which of its word pieces."""

import functools
import re
from collections.abc import Sequence

import torch
from torch import Tensor

from m3et_ros.data.tokenizer import Tokenizer

OTHERWISE = ('can', 'orange')
"""Nouns that are also something else in English, a verb or a colour: alone they count only after an article."""

KEPT = 100_000
"""Sentences whose names are remembered."""


class Naming:
    """Finds the names of classes, or their plurals in -s and -es, in sentences.

    Args:
        tokenizer: of the sentences.
        classes: names in the order of the segmentation classes, each of one or more words.
    """

    def __init__(self, tokenizer: Tokenizer, classes: Sequence[str]):
        self.tokenizer = tokenizer
        self._classes = {name.lower(): i for i, name in enumerate(classes)}
        # The longest first: a chopping board is no other board.
        names = sorted(map(re.escape, self._classes), key=len, reverse=True)
        self._pattern = re.compile(
            rf'\b(?P<article>(?:the|an?)\s+)?(?P<name>{"|".join(names)})(?P<plural>e?s)?\b', re.IGNORECASE
        )
        self._found = functools.lru_cache(KEPT)(self._find)

    def classes(self, text: str) -> tuple[int, ...]:
        """The classes that a sentence names, each once, in their order."""
        return self._found(text)[0]

    def pieces(self, text: str) -> tuple[tuple[int, int], ...]:
        """Places of the word pieces that name something, 0 for the first after [CLS], each with its class."""
        return self._found(text)[1]

    def _find(self, text: str) -> tuple[tuple[int, ...], tuple[tuple[int, int], ...]]:
        """Classes, and (place of a word piece, class) pairs."""
        spans = [
            (match.start('name'), match.end(), self._classes[match['name'].lower()])
            for match in self._pattern.finditer(text)
            if match['name'].lower() not in OTHERWISE or match['article'] or match['plural']
        ]
        pieces = self.tokenizer.spans(text) if spans else []
        places = [
            (place, number)
            for place, (start, end) in enumerate(pieces)
            for first, last, number in spans
            if first <= start and end <= last
        ]
        return tuple(sorted({number for _, _, number in spans})), tuple(places)


# MERGED m3et_ros/data/reading: Questions as a memory reads them: word pieces, and the class that each of them names.
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
        ids = tuple(ids[0, : int(mask.sum())].tolist())
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
            ids[row, : len(pieces)], named[row, : len(pieces)] = torch.tensor(pieces), torch.tensor(classes)
            mask[row, : len(pieces)] = True
        return ids, mask, named
