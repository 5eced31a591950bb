"""The wordings of questions about a whole episode, and small tables of common knowledge.

Nouns are keys of vocabulary.OBJECTS. A table gives the nouns to which a phrase applies, and the doubtful nouns, on
which people might disagree: a phrase is not asked about if a doubtful noun was observed.

From a seed to a question: after questions/observer.py, before questions/episode.py.
"""

from m3et_ros.data.datasets.openeqa import CATEGORIES

HISTORY = 'action history'
"""The actions and their order: a category in addition to those of OpenEQA."""

EQA_CATEGORIES = (*CATEGORIES, HISTORY)

PHRASINGS = {
    'was_seen': ('Was there {article} in view before?', 'Have you seen {article}?'),
    'which_seen': ('Which was in view before, {article} or {other}?',),
    'what_there': ('What was {place}?', 'Which object was {place}?'),
    'how_many': ('How many {plural} were there?', 'How many {plural} have you seen?'),
    'where_now': ('Where is the {a} now?', 'Where was the {a} last seen?'),
    'is_there': ('Is the {a} {place} now?',),
    'was_colour': ('What colour was the {a}?', 'Which colour did the {a} have?'),
    'which_colour': ('Which was {colour}, the {a} or the {b}?',),
    'was_that_colour': ('Was the {a} {colour}?',),
    'was_opened': ('Was {article} opened?',),
    'still_open': ('Is the {a} still open?',),
    'still_on': ('Is the tap still on?', 'Is the water still running?'),
    'still_filled': ('Is there something in the {a}?', 'Has something been poured into the {a}?'),
    'was_done': ('Was the {a} {done}?', 'Has the {a} been {done}?'),
    'which_side': ('Facing the counter, is the {a} left or right of the {b}?',),
    'nearer_to': ('Which is nearer to the {c}, the {a} or the {b}?',),
    'same_place': ('Are the {a} and the {b} in the same place?',),
    'use_seen': ('Was there something to {use}?',),
    'use_at': ('Is there, {place}, something to {use}?',),
    'use_what': ('What was there to {use}?',),
    'use_where': ('Where is something to {use}?',),
    'fact_seen': ('Was there {fact}?',),
    'fact_at': ('Is there {fact} {place}?',),
    'fact_what': ('What was there that is {fact}?',),
    'fact_where': ('Where is {fact}?',),
    'fact_count': ('Of what you have seen, how many are {facts}?',),
    'first': ('What was the first action?', 'What was done first?'),
    'last': ('What was done last?', 'What was the last action?'),
    'before_last': ('What was done before the last action?',),
    'how_many_done': ('How many actions have been done?',),
    'right_after': ('What was done right after {action}?',),
    'which_first': ('Which was done first, {action} or {other}?',),
    'ever_done': ('Was this done: {action}?',),
}
"""Kind of question -> its wordings."""

DONE = {'cut': 'cut', 'wash': 'washed', 'shake': 'shaken', 'throw': 'thrown away', 'take': 'taken'}
"""Verb of vocabulary.VERBS -> its participle."""

USES = {
    'drink from': (('cup', 'glass'), ('bowl', 'bottle', 'can')),
    'boil water in': (('kettle', 'pot'), ('pan',)),
    'cut with': (('knife',), ()),
    'stir with': (('spoon',), ('knife',)),
    'wash with': (('sponge',), ()),
    'serve food on': (('plate',), ('bowl', 'board:chopping')),
    'cut on': (('board:chopping',), ('plate',)),
    'fry in': (('pan',), ('pot',)),
}
"""Use -> nouns that serve it, and the doubtful ones."""

FACTS = {
    'a fruit': (('apple', 'orange', 'lemon', 'banana'), ('tomato', 'cucumber')),
    'a vegetable': (('carrot', 'onion', 'potato'), ('tomato', 'cucumber')),
    'made by an animal': (('egg', 'milk'), ()),
    'grown below the ground': (('carrot', 'potato'), ('onion',)),
    'sour': (('lemon',), ('orange', 'apple')),
    'baked': (('bread',), ('potato',)),
    'for drinking': (('milk',), ('bottle', 'can', 'cup', 'glass')),
    'peeled by hand': (('banana', 'orange'), ('onion', 'egg', 'lemon')),
}
"""Fact -> nouns that it is true of, and the doubtful nouns."""

COUNTED = {'a fruit': 'fruit', 'a vegetable': 'vegetables'}
"""Facts by which objects are counted -> the plural."""
