"""Colours, verbs and nouns of the simulated kitchen, with the class ids of EPIC-KITCHENS-100.

Nouns and verbs are EPIC-KITCHENS-100 keys ('board:chopping', 'turn-on'). `spoken` and `spoken_verb` turn a key into the
words that questions use.

From a seed to a question: the first file; next comes sim/shapes.py.
"""

import colorsys

COLOURS = {
    'red': (0.80, 0.10, 0.09),
    'orange': (0.93, 0.48, 0.07),
    'yellow': (0.93, 0.80, 0.12),
    'green': (0.16, 0.55, 0.20),
    'blue': (0.10, 0.28, 0.75),
    'purple': (0.42, 0.16, 0.55),
    'pink': (0.93, 0.52, 0.63),
    'brown': (0.42, 0.25, 0.13),
    'white': (0.93, 0.93, 0.91),
    'grey': (0.50, 0.51, 0.53),
    'black': (0.08, 0.08, 0.09),
}
"""Colour words and their linear R G B in 0..1."""

VERBS = {
    'take': 0,
    'put': 1,
    'wash': 2,
    'open': 3,
    'close': 4,
    'turn-on': 6,
    'cut': 7,
    'turn-off': 8,
    'pour': 9,
    'mix': 10,
    'throw': 13,
    'shake': 15,
}
"""Verbs that the person performs and their class ids in EPIC-KITCHENS-100."""

FIRST_RESERVED_ID = 1000
"""First id of the nouns that have no class of their own in EPIC-KITCHENS-100, whose ids end at 299."""

STRUCTURES = {
    'wall': 242,
    'ceiling': FIRST_RESERVED_ID,
    'floor': 159,
    'window': 263,
    'picture': FIRST_RESERVED_ID + 1,
    'top': 42,
    'cupboard': 3,
    'drawer': 8,
    'fridge': 12,
    'oven': 46,
    'hob': 24,
    'sink': 63,
    'tap': 0,
    'water': 27,
    'table': FIRST_RESERVED_ID + 2,
    'chair': 182,
    'bin': 36,
    'microwave': 90,
    'hand': 11,
    'clothes': 73,
}
"""The room, its fixtures and the person. EPIC-KITCHENS-100 counts tables as 'top'; here 'top' is the counter alone."""

OBJECTS = {
    'cup': 13,
    'glass': 10,
    'bowl': 7,
    'plate': 2,
    'bottle': 15,
    'jar': 40,
    'can': 61,
    'box': 23,
    'milk': 64,
    'pan': 5,
    'pot': 29,
    'kettle': 44,
    'apple': 187,
    'orange': 167,
    'lemon': 105,
    'tomato': 43,
    'onion': 16,
    'potato': 30,
    'egg': 53,
    'banana': 146,
    'carrot': 41,
    'cucumber': 72,
    'bread': 33,
    'spoon': 1,
    'knife': 4,
    'sponge': 9,
    'board:chopping': 18,
}
"""Objects that the person can pick up."""

NOUNS = STRUCTURES | OBJECTS
"""Every noun and its class id, in the order of the segmentation classes."""

AFFORDS = {
    'take': tuple(OBJECTS),
    'put': tuple(OBJECTS),
    'open': ('drawer', 'cupboard', 'fridge'),
    'close': ('drawer', 'cupboard', 'fridge'),
    'turn-on': ('tap',),
    'turn-off': ('tap',),
    'wash': tuple(noun for noun in OBJECTS if noun not in ('bread', 'box', 'milk')),
    'cut': ('carrot', 'cucumber', 'tomato', 'onion', 'potato', 'bread', 'banana', 'apple', 'lemon', 'orange'),
    'mix': ('cup', 'glass', 'bowl', 'pan', 'pot'),
    'pour': ('bottle', 'milk', 'kettle'),
    'throw': ('banana', 'egg', 'can', 'box', 'apple', 'onion', 'tomato'),
    'shake': ('bottle', 'milk', 'jar'),
}
"""Verb -> the nouns that its label can have."""

PLACES = (
    'on the counter',
    'on the hob',
    'on the table',
    'in the drawer',
    'in the cupboard',
    'in the fridge',
    'in the hand',
    'in the bin',
)
"""Places of an object, in words."""

SPOKEN = {'board:chopping': 'chopping board', 'top': 'counter', 'clothes': 'sleeve'}
"""Words for the nouns whose key is not a word of everyday English."""

PLURALS = {
    'glass': 'glasses',
    'box': 'boxes',
    'knife': 'knives',
    'tomato': 'tomatoes',
    'potato': 'potatoes',
    'milk': 'milk cartons',
    'bread': 'loaves of bread',
    'person': 'people',
    'mouse': 'mice',
    'scissors': 'pairs of scissors',
}
"""Plurals that no rule gives."""

PARTITIVES = {
    'water': 'running water',
    'bread': 'a loaf of bread',
    'milk': 'a milk carton',
    'scissors': 'a pair of scissors',
}
"""Singular phrases of the nouns that take no plain article."""


def spoken(noun: str) -> str:
    """Return the words for a noun key: 'chopping board'."""
    return SPOKEN.get(noun, noun)


def spoken_verb(verb: str) -> str:
    """Return the words for a verb key: 'turn on'."""
    return ' '.join(verb.split('-'))


def plural(noun: str) -> str:
    """Return the plural of a noun key in words."""
    words = spoken(noun)
    return PLURALS.get(noun, words + ('es' if words.endswith(('s', 'x', 'z', 'ch', 'sh')) else 's'))


def with_article(noun: str) -> str:
    """Return a noun key in words with its article: 'a cup', 'an onion'."""
    words = spoken(noun)
    return PARTITIVES.get(noun, f'{"an" if words[0] in "aeiou" else "a"} {words}')


def overlay_colours(count: int) -> tuple[tuple[int, int, int], ...]:
    """Return `count` well separated colours, R G B in 0..255; a position always has the same colour."""
    turn = 0.618034  # the golden ratio spreads any number of hues evenly
    levels = ((0.9, 0.95), (0.55, 0.9), (0.9, 0.6))  # saturation and brightness separate neighbouring hues
    colours = (colorsys.hsv_to_rgb(i * turn % 1, *levels[i % 3]) for i in range(count))
    return tuple((round(255 * r), round(255 * g), round(255 * b)) for r, g, b in colours)


CLASSES = tuple(spoken(noun) for noun in NOUNS)
"""Segmentation classes in words; the position of a class is its value in the mask."""

CLASS_COLOURS = overlay_colours(len(CLASSES))
"""Overlay colour of each class."""

CLASS_OF = {noun: index for index, noun in enumerate(NOUNS)}
"""Noun key -> value in the segmentation mask."""
