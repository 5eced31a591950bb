"""Whole sentences about the kitchen: answers to questions, descriptions of a view, and what an answer says in short.

    sentence('colour', {'a': 'cup'}, 'red')                          'The cup is red.'
    short_answer('colour', {'a': 'cup'}, 'The cup is red.')          'red'
    recognised('What colour is the cup?')                            ('colour', {'a': 'cup'})

Every kind of question has one sentence for each of its possible answers, so that a sentence can be taken apart again.
"""

import functools
import re
from collections.abc import Iterator, Mapping

from m3et_ros.data.kitchen.questions.frame_wordings import (
    FARTHEST,
    MOST,
    PHRASINGS,
    REGIONS,
    STEP,
    action,
    coloured,
    metres,
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
    'count': 'I can see {said} {plural}.',
    'count_colour': 'I can see {said} {colour} things.',
    'colour': 'The {a} is {said}.',
    'location': 'The {a} is {said}.',
    'distance': 'The {a} is {said} away.',
    'closer': 'The {said} is closer.',
    'region': 'The {a} is {said}.',
    'nearest': 'The {said} is nearest.',
    'held': 'The hand is holding {said}.',
    'now': 'The person is {said}.',
    'now_verb': 'The verb is {said}.',
    'now_noun': 'It is the {said}.',
    'last': 'The last action was {said}.',
    'before_last': 'The action before that was {said}.',
    'first': 'The first action was {said}.',
    'how_many_done': '{said} actions are finished.',
    'next': 'Next comes {said}.',
    'next_verb': 'The next verb is {said}.',
    'next_noun': 'Next it is the {said}.',
}
"""Kind of question -> its sentence around what is said."""

ONE = {
    'count': 'I can see one {one}.',
    'count_colour': 'I can see one {colour} thing.',
    'how_many_done': 'One action is finished.',
}
"""Kind of question -> its sentence for a single one."""

NUMBERS = ('no', 'one', 'two', 'three', 'four', 'five', 'six', 'seven', 'eight', 'nine', 'ten')

SIDES = {'left': 'on the left', 'middle': 'in the middle', 'right': 'on the right'}
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
"""Verb key -> what a person is doing."""

VERB_KINDS, NOUN_KINDS = ('now_verb', 'next_verb'), ('now_noun', 'next_noun')
ACTION_KINDS = ('now', 'last', 'before_last', 'first', 'next')


def sentence(kind: str, fields: Mapping[str, str], answer: str) -> str:
    """The sentence that answers a question.

    Args:
        kind: of templates.PHRASINGS.
        fields: of its wording.
        answer: one of answers_of(kind).

    Raises:
        KeyError: an unknown kind or answer.
    """
    if kind in YES_NO:
        return YES_NO[kind][('yes', 'no').index(answer)].format(**fields)
    if answer == '1' and kind in ONE:
        return ONE[kind].format(one=_single(fields.get('plural', '')), **fields)
    text = OPEN[kind].format(said=_said(kind)[answer], **fields)
    return text[0].upper() + text[1:]


@functools.cache
def _single(words: str) -> str:
    """One of what is named in the plural: 'knife', 'loaf of bread'."""
    nouns = {plural(noun): noun for noun in NOUNS}
    return with_article(nouns[words]).split(' ', 1)[1] if words in nouns else words


def answers_of(kind: str) -> tuple[str, ...]:
    """Every answer that a kind of question can have."""
    return ('yes', 'no') if kind in YES_NO else tuple(_said(kind))


@functools.cache
def _said(kind: str) -> dict[str, str]:
    """Answer -> the words for it inside the sentence."""
    if kind in ('count', 'count_colour', 'how_many_done'):
        return {str(n): NUMBERS[n] for n in range(MOST + 1)}
    if kind in ACTION_KINDS:
        return {
            action(verb, noun): f'{DOING[verb]} the {spoken(noun)}' for verb, nouns in AFFORDS.items() for noun in nouns
        }
    things = {spoken(noun): spoken(noun) for noun in OBJECTS}
    if kind == 'held':
        return {'nothing': 'nothing'} | {thing: f'the {thing}' for thing in things}
    return {
        'colour': {colour: colour for colour in COLOURS},
        'location': {place: place for place in PLACES},
        'distance': {metres(steps): _far(steps) for steps in range(1, int(FARTHEST / STEP) + 1)},
        'region': {region: SIDES[region] for region in REGIONS},
        'closer': things,
        'nearest': {
            words: words
            for noun in OBJECTS
            for colour in COLOURS_OF.get(noun, tuple(COLOURS))
            for words in [coloured(colour, noun)]
        },
    }.get(kind) or (
        {verb.replace('-', ' '): verb.replace('-', ' ') for verb in VERBS}
        if kind in VERB_KINDS
        else {spoken(noun): spoken(noun) for noun in NOUNS}
    )


def _far(steps: int) -> str:
    """'one and a half metres' for three steps; in words, which a tokenizer gives back unchanged."""
    whole, half = divmod(steps, 2)
    if not whole:
        return 'half a metre'
    return f'{NUMBERS[whole]}{" and a half" if half else ""} metre{"s" if steps > 2 else ""}'


def short_answer(kind: str, fields: Mapping[str, str], reply: str) -> str:
    """What a reply says in short: one of answers_of(kind), or nothing.

    The answer whose sentence the reply is, case, punctuation and articles aside. Failing that, of a yes or no question
    the reply's first word if it is yes or no; of another the last of all answers' words that stand in the reply, the
    longest of those that end there. What it cannot be read from is '', which is wrong.
    """
    said = _plain(reply)
    found = _sentences(kind, tuple(sorted(fields.items()))).get(said)
    if found is not None:
        return found
    if kind in YES_NO:
        first = said.split()[:1]
        return first[0] if first in (['yes'], ['no']) else ''
    ends = (
        (match.end(), len(words), answer)
        for answer, words in _plain_said(kind)
        for match in re.finditer(rf'\b{re.escape(words)}\b', said)
    )
    return max(ends, default=(0, 0, ''))[2]


@functools.cache
def _plain_said(kind: str) -> list[tuple[str, str]]:
    return [(answer, _plain(words)) for answer, words in _said(kind).items()]


@functools.lru_cache(maxsize=4096)
def _sentences(kind: str, fields: tuple) -> dict[str, str]:
    return {_plain(sentence(kind, dict(fields), answer)): answer for answer in answers_of(kind)}


def _plain(text: str) -> str:
    """Lower case, without punctuation and articles."""
    return ' '.join(word for word in re.sub(r'[^\w\s]', ' ', text.lower()).split() if word not in ('a', 'an', 'the'))


def recognised(question: str) -> tuple[str, dict[str, str]] | None:
    """Kind and fields of a question in one of the wordings of templates.PHRASINGS; None for any other.

    A thing named with its article is named without it, too: sentences may need either.
    """
    for pattern, kind in _patterns():
        if match := pattern.fullmatch(question):
            fields = match.groupdict()
            names = {with_article(noun): spoken(noun) for noun in NOUNS}
            return kind, ({'a': names[fields['article']]} if 'article' in fields else {}) | fields
    return None


@functools.cache
def _patterns() -> list[tuple[re.Pattern, str]]:
    nouns = [spoken(noun) for noun in NOUNS]
    words = {
        'a': nouns,
        'b': nouns,
        'article': [with_article(noun) for noun in NOUNS],
        'plural': [plural(noun) for noun in NOUNS],
        'colour': list(COLOURS),
        'place': list(PLACES),
    }
    found = []
    for kind, wordings in PHRASINGS.items():
        for wording in wordings:
            pattern = re.escape(wording).replace(r'\{', '{').replace(r'\}', '}')
            for name, values in words.items():
                choice = '|'.join(re.escape(value) for value in sorted(values, key=len, reverse=True))
                pattern = pattern.replace(f'{{{name}}}', f'(?P<{name}>{choice})')
            found.append((re.compile(pattern), kind))
    # A wording without fields is meant before one that it is a case of.
    return sorted(found, key=lambda item: item[0].groups)


def listed(words: list[str]) -> str:
    """'a cup, a jar and two spoons'."""
    return words[0] if len(words) == 1 else f'{", ".join(words[:-1])} and {words[-1]}'


def some(noun: str, count: int = 1, colour: str = '') -> str:
    """'a red cup', 'an orange', 'two spoons'."""
    if count > 1:
        return f'{NUMBERS[count] if count <= MOST else "many"} {plural(noun)}'
    if not colour:
        return with_article(noun)
    return f'{"an" if colour[0] in "aeiou" else "a"} {colour} {with_article(noun).split(" ", 1)[1]}'


def sentences() -> Iterator[str]:
    """Text with every word of prompts, answers and descriptions, for a tokenizer."""
    nouns, colours = tuple(NOUNS), tuple(COLOURS)
    yield from DESCRIBE
    for place, noun in enumerate(nouns):
        fields = {
            'a': spoken(noun),
            'b': spoken(nouns[place - 1]),
            'article': with_article(noun),
            'plural': plural(noun),
            'colour': colours[place % len(colours)],
            'place': PLACES[place % len(PLACES)],
        }
        for kind, wordings in PHRASINGS.items():
            yield from (wording.format(**fields) for wording in wordings)
            answers = answers_of(kind)
            yield sentence(kind, fields, answers[place % len(answers)])
        yield f'I can see {some(noun, 1, colours[place % len(colours)])} and {some(noun, 2)}, no things.'
    for kind in OPEN:
        yield from (
            sentence(kind, {'a': 'cup', 'plural': 'cups', 'colour': 'red'}, answer) for answer in answers_of(kind)
        )
