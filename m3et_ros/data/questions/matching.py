"""Match the tokens of a question with the wordings of a kind: exactly, nearly, or all but the words of its fields.

Symbols: a pattern is a sequence of fixed texts and fields; a field takes one token of the vocabulary.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from m3et_ros.data.questions.lexicon import Lexicon, Token, key
from m3et_ros.data.questions.taught import TaughtField, TaughtKind
from m3et_ros.data.questions.words import FUNCTION, plain, split_words

FIELD = re.compile(r'\{(\w+)\}')
SMALL = 0.3
"""Cost of a word of FUNCTION that a question has more or less than a wording; every other word costs 1."""

WILD = 3
"""Most words that an unknown word may have."""

PREPOSITIONS = {'in', 'on', 'at', 'under', 'behind', 'above', 'below', 'beneath', 'beside', 'inside', 'near', 'next',
                'between', 'over', 'underneath', 'by', 'outside', 'upon', 'within', 'among', 'around'}  # fmt: skip

NO_NAME = FUNCTION | {'what', 'which', 'where', 'who', 'whose', 'when', 'why', 'how', 'not', 'no', 'and', 'or', 'if',
                      'was', 'did', 'will', 'would', 'should', 'than', 'with', 'for', 'from', 'they', 'he', 'she',
                      'more', 'fewer', 'less', 'most', 'am', 'your', 'their', 'his', 'her', 'its'}  # fmt: skip
"""Words that are part of no unknown name."""


@dataclass(frozen=True)
class Pattern:
    """One wording of a kind.

    `parts` are fixed texts, and names of fields, each in a tuple of one. `taught` is False for a paraphrase.
    """

    kind: str
    wording: str
    parts: tuple[str | tuple[str], ...]
    fields: Mapping[str, TaughtField]
    # Field -> its taught word by canonical text.
    words: Mapping[str, Mapping[str, str]]
    taught: bool = True

    @property
    def slots(self) -> list[str]:
        """Names of the fields in their order."""
        return [part[0] for part in self.parts if isinstance(part, tuple)]


@dataclass(frozen=True)
class Fit:
    """The words of a question that fill the fields of a wording.

    Attributes:
        values: field -> taught word, as far as it is one.
        unknown: words in the place of a field that are of no vocabulary.
        untaught: (field, word) of known words with which the kind was never taught.
    """

    pattern: Pattern
    values: Mapping[str, str]
    unknown: tuple[str, ...] = ()
    untaught: tuple[tuple[str, str], ...] = ()

    @property
    def faults(self) -> tuple[int, int, int]:
        """Return the numbers of unknown names, of their words, and of untaught words; all 0 where nothing is wrong."""
        return len(self.unknown), sum(len(name.split()) for name in self.unknown), len(self.untaught)


def pattern(kind: str, wording: str, fields: Mapping[str, TaughtField], lexicon: Lexicon, *, taught: bool) -> Pattern:
    """Return the pattern of a wording with fields in braces."""
    parts: list[str | tuple[str]] = []
    # Fields stand as words that no vocabulary has, so that phrases around them are found as in a question.
    marked = FIELD.sub(lambda found: f' field{found[1]}field ', wording)
    for token in lexicon.tokens(split_words(plain(marked))):
        name = re.fullmatch(r'field(\w+?)field', token.text.replace(' ', ''))
        parts.append((name[1],) if name and name[1] in fields else token.text)
    words = {name: {key(word): word for word in one.words} for name, one in fields.items()}
    return Pattern(kind, wording, tuple(parts), fields, words, taught)


def patterns(kinds: Mapping[str, TaughtKind], more: Mapping[str, Sequence[str]], lexicon: Lexicon) -> list[Pattern]:
    """Return the patterns of kinds: taught wordings first, then the paraphrases with the fields of one of them."""
    found = [
        pattern(name, wording, kind.fields, lexicon, taught=True)
        for name, kind in kinds.items()
        for wording in kind.wordings
    ]
    for name, kind in kinds.items():
        for wording in more.get(name, ()):
            if like(kind, wording) is not None:
                found.append(pattern(name, wording, kind.fields, lexicon, taught=False))
    return found


def like(kind: TaughtKind, wording: str) -> str | None:
    """Return the first taught wording of a kind with the fields of another wording; None if it has no such wording."""
    fields = set(FIELD.findall(wording))
    return next((one for one in kind.wordings if set(FIELD.findall(one)) == fields), None)


def fit(pattern: Pattern, tokens: Sequence[Token]) -> Fit | None:
    """Return how a question fits a wording, if at most the words of its fields differ; the best way, or None."""
    found = _fits(pattern, tokens, 0, 0)
    return min(found, key=lambda one: one.faults, default=None)


def _fits(pattern: Pattern, tokens: Sequence[Token], part: int, at: int) -> list[Fit]:
    if part == len(pattern.parts):
        return [Fit(pattern, {})] if at == len(tokens) else []
    if at == len(tokens):
        return []
    one = pattern.parts[part]
    if isinstance(one, str):
        return _fits(pattern, tokens, part + 1, at + 1) if tokens[at].text == one else []
    name, field = one[0], pattern.fields[one[0]]
    results = []
    if field.sort in tokens[at].sorts:
        taught = tokens[at].text in pattern.words[name]
        for rest in _fits(pattern, tokens, part + 1, at + 1):
            untaught = rest.untaught if taught else ((name, tokens[at].text), *rest.untaught)
            results.append(Fit(pattern, {name: tokens[at].text, **rest.values}, rest.unknown, untaught))
    for length in _unknown_lengths(field.sort, tokens[at:]):
        words = ' '.join(token.text for token in tokens[at : at + length])
        for rest in _fits(pattern, tokens, part + 1, at + length):
            results.append(Fit(pattern, rest.values, (words, *rest.unknown), rest.untaught))
    return results


def _unknown_lengths(sort: str, tokens: Sequence[Token]) -> list[int]:
    """Return how many of the next tokens may be the name of something unknown of a sort."""
    if sort == 'place':
        if tokens[0].sorts or tokens[0].text.partition(' ')[0] not in PREPOSITIONS:
            return []
        return list(range(2, min(len(tokens), 2 * WILD) + 1))
    if sort not in ('noun', 'colour'):
        return []
    lengths = []
    for length in range(1, min(len(tokens), WILD if sort == 'noun' else 1) + 1):
        newest = tokens[length - 1]
        if not newest.sorts and newest.text in NO_NAME | PREPOSITIONS:
            break
        if any(not token.sorts for token in tokens[:length]):
            lengths.append(length)
    return lengths


def distance(pattern: Pattern, tokens: Sequence[Token]) -> float:
    """Return the cost of turning a question into a wording: SMALL or 1 for each word more, less or different.

    A field costs nothing where a token of its sort and its vocabulary stands, and 2 elsewhere.
    """
    row = [0.0]
    for token in tokens:
        row.append(row[-1] + _cost(token.text))
    for one in pattern.parts:
        before, row = row, [row[0] + (2.0 if isinstance(one, tuple) else _cost(one))]
        for at, token in enumerate(tokens):
            if isinstance(one, tuple):
                same, less = _takes(pattern, one[0], token), 2.0
                change = 0.0 if same else 2.0 + _cost(token.text)
            else:
                less = _cost(one)
                change = 0.0 if token.text == one else max(less, _cost(token.text))
            row.append(min(before[at] + change, before[at + 1] + less, row[at] + _cost(token.text)))
    return row[-1]


def gist(texts: Iterable[str]) -> Counter[str]:
    """Return the words of a question or wording that carry its meaning, whatever their order."""
    return Counter('what' if text == 'which' else text for text in texts if text not in FUNCTION)


def same_gist(pattern: Pattern, tokens: Sequence[Token]) -> bool:
    """Return whether a question and a wording share their fields, in order, and all words but those of FUNCTION.

    A wording of one field needs a word of meaning besides: with a single thing in common they might differ in all.
    """
    values = values_in_order(pattern, tokens)
    if values is None:
        return False
    own = gist(part for part in pattern.parts if isinstance(part, str))
    if own.total() + len(pattern.slots) < 2:
        return False
    left = Counter(token.text for token in tokens)
    left.subtract(values.values())
    return gist(left.elements()) == own


def _takes(pattern: Pattern, name: str, token: Token) -> bool:
    return pattern.fields[name].sort in token.sorts and token.text in pattern.words[name]


def _cost(text: str) -> float:
    return SMALL if text in FUNCTION else 1.0


def values_in_order(pattern: Pattern, tokens: Sequence[Token]) -> dict[str, str] | None:
    """Return the words that fill the fields of a wording in the order in which a question has them.

    None where the question has more or fewer words of any vocabulary, apart from those that the wording has itself.
    """
    fixed = [part for part in pattern.parts if isinstance(part, str)]
    entities: list[Token] = []
    for token in tokens:
        if token.text in fixed:
            fixed.remove(token.text)
        elif token.sorts:
            entities.append(token)
    if len(entities) != len(pattern.slots):
        return None
    pairs = list(zip(pattern.slots, entities, strict=True))
    if not all(_takes(pattern, name, token) for name, token in pairs):
        return None
    return {name: token.text for name, token in pairs}
