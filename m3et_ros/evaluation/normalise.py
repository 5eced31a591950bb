"""How answers are made comparable: the normaliser of the VQA protocol (papers.md 7.1)."""

import re
from functools import lru_cache

PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
"""What the protocol takes for punctuation besides the full stop; the apostrophe is none."""

ARTICLES = frozenset(('a', 'an', 'the'))

NUMBERS = {word: str(n) for n, word in enumerate('zero one two three four five six seven eight nine ten'.split())}
NUMBERS['none'] = '0'

_CONTRACTED = """
    ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't haven't he'd he'd've
    he's how'd how'll how's isn't it'd it'd've it'll ma'am mightn't mightn't've might've mustn't must've needn't not've
    o'clock oughtn't 'ow's'at shan't she'd've should've shouldn't shouldn't've somebody'd've somebody'll somebody's
    someone'd someone'd've someone'll someone's something'd something'd've something'll that's there'd there'd've
    there're there's they'd they'd've they'll they're they've 'twas wasn't we'd've we've weren't what'll what're what's
    what've when's where'd where's where've who'd who'd've who'll who's who've why'll why're why's won't would've
    wouldn't wouldn't've y'all y'all'll y'all'd've you'd you'd've you'll you're you've
""".split()


def _contractions() -> dict[str, str]:
    """Each contraction by its spellings with exactly one apostrophe missing."""
    found = {word[:i] + word[i + 1:]: word for word in _CONTRACTED for i, letter in enumerate(word) if letter == "'"}
    # The protocol's own slip, kept so that scores agree with it.
    return found | {"somebody'd": 'somebodyd'}


CONTRACTIONS = _contractions()

_GROUPED_DIGITS = re.compile(r'\d,\d')
_FULL_STOP = re.compile(r'\.(?!\d)')


def strip_punctuation(text: str) -> str:
    """Remove punctuation from one answer; full stops before a digit stay.

    A mark beside a blank, and every mark of an answer with grouped digits such as 1,000, goes without trace; any other
    mark becomes a blank.
    """
    grouped = _GROUPED_DIGITS.search(text)
    out = text
    for mark in PUNCTUATION:
        if mark in text:
            out = out.replace(mark, '' if grouped or f'{mark} ' in text or f' {mark}' in text else ' ')
    return _FULL_STOP.sub('', out)


def _one_line(text: str) -> str:
    return text.replace('\n', ' ').replace('\t', ' ').strip()


@lru_cache(maxsize=65536)
def normalise(answer: str) -> str:
    """Every step, as the protocol treats a prediction: 'The two  Mugs.' becomes '2 mugs'."""
    words = strip_punctuation(_one_line(answer).lower()).split()
    words = [NUMBERS.get(word, word) for word in words]
    return ' '.join(CONTRACTIONS.get(word, word) for word in words if word not in ARTICLES)


@lru_cache(maxsize=65536)
def normalise_reference(answer: str) -> str:
    """The punctuation step only, as the protocol treats a human answer."""
    return strip_punctuation(_one_line(answer))
