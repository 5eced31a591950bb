"""The wordings of questions about a frame, and every answer that they can have.

From a seed to a question: after sim/camera.py, before questions/frame.py.
"""

from m3et_ros.data.kitchen.sim.objects import COLOURS_OF
from m3et_ros.data.kitchen.sim.vocabulary import (
    AFFORDS,
    CLASSES,
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

PHRASINGS = {
    'existence': ('Is there {article} in view?', 'Can you see {article}?'),
    'count': ('How many {plural} are in view?', 'How many {plural} can you see?'),
    'count_colour': ('How many {colour} objects are in view?', 'How many {colour} things can you see?'),
    'colour': ('What colour is the {a}?', 'Which colour does the {a} have?'),
    'is_colour': ('Is the {a} {colour}?',),
    'location': ('Where is the {a}?', 'Where can I find the {a}?'),
    'is_located': ('Is the {a} {place}?',),
    'distance': ('How far away is the {a}?', 'What is the distance to the {a}?'),
    'in_reach': ("Is the {a} within arm's reach?", 'Can the person reach the {a} without walking?'),
    'closer': ('Which is closer, the {a} or the {b}?', 'Is the {a} or the {b} nearer?'),
    'region': ('In which part of the view is the {a}?', 'Is the {a} on the left, in the middle or on the right?'),
    'left_of': ('Is the {a} left of the {b}?', 'Is the {a} to the left of the {b}?'),
    'right_of': ('Is the {a} right of the {b}?', 'Is the {a} to the right of the {b}?'),
    'nearest': ('Which object is nearest to the camera?', 'What is the nearest object?'),
    'is_nearest': ('Is the {a} the nearest object?',),
    'is_open': ('Is {article} open?', 'Do you see an open {a}?'),
    'is_on': ('Is the tap on?', 'Is water running from the tap?'),
    'is_filled': ('Is there something in the {a}?', 'Has something been poured into the {a}?'),
    'holding': ('Is the hand holding something?', 'Is there something in the hand?'),
    'empty_handed': ('Is the hand empty?',),
    'held': ('What is in the hand?', 'What is the hand holding?'),
    'now': ('What is the person doing?', 'What is being done?'),
    'now_verb': ('Which verb fits the present action?',),
    'now_noun': ('Which object is being acted on?', 'What is being used?'),
    'last': ('What was done last?', 'What has the person just done?'),
    'before_last': ('What was done before the last action?',),
    'first': ('What was the first action?',),
    'how_many_done': ('How many actions are finished?', 'How many actions have been done so far?'),
    'used': ('Was the {a} used before?', 'Has the {a} been used?'),
    'next': ('What will be done next?', 'What will the person do next?'),
    'next_verb': ('Which verb comes next?',),
    'next_noun': ('Which object will be used next?',),
}
"""Kind of question -> its wordings of version 1; the fields are spoken nouns, colour words and places."""

FURTHER_PHRASINGS = {
    'existence': ('Is there {article}?', 'Do you see {article}?', 'Is {article} visible?'),
    'count': ('How many {plural} are there?', 'How many {plural} do you see?', 'How many {plural} are visible?'),
    'count_colour': ('How many {colour} objects are there?', 'How many {colour} things do you see?'),
    'colour': ('What color is the {a}?', "What's the color of the {a}?", 'What is the colour of the {a}?'),
    'is_colour': ('Is the color of the {a} {colour}?', 'Does the {a} look {colour}?', 'Is that {a} {colour}?'),
    'location': ("Where's the {a}?", 'Where do you see the {a}?', 'Where is the {a} now?'),
    'is_located': ('Can I find the {a} {place}?', 'Do you see the {a} {place}?', 'Is the {a} somewhere {place}?'),
    'distance': ('How far is the {a}?', 'How far is it to the {a}?', 'How many meters away is the {a}?'),
    'in_reach': ('Is the {a} within reach?', 'Can the person reach the {a}?', 'Is the {a} close enough to grab?'),
    'closer': ('Which one is closer, the {a} or the {b}?', "What's closer, the {a} or the {b}?"),
    'region': ('Is the {a} left, middle or right?', 'Which part of the picture is the {a} in?'),
    'left_of': ('Is the {a} on the left side of the {b}?', 'Do you see the {a} left of the {b}?'),
    'right_of': ('Is the {a} on the right side of the {b}?', 'Do you see the {a} right of the {b}?'),
    'nearest': ("What's the nearest object?", 'Which object is closest?', 'What thing is closest to the camera?'),
    'is_nearest': ('Is the {a} the closest object?', 'Is the {a} closest to the camera?'),
    'is_open': ('Is any {a} open?', 'Can you see an open {a}?'),
    'is_on': ('Is the faucet on?', 'Is the water running?', 'Is the tap running?'),
    'is_filled': ('Is there anything in the {a}?', 'Does the {a} contain anything?'),
    'holding': (
        'Is there anything in the hand?',
        'Is the person holding something?',
        'Is the person holding anything?',
    ),
    'empty_handed': ('Is the hand free?', 'Is there nothing in the hand?'),
    'held': ("What's in the hand?", 'What is the person holding?', "What's the person holding?"),
    'now': ('What is the person doing now?', "What's the person doing?", 'What is happening at the moment?'),
    'now_verb': ('Which verb describes the present action?', 'What verb fits the present action?'),
    'now_noun': ('Which object is the person using?', 'What is the person working with?'),
    'last': ('What did the person just do?', 'What was the last action?', 'What did the person do last?'),
    'before_last': ('What was the action before the last one?', 'What did the person do before the last action?'),
    'first': ('What was done first?', 'What did the person do first?'),
    'how_many_done': ('How many actions has the person finished?', 'How many actions are done?'),
    'used': ('Did the person use the {a}?', 'Has the {a} been used before?'),
    'next': ("What's next?", 'What happens next?', 'What is the person going to do next?'),
    'next_verb': ('What is the next verb?', 'Which verb fits the next action?'),
    'next_noun': ('What will be used next?', 'What object will the person use next?'),
    'colour_at': (
        'What colour is the thing {side}?',
        'What color is the thing {side}?',
        'Which colour does the object {side} have?',
        "What's the color of the object {side}?",
    ),
    'colour_held': (
        'What colour is the thing in the hand?',
        'What color is the thing in the hand?',
        'Which colour does the object in the hand have?',
        "What's the color of the object in the hand?",
    ),
    'thing_at': ('What is {side}?', "What's {side}?", 'Which object is {side}?', 'What do you see {side}?'),
    'what_at': ('What is {place}?', "What's {place}?", 'Which object is {place}?', 'What do you see {place}?'),
}
"""Kind of question -> what version 2 adds to its wordings: everyday and American English, and kinds of its own."""

KINDS = tuple({**PHRASINGS, **FURTHER_PHRASINGS})
"""Every kind of question."""


def phrasings(kind: str, version: int) -> tuple[str, ...]:
    """Return the wordings of a kind of question.

    Args:
        kind: one of KINDS.
        version: version of the generator. Those of version 1 remain, because the shipped weights were trained and are
            evaluated with them; version 2 adds more after them.

    Raises:
        KeyError: the version has no such kind.
    """
    if version == 1:
        return PHRASINGS[kind]
    return PHRASINGS.get(kind, ()) + FURTHER_PHRASINGS[kind]


CLOSED = frozenset(
    (
        'existence',
        'is_colour',
        'is_located',
        'in_reach',
        'left_of',
        'right_of',
        'is_nearest',
        'is_open',
        'is_on',
        'is_filled',
        'holding',
        'empty_handed',
        'used',
    )
)
"""Kinds of question with the answers yes and no; the others are open. NOT_IN_VIEW answers some kinds of both."""

ABSENT = (
    'colour',
    'is_colour',
    'location',
    'is_located',
    'distance',
    'in_reach',
    'closer',
    'region',
    'left_of',
    'right_of',
    'is_filled',
)
"""Kinds of question that version 2 also asks about objects out of view; their answer is then NOT_IN_VIEW."""

NOT_IN_VIEW = 'not in view'

MOST = 10
"""Largest number that questions ask for."""

STEP = 0.5
"""Answers give distances in steps of this many metres."""

FARTHEST = 5.0
"""Largest distance of an answer, in metres."""

REGIONS = ('left', 'middle', 'right')

SIDES = {'left': 'on the left', 'middle': 'in the middle', 'right': 'on the right'}
"""Third of the view -> words for it in a sentence."""


def metres(steps: int) -> str:
    """Return a distance in words: '1.5 m' for three steps."""
    return f'{steps * STEP:.1f} m'


def coloured(colour: str, noun: str) -> str:
    """Return an object with its colour in words: 'red cup'."""
    return f'{colour} {spoken(noun)}'


def action(verb: str, noun: str) -> str:
    """Return an action in words: 'turn on tap'."""
    return f'{spoken_verb(verb)} {spoken(noun)}'


def yes_or_no(fact: bool) -> str:
    """Return the answer to a yes or no question."""
    return 'yes' if fact else 'no'


def example_fields(index: int) -> dict[str, str]:
    """Return fields for any wording, about the noun of an index; all indices together hold every noun."""
    nouns, colours = tuple(NOUNS), tuple(COLOURS)
    return {
        'a': spoken(nouns[index]),
        'b': spoken(nouns[index - 1]),
        'article': with_article(nouns[index]),
        'plural': plural(nouns[index]),
        'colour': colours[index % len(colours)],
        'place': PLACES[index % len(PLACES)],
        'side': SIDES[REGIONS[index % len(REGIONS)]],
    }


FIRST_ANSWERS = tuple(
    dict.fromkeys(
        [
            'yes',
            'no',
            'nothing',
            *(str(n) for n in range(MOST + 1)),
            *COLOURS,
            *PLACES,
            *(metres(steps) for steps in range(1, int(FARTHEST / STEP) + 1)),
            *REGIONS,
            *CLASSES,
            *(spoken_verb(verb) for verb in VERBS),
            *(coloured(colour, noun) for noun in OBJECTS for colour in COLOURS_OF.get(noun, tuple(COLOURS))),
            *(action(verb, noun) for verb, nouns in AFFORDS.items() for noun in nouns),
        ]
    )
)
"""The answers of version 1, in the order of the shipped weights."""

ANSWERS = (*FIRST_ANSWERS, NOT_IN_VIEW)
"""Every answer that a question can have, each once; at most four words."""

ANSWERS_OF_VERSIONS = (FIRST_ANSWERS, ANSWERS)
"""The answers that a checkpoint for the kitchen may have."""
