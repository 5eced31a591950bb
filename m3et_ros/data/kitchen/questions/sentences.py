"""Whole sentences about the kitchen: answers to questions, descriptions of a view, and the short answer of a sentence.

    sentence('colour', {'a': 'cup'}, 'red')                          'The cup is red.'
    short_answer('colour', {'a': 'cup'}, 'The cup is red.')          'red'
    parse_question('What colour is the cup?')                        ('colour', {'a': 'cup'})

Every kind of question has a different sentence for each of its answers, so that short_answer inverts sentence.

From a seed to a question: after questions/frame_wordings.py, before cache/dialogues.py.
"""

import functools
import re
import string
from collections.abc import Iterator, Mapping

from m3et_ros.data.kitchen.questions.frame_wordings import (
    ABSENT,
    FARTHEST,
    KINDS,
    MOST,
    NOT_IN_VIEW,
    REGIONS,
    SIDES,
    STEP,
    action,
    coloured,
    example_fields,
    metres,
    phrasings,
)
from m3et_ros.data.kitchen.sim.objects import COLOURS_OF
from m3et_ros.data.kitchen.sim.vocabulary import (
    AFFORDS,
    COLOURS,
    NOUNS,
    OBJECTS,
    PLACES,
    VERBS,
    plural,
    spoken,
    spoken_verb,
    with_article,
)

DESCRIBE = ('Describe the scene.', 'Describe what is in view.', 'What do you see?', 'What is in front of the camera?')
"""Prompts for a description."""

YES_NO = {
    'existence': ('Yes, there is {article} in view.', 'No, {article} is not in view.'),
    'is_colour': ('Yes, the {a} is {colour}.', 'No, the {a} is not {colour}.'),
    'is_located': ('Yes, the {a} is {place}.', 'No, the {a} is not {place}.'),
    'in_reach': ('Yes, the {a} is within reach.', 'No, the {a} is out of reach.'),
    'left_of': ('Yes, the {a} is left of the {b}.', 'No, the {a} is right of the {b}.'),
    'right_of': ('Yes, the {a} is right of the {b}.', 'No, the {a} is left of the {b}.'),
    'is_nearest': ('Yes, the {a} is the nearest object.', 'No, the {a} is not the nearest object.'),
    'is_open': ('Yes, the {a} is open.', 'No, the {a} is closed.'),
    'is_on': ('Yes, the tap is on.', 'No, the tap is off.'),
    'is_filled': ('Yes, there is something in the {a}.', 'No, the {a} is empty.'),
    'holding': ('Yes, the hand is holding something.', 'No, the hand is holding nothing.'),
    'empty_handed': ('Yes, the hand is empty.', 'No, there is something in the hand.'),
    'used': ('Yes, the {a} was used.', 'No, the {a} was not used.'),
}
"""Kind of question -> the sentences for yes and no."""

OPEN = {
    'count': 'I can see {answer} {plural}.',
    'count_colour': 'I can see {answer} {colour} things.',
    'colour': 'The {a} is {answer}.',
    'location': 'The {a} is {answer}.',
    'distance': 'The {a} is {answer} away.',
    'closer': 'The {answer} is closer.',
    'region': 'The {a} is {answer}.',
    'nearest': 'The {answer} is nearest.',
    'held': 'The hand is holding {answer}.',
    'now': 'The person is {answer}.',
    'now_verb': 'The verb is {answer}.',
    'now_noun': 'It is the {answer}.',
    'last': 'The last action was {answer}.',
    'before_last': 'The action before that was {answer}.',
    'first': 'The first action was {answer}.',
    'how_many_done': '{answer} actions are finished.',
    'next': 'Next comes {answer}.',
    'next_verb': 'The next verb is {answer}.',
    'next_noun': 'Next it is the {answer}.',
    'colour_at': 'The thing {side} is {answer}.',
    'colour_held': 'The thing in the hand is {answer}.',
    'thing_at': 'The {answer} is {side}.',
    'what_at': '{answer} is {place}.',
}
"""Kind of question -> its sentence; `answer` is the answer in words."""

ONE = {
    'count': 'I can see one {one}.',
    'count_colour': 'I can see one {colour} thing.',
    'how_many_done': 'One action is finished.',
}
"""Kind of question -> its sentence for the answer 1."""

NUMBERS = ('no', 'one', 'two', 'three', 'four', 'five', 'six', 'seven', 'eight', 'nine', 'ten')

DOING = {
    'take': 'taking',
    'put': 'putting down',
    'wash': 'washing',
    'open': 'opening',
    'close': 'closing',
    'turn-on': 'turning on',
    'cut': 'cutting',
    'turn-off': 'turning off',
    'pour': 'pouring',
    'mix': 'mixing',
    'throw': 'throwing away',
    'shake': 'shaking',
}
"""Verb key -> its progressive form."""


def sentence(kind: str, fields: Mapping[str, str], answer: str) -> str:
    """Return the sentence that answers a question.

    Args:
        kind: one of frame_wordings.KINDS.
        fields: fields of its wording.
        answer: one of answers_of(kind).

    Raises:
        KeyError: the kind has open answers, and this is not one of them.
        ValueError: the answer to a yes or no question is neither.
    """
    if answer == NOT_IN_VIEW and kind in ABSENT:
        return 'They are not both in view.' if 'b' in fields else f'The {fields["a"]} is not in view.'
    if kind in YES_NO:
        return YES_NO[kind][('yes', 'no').index(answer)].format(**fields)
    if answer == '1' and kind in ONE:
        return ONE[kind].format(one=_single(fields.get('plural', '')), **fields)
    text = OPEN[kind].format(answer=_answer_words(kind)[answer], **fields)
    return text[0].upper() + text[1:]


@functools.cache
def _single(words: str) -> str:
    """Return the singular of a plural: 'knife', 'loaf of bread'."""
    nouns = {plural(noun): noun for noun in NOUNS}
    return with_article(nouns[words]).split(' ', 1)[1] if words in nouns else words


def answers_of(kind: str) -> tuple[str, ...]:
    """Return every answer that a kind of question can have."""
    answers = ('yes', 'no') if kind in YES_NO else tuple(_answer_words(kind))
    return (*answers, NOT_IN_VIEW) if kind in ABSENT else answers


@functools.cache
def _answer_words(kind: str) -> dict[str, str]:
    """Return short answer -> its words inside the sentence, of a kind with open answers."""
    objects = [spoken(noun) for noun in OBJECTS]
    if kind in ('count', 'count_colour', 'how_many_done'):
        return {str(n): NUMBERS[n] for n in range(MOST + 1)}
    if kind in ('now', 'last', 'before_last', 'first', 'next'):
        return {
            action(verb, noun): f'{DOING[verb]} the {spoken(noun)}' for verb, nouns in AFFORDS.items() for noun in nouns
        }
    if kind in ('held', 'what_at'):
        return {'nothing': 'nothing'} | {words: f'the {words}' for words in objects}
    if kind == 'distance':
        return {metres(steps): _distance_words(steps) for steps in range(1, int(FARTHEST / STEP) + 1)}
    if kind == 'region':
        return {region: SIDES[region] for region in REGIONS}
    unchanged = {
        'colour': list(COLOURS),
        'colour_at': list(COLOURS),
        'colour_held': list(COLOURS),
        'location': list(PLACES),
        'closer': objects,
        'thing_at': objects,
        'nearest': [coloured(colour, noun) for noun in OBJECTS for colour in COLOURS_OF.get(noun, tuple(COLOURS))],
        'now_verb': [spoken_verb(verb) for verb in VERBS],
        'next_verb': [spoken_verb(verb) for verb in VERBS],
        'now_noun': [spoken(noun) for noun in NOUNS],
        'next_noun': [spoken(noun) for noun in NOUNS],
    }[kind]
    return {words: words for words in unchanged}


def _distance_words(steps: int) -> str:
    """Return 'one and a half metres' for three steps, in words that a tokenizer decodes unchanged."""
    whole, half = divmod(steps, 2)
    if not whole:
        return 'half a metre'
    return f'{NUMBERS[whole]}{" and a half" if half else ""} metre{"s" if steps > 2 else ""}'


def short_answer(kind: str, fields: Mapping[str, str], reply: str) -> str:
    """Return the short answer of a reply: one of answers_of(kind), or '' if it has none.

    It is the answer whose sentence equals the reply, apart from case, punctuation and articles. Otherwise it is the
    first word of the reply to a yes or no question, if that is yes or no. To any other question it is the answer whose
    words end last in the reply, and of several such answers the longest.

    Args:
        kind: one of frame_wordings.KINDS.
        fields: fields of its wording.
        reply: any text.
    """
    text = _plain(reply)
    found = _sentences(kind, tuple(sorted(fields.items()))).get(text)
    if found is not None:
        return found
    if kind in YES_NO:
        first = text.split()[:1]
        return first[0] if first in (['yes'], ['no']) else ''
    ends = (
        (match.end(), len(words), answer)
        for answer, words in _plain_answers(kind)
        for match in re.finditer(rf'\b{re.escape(words)}\b', text)
    )
    return max(ends, default=(0, 0, ''))[2]


@functools.cache
def _plain_answers(kind: str) -> list[tuple[str, str]]:
    return [(answer, _plain(words)) for answer, words in _answer_words(kind).items()]


@functools.lru_cache(maxsize=4096)
def _sentences(kind: str, fields: tuple[tuple[str, str], ...]) -> dict[str, str]:
    return {_plain(sentence(kind, dict(fields), answer)): answer for answer in answers_of(kind)}


def _plain(text: str) -> str:
    """Return a text in lower case, without punctuation and articles."""
    return ' '.join(word for word in re.sub(r'[^\w\s]', ' ', text.lower()).split() if word not in ('a', 'an', 'the'))


def parse_question(question: str) -> tuple[str, dict[str, str]] | None:
    """Return the kind and the fields of a question in any of its wordings; None for any other.

    The field 'article' comes with the field 'a', the noun without its article: sentences may need either.
    """
    for pattern, kind in _patterns():
        if match := pattern.fullmatch(question):
            fields = match.groupdict()
            names = {with_article(noun): spoken(noun) for noun in NOUNS}
            return kind, ({'a': names[fields['article']]} if 'article' in fields else {}) | fields
    return None


@functools.cache
def _patterns() -> list[tuple[re.Pattern, str]]:
    """Return (pattern, kind) of every wording; one without fields comes before those that also match it."""
    nouns = [spoken(noun) for noun in NOUNS]
    values = {
        'a': nouns,
        'b': nouns,
        'article': [with_article(noun) for noun in NOUNS],
        'plural': [plural(noun) for noun in NOUNS],
        'colour': list(COLOURS),
        'place': list(PLACES),
        'side': list(SIDES.values()),
    }
    groups = {
        name: f'(?P<{name}>{"|".join(re.escape(words) for words in sorted(choices, key=len, reverse=True))})'
        for name, choices in values.items()
    }
    patterns = []
    for kind in KINDS:
        for wording in phrasings(kind, 2):
            parts = string.Formatter().parse(wording)
            text = ''.join(re.escape(literal) + (groups[name] if name else '') for literal, name, _, _ in parts)
            patterns.append((re.compile(text), kind))
    return sorted(patterns, key=lambda item: item[0].groups)


def join_words(words: list[str]) -> str:
    """Join words to a list: 'a cup, a jar and two spoons'."""
    return words[0] if len(words) == 1 else f'{", ".join(words[:-1])} and {words[-1]}'


def noun_phrase(noun: str, count: int = 1, colour: str = '') -> str:
    """Return a number of objects in words: 'a red cup', 'an orange', 'two spoons'."""
    if count > 1:
        return f'{NUMBERS[count] if count <= MOST else "many"} {plural(noun)}'
    if not colour:
        return with_article(noun)
    return f'{"an" if colour[0] in "aeiou" else "a"} {colour} {with_article(noun).split(" ", 1)[1]}'


def sentences() -> Iterator[str]:
    """Yield texts with every word of prompts, answers and descriptions, for a tokenizer."""
    colours = tuple(COLOURS)
    yield from DESCRIBE
    for index, noun in enumerate(NOUNS):
        fields = example_fields(index)
        for kind in KINDS:
            yield from (wording.format(**fields) for wording in phrasings(kind, 2))
            answers = answers_of(kind)
            yield sentence(kind, fields, answers[index % len(answers)])
        yield f'I can see {noun_phrase(noun, 1, colours[index % len(colours)])} and {noun_phrase(noun, 2)}, no things.'
    for kind in OPEN:
        yield from (sentence(kind, example_fields(0), answer) for answer in answers_of(kind))
