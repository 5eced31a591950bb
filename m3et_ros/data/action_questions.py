"""The pair of questions that guide an action head: one about the object, one about the verb (docs/papers.md, section 3).

A mode tells what the questions give away:
    generic   one constant pair; nothing.
    masked    the paper's form, the other half of the action masked; the wording is picked by a hash of the key.
    two_pass  masked first; then the other half filled with what the head itself thought most likely.
    history   names the action before, which has to be over; anticipation alone.
    chain     the verb as in generic; the noun once for every verb there is, given that verb.
    follow    chain for what comes next and for what was done last, from which a table tells what mostly follows.
    oracle    the other half filled with the truth: an upper bound, never a result.
"""

import zlib

MODES = ('generic', 'masked', 'two_pass', 'history', 'chain', 'follow', 'oracle')
MASK = '[MASK]'

Pair = tuple[str, str]
"""Noun question, verb question."""

NOW: Pair = ('Which object is the person using now?', 'What is the person doing now?')
NEXT: Pair = ('Which object will be used next?', 'What will be done next?')
LAST: Pair = ('Which object was used last?', 'What was done last?')
NOW_GIVEN, NEXT_GIVEN = 'Which object does the person {verb} now?', 'Which object will the person {verb} next?'
LAST_GIVEN = 'Which object did the person {verb} last?'

NOUN_FORMS = (
    'What object does the person {verb} in this clip?',
    'Which item are the hands holding while they {verb}?',
    'Which thing is it that they {verb}?',
)
VERB_FORMS = (
    'What does the person do with the {noun}?',
    'Which action is performed on the {noun}?',
    'How do the hands move the {noun}?',
)
AFTER: Pair = (
    'After the action {verb} {noun}, which object is used next?',
    'After the action {verb} {noun}, what is done next?',
)


def spoken_verb(verb: str) -> str:
    """Words of a verb key: 'turn-on' -> 'turn on'."""
    return verb.replace('-', ' ')


def spoken_noun(noun: str) -> str:
    """Words of a noun key: 'board:chopping' -> 'chopping board'."""
    return ' '.join(reversed(noun.split(':')))


def filled(key: str, verb: str = MASK, noun: str = MASK) -> Pair:
    """The paper's form; what is not given stays masked.

    Args:
        key: of the segment; picks the wordings, so that they tell nothing of its labels.
        verb: verb key for the noun question.
        noun: noun key for the verb question.
    """
    picked = zlib.crc32(key.encode())
    return (
        NOUN_FORMS[picked % len(NOUN_FORMS)].format(verb=spoken_verb(verb)),
        VERB_FORMS[picked // 8 % len(VERB_FORMS)].format(noun=spoken_noun(noun)),
    )


def given(form: str, verb: str) -> str:
    """The noun question NOW_GIVEN, NEXT_GIVEN or LAST_GIVEN for a verb key."""
    return form.format(verb=spoken_verb(verb))


def after(before: tuple[str, str] | None) -> Pair:
    """What comes after an action (verb key, noun key); the generic pair where there was none."""
    if before is None:
        return NEXT
    verb, noun = before
    return tuple(form.format(verb=spoken_verb(verb), noun=spoken_noun(noun)) for form in AFTER)
