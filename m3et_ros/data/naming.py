"""Which of a model's classes a sentence names, and by which of its word pieces."""

import functools
import re
from collections.abc import Sequence

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
        self._pattern = re.compile(rf'\b(?P<article>(?:the|an?)\s+)?(?P<name>{"|".join(names)})(?P<plural>e?s)?\b',
                                   re.IGNORECASE)
        self._found = functools.lru_cache(KEPT)(self._find)

    def classes(self, text: str) -> tuple[int, ...]:
        """The classes that a sentence names, each once, in their order."""
        return self._found(text)[0]

    def pieces(self, text: str) -> tuple[tuple[int, int], ...]:
        """Places of the word pieces that name something, 0 for the first after [CLS], each with its class."""
        return self._found(text)[1]

    def _find(self, text: str) -> tuple[tuple[int, ...], tuple[tuple[int, int], ...]]:
        """Classes, and (place of a word piece, class) pairs."""
        spans = [(match.start('name'), match.end(), self._classes[match['name'].lower()])
                 for match in self._pattern.finditer(text)
                 if match['name'].lower() not in OTHERWISE or match['article'] or match['plural']]
        pieces = self.tokenizer.spans(text) if spans else []
        places = [(place, number) for place, (start, end) in enumerate(pieces) for first, last, number in spans
                  if first <= start and end <= last]
        return tuple(sorted({number for _, _, number in spans})), tuple(places)
