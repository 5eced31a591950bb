"""The pair of questions that guide an action head: one about the object, one about the verb (docs/papers.md 3).

A mode determines which labels the questions reveal:
    generic   nothing: one constant pair.
    masked    the other half of the action is masked, as in the paper; a hash of the key picks the wording.
    two_pass  masked first; then the other half is filled with the head's own most likely answer.
    history   the action before, which has to be over; anticipation alone.
    chain     the verb as in generic; the noun once for every verb there is, given that verb.
    follow    chain for the next action and for the last one, which a table of frequent successors continues.
    oracle    the other half is filled with the truth: an upper bound, never a result.
"""

import zlib

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
    """Return the words of an EPIC-KITCHENS verb key: 'turn-on' -> 'turn on'."""
    return verb.replace('-', ' ')


def spoken_noun(noun: str) -> str:
    """Return the words of an EPIC-KITCHENS noun key: 'board:chopping' -> 'chopping board'."""
    return ' '.join(reversed(noun.split(':')))


def masked_questions(key: str, verb: str = MASK, noun: str = MASK) -> Pair:
    """Return the paper's pair; a word that is not given stays masked.

    Args:
        key: key of the segment; picks the wordings, so that these give no hint of its labels.
        verb: verb key for the noun question.
        noun: noun key for the verb question.
    """
    picked = zlib.crc32(key.encode())
    return (
        NOUN_FORMS[picked % len(NOUN_FORMS)].format(verb=spoken_verb(verb)),
        VERB_FORMS[picked // 8 % len(VERB_FORMS)].format(noun=spoken_noun(noun)),
    )


def noun_question(form: str, verb: str) -> str:
    """Return NOW_GIVEN, NEXT_GIVEN or LAST_GIVEN filled with a verb key."""
    return form.format(verb=spoken_verb(verb))


def questions_after(before: tuple[str, str] | None) -> Pair:
    """Return the pair about the action after (verb key, noun key); NEXT where there was no action before."""
    if before is None:
        return NEXT
    words = {'verb': spoken_verb(before[0]), 'noun': spoken_noun(before[1])}
    return AFTER[0].format(**words), AFTER[1].format(**words)
