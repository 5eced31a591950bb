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
"""Kind of question -> its wordings; the fields are spoken nouns, colour words and places."""

MOST = 10
"""Largest number that questions ask for."""

STEP = 0.5
"""Answers give distances in steps of this many metres."""

FARTHEST = 5.0
"""Largest distance of an answer, in metres."""

REGIONS = ('left', 'middle', 'right')


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
    }


ANSWERS = tuple(
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
"""Every answer that a question can have, each once; at most four words."""
