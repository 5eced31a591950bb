"""Label sets and words of the kitchen for models and tokenizers; needs no simulator."""

from m3et_ros.data.frame import Labels
from m3et_ros.data.kitchen.questions.frame_wordings import ANSWERS, PHRASINGS
from m3et_ros.data.kitchen.sim.vocabulary import (
    CLASS_COLOURS,
    CLASSES,
    COLOURS,
    NOUNS,
    PLACES,
    VERBS,
    plural,
    spoken,
    with_article,
)


def kitchen_labels() -> Labels:
    """Classes, colours, answers, verbs and nouns in the order of a model's outputs, with EPIC-KITCHENS-100 ids."""
    return Labels(
        classes=CLASSES,
        colors=CLASS_COLOURS,
        answers=ANSWERS,
        verbs=tuple(VERBS),
        nouns=tuple(NOUNS),
        verb_ids=tuple(VERBS.values()),
        noun_ids=tuple(NOUNS.values()),
    )


def corpus() -> list[str]:
    """Text with every word of questions, answers and narrations: each wording with every noun."""
    colours, nouns = tuple(COLOURS), tuple(NOUNS)
    lines = []
    for i, noun in enumerate(nouns):
        fields = {
            'a': spoken(noun),
            'b': spoken(nouns[i - 1]),
            'article': with_article(noun),
            'plural': plural(noun),
            'colour': colours[i % len(colours)],
            'place': PLACES[i % len(PLACES)],
        }
        lines += [wording.format(**fields) for wordings in PHRASINGS.values() for wording in wordings]
    joints = ['into', 'with']  # between the nouns of a narration
    return list(dict.fromkeys([*lines, *ANSWERS, *joints]))
