"""The questions that a model of the kitchen is taught, as checkpoints store them.

The wordings are those of frame_wordings.py and episode_wordings.py; the words of each field are those with which the
generators in frame.py and episode.py fill it.

From a seed to a question: beside the way.
"""

from collections.abc import Mapping, Sequence

from m3et_ros.data.kitchen.questions import episode_wordings, frame_wordings
from m3et_ros.data.kitchen.questions.frame import EVERYWHERE, SURFACES
from m3et_ros.data.kitchen.sim.vocabulary import (
    AFFORDS,
    CLASSES,
    COLOURS,
    NOUNS,
    OBJECTS,
    PLACES,
    plural,
    spoken,
    with_article,
)
from m3et_ros.data.questions.matching import FIELD
from m3et_ros.data.questions.taught import Taught, TaughtField, TaughtKind

BEYOND = (
    'last', 'before_last', 'first', 'how_many_done', 'used', 'next', 'next_verb', 'next_noun',
)  # fmt: skip
"""Kinds of questions about a frame whose answers lie before or after it."""


def _nouns(nouns: tuple[str, ...], form: str = 'plain') -> TaughtField:
    return TaughtField('noun', tuple(map(spoken, nouns)), form)


SEEN = tuple(noun for noun in NOUNS if noun not in EVERYWHERE)
ACTIONS = tuple(frame_wordings.action(verb, noun) for verb, nouns in AFFORDS.items() for noun in nouns)
HANDLED = tuple(noun for noun in NOUNS if noun in {noun for nouns in AFFORDS.values() for noun in nouns})
FACTS = tuple(fact if fact in episode_wordings.COUNTED else f'something {fact}' for fact in episode_wordings.FACTS)
OBJECT, OPENED = _nouns(tuple(OBJECTS)), _nouns(AFFORDS['open'])
COMMON = {
    'a': OBJECT,
    'b': OBJECT,
    'article': _nouns(SEEN, 'one'),
    'plural': _nouns(tuple(OBJECTS), 'many'),
    'colour': TaughtField('colour', tuple(COLOURS)),
    'place': TaughtField('place', PLACES),
    'side': TaughtField('side', tuple(frame_wordings.SIDES.values())),
}
"""Field -> its words, unless FRAME or EPISODE says otherwise for a kind."""

FRAME: dict[str, dict[str, TaughtField]] = {
    'left_of': {'b': _nouns(SEEN)},
    'right_of': {'b': _nouns(SEEN)},
    'is_open': {'a': OPENED, 'article': _nouns(AFFORDS['open'], 'one')},
    'is_filled': {'a': _nouns(AFFORDS['mix'])},
    'used': {'a': _nouns(HANDLED)},
    'what_at': {'place': TaughtField('place', tuple(SURFACES))},
}
EPISODE: dict[str, dict[str, TaughtField]] = {
    'was_seen': {'article': _nouns(tuple(OBJECTS), 'one')},
    'which_seen': {'article': _nouns(tuple(OBJECTS), 'one'), 'other': _nouns(tuple(OBJECTS), 'one')},
    'was_opened': {'article': TaughtField('noun', ('a drawer', 'a cupboard', 'the fridge'))},
    'still_open': {'a': TaughtField('noun', ('fridge',))},
    'still_filled': {'a': _nouns(AFFORDS['mix'])},
    'was_done': {'done': TaughtField('done', tuple(episode_wordings.DONE.values()))},
    'which_side': {'a': _nouns(('sink', *OBJECTS)), 'b': _nouns(('sink', *OBJECTS))},
    'nearer_to': {'c': TaughtField('noun', ('sink', 'bin'))},
    **{kind: {'use': TaughtField('use', tuple(episode_wordings.USES))} for kind in
       ('use_seen', 'use_at', 'use_what', 'use_where')},
    **{kind: {'fact': TaughtField('fact', FACTS)} for kind in ('fact_seen', 'fact_at', 'fact_where')},
    'fact_what': {'fact': TaughtField('fact', tuple(episode_wordings.FACTS))},
    'fact_count': {'facts': TaughtField('facts', tuple(episode_wordings.COUNTED.values()))},
    **{kind: {name: TaughtField('action', ACTIONS) for name in ('action', 'other')} for kind in
       ('right_after', 'which_first', 'ever_done')},
}  # fmt: skip
"""Kind -> the fields whose words differ from COMMON."""


def kitchen_taught(*, version: int) -> Taught:
    """Return what a model of the kitchen is taught.

    Args:
        version: 1 or 2, of the generator whose questions about frames it learns.
    """
    kinds = frame_wordings.PHRASINGS if version == 1 else frame_wordings.KINDS
    return Taught(
        frame=_kinds({kind: frame_wordings.phrasings(kind, version) for kind in kinds}, FRAME, BEYOND),
        episode=_kinds(episode_wordings.PHRASINGS, EPISODE, ()),
        forms={spoken(noun): (with_article(noun), plural(noun)) for noun in NOUNS},
    )


def taught_to(answers: Sequence[str], classes: Sequence[str]) -> Taught | None:
    """Return what a model with these labels was taught, for checkpoints that do not say so; None for other labels."""
    if tuple(classes) != CLASSES or tuple(answers) not in frame_wordings.ANSWERS_OF_VERSIONS:
        return None
    return kitchen_taught(version=1 + frame_wordings.ANSWERS_OF_VERSIONS.index(tuple(answers)))


def _kinds(
    phrasings: Mapping[str, tuple[str, ...]], special: Mapping[str, Mapping[str, TaughtField]], beyond: Sequence[str]
) -> dict[str, TaughtKind]:
    kinds = {}
    for name, wordings in phrasings.items():
        used = dict.fromkeys(field for wording in wordings for field in FIELD.findall(wording))
        fields = {field: special.get(name, {}).get(field) or COMMON[field] for field in used}
        kinds[name] = TaughtKind(tuple(wordings), fields, name in beyond)
    return kinds
