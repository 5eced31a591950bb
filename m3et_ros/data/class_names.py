"""The classes of a model that sentences name, and the word pieces that name them."""

import functools
import re
from collections.abc import Sequence

import torch
from torch import Tensor

from m3et_ros.data.tokenizer import Tokenizer

AMBIGUOUS = ('can', 'orange')
"""Nouns that are also a verb or a colour in English: alone they count only after an article."""

CACHED = 100_000
"""Number of sentences whose result is cached."""


class ClassNames:
    """Finds the names of classes, or their plurals in -s and -es, in sentences.

    Args:
        tokenizer: tokenizer of the sentences.
        classes: names in the order of the segmentation classes, each of one or more words.
    """

    def __init__(self, tokenizer: Tokenizer, classes: Sequence[str]):
        self.tokenizer = tokenizer
        self._classes = {name.lower(): i for i, name in enumerate(classes)}
        # The longest first: 'chopping board' must not be found as 'board'.
        names = sorted(map(re.escape, self._classes), key=len, reverse=True)
        self._pattern = re.compile(
            rf'\b(?P<article>(?:the|an?)\s+)?(?P<name>{"|".join(names)})(?P<plural>e?s)?\b', re.IGNORECASE
        )
        self._found = functools.lru_cache(CACHED)(self._find)

    def classes(self, text: str) -> tuple[int, ...]:
        """Return the classes that a sentence names, each once, in ascending order."""
        return self._found(text)[0]

    def pieces(self, text: str) -> tuple[tuple[int, int], ...]:
        """Return (position, class) of the word pieces that name something; position 0 is the first after [CLS]."""
        return self._found(text)[1]

    def _find(self, text: str) -> tuple[tuple[int, ...], tuple[tuple[int, int], ...]]:
        spans = [
            (match.start('name'), match.end(), self._classes[match['name'].lower()])
            for match in self._pattern.finditer(text)
            if match['name'].lower() not in AMBIGUOUS or match['article'] or match['plural']
        ]
        pieces = self.tokenizer.spans(text) if spans else []
        positions = [
            (position, number)
            for position, (start, end) in enumerate(pieces)
            for first, last, number in spans
            if first <= start and end <= last
        ]
        return tuple(sorted({number for _, _, number in spans})), tuple(positions)


class QuestionEncoder:
    """Encodes questions as word pieces, each with the class that it names.

    Args:
        tokenizer: tokenizer of the questions.
        classes: names, as ClassNames takes them.
        length: largest number of word pieces of a question with [CLS] and [SEP]; a longer one is cut at its end.
    """

    def __init__(self, tokenizer: Tokenizer, classes: Sequence[str], length: int):
        self._tokenizer, self._names, self.length = tokenizer, ClassNames(tokenizer, classes), length
        self._encoded = functools.lru_cache(CACHED)(self._encode)

    def _encode(self, question: str) -> tuple[list[int], list[int]]:
        """Return the ids of a question, without padding, and the class of each, -1 for none."""
        padded, mask = self._tokenizer.encode([question], self.length)
        ids = padded[0, : int(mask.sum())].tolist()
        named = [-1] * len(ids)
        for position, number in self._names.pieces(question):
            if position + 1 < len(ids) - 1:
                named[position + 1] = number
        return ids, named

    def __call__(self, questions: Sequence[str]) -> tuple[Tensor, Tensor, Tensor]:
        """Encode B questions.

        Returns:
            ids (B, T) int64, mask (B, T) bool, False for pads, and named classes (B, T) int64, -1 for none; T is the
            length of the longest of them.
        """
        rows = [self._encoded(question) for question in questions]
        shape = len(rows), max(len(ids) for ids, _ in rows)
        ids, named = torch.zeros(shape, dtype=torch.int64), torch.full(shape, -1)
        mask = torch.zeros(shape, dtype=torch.bool)
        for row, (pieces, classes) in enumerate(rows):
            ids[row, : len(pieces)], named[row, : len(pieces)] = torch.tensor(pieces), torch.tensor(classes)
            mask[row, : len(pieces)] = True
        return ids, mask, named
