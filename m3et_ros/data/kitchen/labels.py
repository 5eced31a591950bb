"""Label sets and words of the kitchen for models and tokenizers. Needs no simulator.

From a seed to a question: beside the way; it reads sim/vocabulary.py and questions/frame_wordings.py.
"""

from m3et_ros.data.frame import Labels
from m3et_ros.data.kitchen.questions.frame_wordings import ANSWERS, KINDS, example_fields, phrasings
from m3et_ros.data.kitchen.questions.taught import kitchen_taught
from m3et_ros.data.kitchen.sim.vocabulary import CLASS_COLOURS, CLASSES, NOUNS, VERBS


def kitchen_labels() -> Labels:
    """Return classes, colours, answers, verbs and nouns in the order of a model's outputs, with EPIC ids."""
    return Labels(
        classes=CLASSES,
        colors=CLASS_COLOURS,
        answers=ANSWERS,
        verbs=tuple(VERBS),
        nouns=tuple(NOUNS),
        verb_ids=tuple(VERBS.values()),
        noun_ids=tuple(NOUNS.values()),
        taught=kitchen_taught(version=2),
    )


def corpus() -> list[str]:
    """Return texts with every word of questions, answers and narrations: each wording with every noun."""
    lines = [
        wording.format(**example_fields(index))
        for index in range(len(NOUNS))
        for kind in KINDS
        for wording in phrasings(kind, 2)
    ]
    joints = ['into', 'with']  # between the nouns of a narration
    return list(dict.fromkeys([*lines, *ANSWERS, *joints]))
