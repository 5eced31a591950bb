"""Everyday English before a question is read: politeness, contractions, spellings, plurals and synonyms.

A synonym stands here only where people agree on it: a mug is a cup, but a vegetable is no carrot.
"""

import re
import unicodedata

SYNONYMS = {
    'cup': ('mug', 'teacup', 'tea cup', 'coffee cup', 'coffee mug', 'beaker'),
    'glass': ('tumbler', 'drinking glass', 'water glass'),
    'plate': ('dinner plate',),
    'can': ('tin', 'tin can'),
    'box': ('carton', 'cardboard box', 'package', 'packet'),
    'milk': ('milk carton', 'carton of milk', 'milk box', 'milk package'),
    'pan': ('frying pan', 'skillet', 'frypan', 'fry pan'),
    'pot': ('saucepan', 'cooking pot', 'stockpot'),
    'kettle': ('teakettle', 'tea kettle', 'water kettle', 'electric kettle'),
    'bread': ('loaf', 'loaf of bread', 'bread loaf'),
    'chopping board': ('cutting board', 'bread board', 'chopping block'),
    'fridge': ('refrigerator', 'icebox'),
    'tap': ('faucet', 'water tap', 'spigot'),
    'hob': ('stove', 'cooker', 'cooktop', 'stovetop', 'stove top', 'hotplate'),
    'cupboard': ('cabinet', 'kitchen cabinet'),
    'bin': (
        'trash', 'trash can', 'garbage', 'garbage can', 'rubbish bin', 'waste bin', 'dustbin', 'trash bin',
        'garbage bin', 'wastebasket',
    ),
    'counter': ('worktop', 'countertop', 'kitchen counter', 'work surface', 'counter top', 'benchtop'),
    'microwave': ('microwave oven',),
    'table': ('kitchen table', 'dining table'),
    'picture': ('painting', 'framed picture'),
    'water': ('running water',),
    'sponge': ('dish sponge', 'kitchen sponge'),
    'bottle': ('flask',),
    'jar': ('glass jar',),
    'hand': ("person's hand",),
    'sink': ('basin', 'kitchen sink'),
    'grey': ('gray',),
    'purple': ('violet',),
}  # fmt: skip
"""Taught word -> words that mean the same in a kitchen."""

IRREGULAR = {
    'knives': 'knife',
    'loaves': 'loaf',
    'loaves of bread': 'bread',
    'cartons of milk': 'milk',
    'tomatos': 'tomato',
    'potatos': 'potato',
}
"""Plurals that no rule gives, and common misspellings of plurals."""

PHRASES = {
    'in view': (
        'in sight', 'in picture', 'in image', 'in photo', 'in frame', 'in scene', 'in this picture',
        'in this image', 'in this photo', 'in this frame', 'in this scene', 'in this view', 'visible',
        'in field of view', 'on camera', 'in camera view', 'in your view', 'on screen',
    ),
    'in front of camera': (
        'in front of me', 'in front of you', 'in front of us', 'in front of robot', 'before me', 'in front',
    ),
    'left of': ('to left of', 'on left of', 'on left side of', 'on left hand side of', 'left from', 'to left from'),
    'right of': (
        'to right of', 'on right of', 'on right side of', 'on right hand side of', 'right from', 'to right from',
    ),
    'see': ('seen', 'spot', 'notice', 'recognise', 'recognize', 'make out', 'sees'),
    'located': (
        'lying', 'standing', 'placed', 'sitting', 'kept', 'stored', 'lie', 'stand', 'lies', 'stands', 'situated',
    ),
    'part of view': (
        'part of picture', 'part of image', 'part of frame', 'part of photo', 'side of view', 'side of picture',
        'side of image', 'third of view', 'third of picture',
    ),
    'within arm length': (
        "within arm's reach", 'within arms reach', 'within reach', 'in reach', "in arm's reach", "at arm's length",
        "within arm's length", 'reachable',
    ),
    'person': (
        'human', 'someone', 'somebody', 'anyone', 'anybody', 'he', 'she', 'they', 'user', 'cook', 'operator',
        'wearer',
    ),
    'colour of': ('colours of',),
    'colour': ('colours',),
    'object': ('objects', 'item', 'items', 'thing', 'things'),
    'something': ('anything',),
    'holding': ('hold', 'holds', 'gripping', 'carrying', 'grasping'),
    'nearest': ('closest',),
    'nearer': ('closer',),
    'action': ('actions', 'activity', 'step', 'steps'),
    'finished': ('completed',),
    'far away': ('far', 'far off', 'distant'),
    'in hand': ('in hands', "in person's hand", 'in their hand', 'in his hand', 'in her hand'),
    'on counter': ('on worktop', 'on countertop', 'on top of counter', 'upon counter'),
    'on table': ('on top of table', 'upon table'),
    'on hob': ('on stove', 'on cooker', 'on top of stove', 'on top of hob', 'on stovetop', 'on cooktop'),
    'in drawer': ('inside drawer', 'within drawer'),
    'in cupboard': ('inside cupboard', 'in cabinet', 'inside cabinet', 'within cupboard'),
    'in fridge': ('inside fridge', 'in refrigerator', 'inside refrigerator', 'within fridge'),
    'in bin': (
        'inside bin', 'in trash', 'in trash can', 'in garbage', 'in garbage can', 'in rubbish bin',
        'inside trash can', 'in dustbin',
    ),
}  # fmt: skip
"""Phrase -> phrases that mean the same; without articles."""

SPELLINGS = {
    'color': 'colour',
    'colors': 'colours',
    'colored': 'coloured',
    'gray': 'grey',
    'center': 'middle',
    'centre': 'middle',
    'meters': 'metres',
    'are': 'is',
    'were': 'was',
    'whereabouts': 'where',
    'does': 'do',
    'has': 'have',
    'an': 'a',
}
"""Word -> the word under which it is compared."""

QUOTES = {0x2018: "'", 0x2019: "'", 0x201C: '"', 0x201D: '"'}
"""Curly quotes, and the plain ones."""

CONTRACTIONS = {
    "can't": 'can not',
    "won't": 'will not',
    "let's": 'let us',
    "arm's": "arm's",
    "i'm": 'i am',
    "you're": 'you are',
    "they're": 'they are',
    "we're": 'we are',
    "i've": 'i have',
    "you've": 'you have',
}  # fmt: skip

DROPPED = {
    'a', 'the', 'any', 'some', 'please', 'now', 'currently', 'just', 'really', 'actually', 'exactly', 'kindly',
    'my', 'our', 'also', 'presently', 'maybe', 'perhaps', 'possibly', 'anywhere', 'somewhere', 'very',
}  # fmt: skip
"""Words that change no question of ours."""

FUNCTION = {
    'is', 'do', 'you', 'there', 'it', 'of', 'to', 'i', 'we', 'me', 'can', 'could', 'have', 'be', 'been', 'being',
    'that', 'here', 'one', 'us', 'this', 'these', 'those', 'so',
}  # fmt: skip
"""Words that a question may have more or less of and still mean the same."""

BEFORE = re.compile(
    r'^(?:(?:hey|hi|hello|ok|okay|yo|dear)\b[\s,]*(?:there\b[\s,]*)?(?:robot|m3et|assistant)?\b[\s,.!:]*'
    r'|(?:robot|m3et|assistant|please|excuse me|sorry|well|so|and|now|quick question)\b[\s,.!:]+'
    r'|(?:can|could|would|will) you (?:please |kindly )?(?:tell|show|let) (?:me|us)(?: know)?(?: please)?\b[\s,:]*'
    r'|(?:can|could) you (?:tell|say)\b[\s,:]*'
    r'|(?:please )?(?:tell|show|let) (?:me|us)(?: know)?\b[\s,:]*'
    r'|(?:i|we) (?:want|would like|need|\'?d like) to know\b[\s,:]*'
    r'|(?:do you (?:happen to )?know|any idea|i wonder|i am wondering)\b[\s,:]*)'
)
"""Openings that are no part of a question."""

AFTER = re.compile(r'[\s,]*\b(?:please|robot|m3et|assistant|thanks|thank you|thx|right now|at the moment|for me)$')
"""Endings that are no part of a question."""

ASIDES = re.compile(r',? *\b(?:would you say|do you think|if any|in colou?r)\b,?')
"""Phrases inside a question that change nothing."""

OWNED = re.compile(r"\b(?:the )?([^\W_]+)'s (colou?r|distance|location|place)\b")
"""The cup's colour, which is the colour of the cup."""

WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)?")
"""A word, perhaps with an apostrophe inside."""


def plain(text: str) -> str:
    """Return a question in lower case with plain quotes and single blanks, without politeness and without its end mark.

    The empty text comes back where nothing else was said.
    """
    text = unicodedata.normalize('NFKC', text).translate(QUOTES).lower()
    text = ' '.join(text.split()).strip(' "\'`')
    before = None
    while before != text:
        before = text
        text = BEFORE.sub('', text.rstrip(' ?!.…,;')).strip(' ,')
        text = AFTER.sub('', text)
    return text


def split_words(text: str) -> list[str]:
    """Return the words of a plain question: contractions apart, one spelling, without the words of DROPPED.

    Args:
        text: as from `plain`.
    """
    words: list[str] = []
    text = OWNED.sub(r'the \2 of the \1', ASIDES.sub(' ', text.replace('-', ' ')))
    for word in WORD.findall(text):
        if word in CONTRACTIONS:
            parts = CONTRACTIONS[word].split()
        elif word.endswith("n't"):
            parts = [word[:-3], 'not']
        elif re.fullmatch(r"(?:what|where|there|who|how|which|it|that|here|when|colou?r)'(?:s|re)", word):
            parts = [SPELLINGS.get(word.partition("'")[0], word.partition("'")[0]), 'is']
        else:
            parts = [word]
        words += [SPELLINGS.get(part, part) for part in parts]
    return [word for word in words if word not in DROPPED]


def plurals(word: str) -> tuple[str, ...]:
    """Return the regular plurals of a word: 'boxes', 'cups', 'knives' where English has them."""
    found = [word + 's']
    if re.search(r'(?:s|x|z|ch|sh|o)$', word):
        found.append(word + 'es')
    if word.endswith('fe'):
        found.append(word[:-2] + 'ves')
    return tuple(found)


def slips(word: str) -> set[str]:
    """Return what a word may have been before a slip of the fingers: two letters swapped, or one typed twice or once.

    Letters are swapped in words of four letters and more, and repeated in those of five; shorter words are too close to
    others.
    """
    if len(word) < 4:
        return set()
    swapped = {word[:i] + word[i + 1] + word[i] + word[i + 2 :] for i in range(len(word) - 1)}
    if len(word) == 4:
        return swapped - {word}
    once = {word[:i] + word[i + 1 :] for i in range(1, len(word)) if word[i] == word[i - 1]}
    twice = {word[:i] + word[i] + word[i:] for i in range(len(word))}
    return (swapped | once | twice) - {word}
