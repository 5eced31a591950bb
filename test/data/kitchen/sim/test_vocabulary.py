"""Names and ids."""

from m3et_ros.data.kitchen.sim.objects import MAKERS
from m3et_ros.data.kitchen.sim.vocabulary import (
    AFFORDS,
    CLASS_COLOURS,
    CLASSES,
    FIRST_RESERVED_ID,
    NOUNS,
    OBJECTS,
    VERBS,
    plural,
    with_article,
)

# Class id -> key, from EPIC_100_noun_classes.csv and EPIC_100_verb_classes.csv of EPIC-KITCHENS-100.
EPIC_NOUNS = {
    0: 'tap',
    1: 'spoon',
    2: 'plate',
    3: 'cupboard',
    4: 'knife',
    5: 'pan',
    7: 'bowl',
    8: 'drawer',
    9: 'sponge',
    10: 'glass',
    11: 'hand',
    12: 'fridge',
    13: 'cup',
    15: 'bottle',
    16: 'onion',
    18: 'board:chopping',
    23: 'box',
    24: 'hob',
    27: 'water',
    29: 'pot',
    30: 'potato',
    33: 'bread',
    36: 'bin',
    40: 'jar',
    41: 'carrot',
    42: 'top',
    43: 'tomato',
    44: 'kettle',
    46: 'oven',
    53: 'egg',
    61: 'can',
    63: 'sink',
    64: 'milk',
    72: 'cucumber',
    73: 'clothes',
    90: 'microwave',
    105: 'lemon',
    146: 'banana',
    159: 'floor',
    167: 'orange',
    182: 'chair',
    187: 'apple',
    242: 'wall',
    263: 'window',
}
EPIC_VERBS = {
    0: 'take',
    1: 'put',
    2: 'wash',
    3: 'open',
    4: 'close',
    6: 'turn-on',
    7: 'cut',
    8: 'turn-off',
    9: 'pour',
    10: 'mix',
    13: 'throw',
    15: 'shake',
}


def test_ids_name_the_same_as_in_epic_kitchens():
    published = {noun: number for noun, number in NOUNS.items() if number < FIRST_RESERVED_ID}
    assert {number: noun for noun, number in published.items()} == EPIC_NOUNS
    assert {number: verb for verb, number in VERBS.items()} == EPIC_VERBS


def test_nouns_without_a_class_have_reserved_ids():
    assert {noun for noun, number in NOUNS.items() if number >= FIRST_RESERVED_ID} == {'ceiling', 'picture', 'table'}
    assert len(set(NOUNS.values())) == len(NOUNS)


def test_classes_and_colours_are_distinct():
    assert len(set(CLASSES)) == len(set(CLASS_COLOURS)) == len(NOUNS) <= 60


def test_every_object_can_be_made_and_every_verb_has_objects():
    assert set(MAKERS) == set(OBJECTS)
    assert set(AFFORDS) == set(VERBS)
    assert set().union(*AFFORDS.values()) <= set(NOUNS)


def test_words_for_one_and_for_many():
    assert with_article('onion') == 'an onion'
    assert with_article('board:chopping') == 'a chopping board'
    assert plural('knife') == 'knives'
    assert plural('board:chopping') == 'chopping boards'
