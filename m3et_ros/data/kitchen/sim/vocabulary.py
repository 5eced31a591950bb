"""Names of the simulated kitchen: colours, verbs and nouns with the class ids of EPIC-KITCHENS-100.

Nouns and verbs are written as EPIC-KITCHENS-100 keys ('board:chopping'); `spoken` gives the words used in questions.
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
"""Verbs that can be seen and their class ids in EPIC-KITCHENS-100."""

FIRST_RESERVED_ID = 1000
"""Nouns from this id on have no class of their own in EPIC-KITCHENS-100 (which ends at 299)."""

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
"""The room, what stands fast in it and the person; EPIC counts tables as 'top', which here is the counter alone."""

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
"""What can be picked up."""

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
"""What each verb can be done to: the noun of its label."""

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
"""Where a thing can be."""

SPOKEN = {'board:chopping': 'chopping board', 'top': 'counter', 'clothes': 'sleeve'}
"""Words for the nouns whose key is not how one would say it."""

PLURALS = {
    'glass': 'glasses',
    'box': 'boxes',
    'knife': 'knives',
    'tomato': 'tomatoes',
    'potato': 'potatoes',
    'milk': 'milk cartons',
    'bread': 'loaves of bread',
}
"""Plurals that are not the spoken noun and an s."""

PARTITIVES = {'water': 'running water', 'bread': 'a loaf of bread', 'milk': 'a milk carton'}
"""One of what is not counted."""


def spoken(noun: str) -> str:
    """The words for a noun key."""
    return SPOKEN.get(noun, noun)


def plural(noun: str) -> str:
    """The words for several things of one noun key."""
    return PLURALS.get(noun, spoken(noun) + 's')


def with_article(noun: str) -> str:
    """The words for one thing of a noun key: 'a cup', 'an onion'."""
    words = spoken(noun)
    return PARTITIVES.get(noun, f'{"an" if words[0] in "aeiou" else "a"} {words}')


def overlay_colours(count: int) -> tuple[tuple[int, int, int], ...]:
    """Well separated R G B in 0..255, always the same for the same position."""
    turn = 0.618034  # the golden ratio spreads any number of hues evenly
    levels = ((0.9, 0.95), (0.55, 0.9), (0.9, 0.6))  # saturation and brightness tell neighbouring hues apart
    colours = (colorsys.hsv_to_rgb(i * turn % 1, *levels[i % 3]) for i in range(count))
    return tuple(tuple(round(255 * level) for level in colour) for colour in colours)


CLASSES = tuple(spoken(noun) for noun in NOUNS)
"""Segmentation classes; the position of a name is its value in the mask."""

CLASS_COLOURS = overlay_colours(len(CLASSES))
"""Overlay colour of each class."""

CLASS_OF = {noun: index for index, noun in enumerate(NOUNS)}
"""Value in the mask of each noun key."""
