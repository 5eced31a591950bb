"""Words and phrases of a question as tokens: which word of the taught vocabulary each may be, whatever its form.

Symbols: a token is the canonical text of a word or phrase, and the taught words that it may stand for.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from m3et_ros.data.questions.taught import Taught, TaughtKind
from m3et_ros.data.questions.words import IRREGULAR, PHRASES, SYNONYMS, plurals, slips, split_words

LONGEST = 6
"""Most words of a phrase."""


@dataclass(frozen=True)
class Token:
    """A word or phrase of a question."""

    # Canonical text; fixed words of wordings are compared by it.
    text: str
    # Sorts of the taught words that it may stand for; empty for other words. The taught word is `text`.
    sorts: frozenset[str] = frozenset()


def key(words: str) -> str:
    """Return the canonical text of a word or phrase: 'the Colors of' -> 'colours of'."""
    return ' '.join(split_words(words.lower()))


class Lexicon:
    """The words of some kinds of questions.

    Args:
        taught: gives plurals and phrases with an article.
        kinds: whose fields give the words.
        fixed: texts with further words that are known, such as wordings.
    """

    def __init__(self, taught: Taught, kinds: Iterable[TaughtKind], fixed: Iterable[str] = ()):
        self._phrases: dict[str, Token] = {}
        # Words with forms are known nouns even where no field takes them.
        sorts: dict[str, set[str]] = {key(word): {'noun'} for word in taught.forms}
        for kind in kinds:
            for one in kind.fields.values():
                for word in one.words:
                    sorts.setdefault(key(word), set()).add(one.sort)
        for canonical, variants in PHRASES.items():
            for phrase in (canonical, *variants):
                self._phrases[key(phrase)] = Token(canonical)
        spoken = {key(word): word for word in taught.forms}
        for word, found in sorts.items():
            token = Token(word, frozenset(found))
            surfaces = [
                word,
                *SYNONYMS.get(word, ()),
                *PHRASES.get(word, ()),
                *taught.forms.get(spoken.get(word, ''), ()),
            ]
            if 'noun' in found:
                surfaces += [many for one in surfaces for many in plurals(one)]
                surfaces += [many for many, one in IRREGULAR.items() if one in surfaces]
            for surface in surfaces:
                # A taught word of its own is never the synonym of another.
                if key(surface) == word or key(surface) not in sorts:
                    self._phrases[key(surface)] = token
        self.surfaces = tuple(sorted(surface for surface, token in self._phrases.items() if token.sorts))
        self._known = {word for phrase in self._phrases for word in phrase.split()}
        self._known |= {word for text in fixed for word in split_words(text.lower())}

    def knows(self, word: str) -> bool:
        """Return whether a word occurs in the vocabulary or in a wording."""
        return word in self._known

    def tokens(self, words: Sequence[str]) -> list[Token]:
        """Return the tokens of words, the longest phrases first; a slip of the fingers is mended."""
        words = [self._mended(word) for word in words]
        found: list[Token] = []
        at = 0
        while at < len(words):
            for length in range(min(LONGEST, len(words) - at), 0, -1):
                token = self._phrases.get(' '.join(words[at : at + length]))
                if token is not None:
                    break
            else:
                token, length = Token(words[at]), 1
            # 'visible in this picture' says one thing twice.
            if not found or token.text != 'in view' or found[-1] != token:
                found.append(token)
            at += length
        return found

    def _mended(self, word: str) -> str:
        if word in self._known:
            return word
        found = slips(word) & self._known
        return found.pop() if len(found) == 1 else word
