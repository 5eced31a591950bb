"""The seeds of training, validation and test, and the combinations that are held out from training.

Training skips a kitchen with a held-out colour of an object or a held-out texture: objects move in and out of view, so
no frame of it is safe. More than half of the seeds are skipped, at little cost, because a kitchen is known before it is
rendered. An episode with a held-out action is cut before that action becomes the next one. The remaining frames would
still allow "Is the bowl red?" with the answer no; such questions are left out too.

From a seed to a question: after questions/balance.py, before questions/recorded_frames.py.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from m3et_ros.data.kitchen.questions.frame_wordings import action, coloured
from m3et_ros.data.kitchen.sim.parts import Scene
from m3et_ros.data.kitchen.sim.vocabulary import spoken
from m3et_ros.data.kitchen.sim.world import ActionLabel

GENERATOR_VERSION = 2
"""Raised whenever a seed gives another kitchen, episode, picture or question; part of every cache's name."""

READ_VERSIONS = (1, 2)
"""Versions of the caches that can be read."""

SEEDS = {'train': range(10_000), 'validation': range(10_000, 10_500), 'test': range(20_000, 2**31)}
"""Seeds of each split; other seeds belong to none."""


@dataclass(frozen=True)
class HeldOut:
    """Combinations that training neither shows nor asks about."""

    # Colour word and noun key of an object.
    colour_nouns: tuple[tuple[str, str], ...]
    # Material, pattern and colour word of a surface.
    textures: tuple[tuple[str, str, str], ...]
    # Verb and noun key of an action.
    verb_nouns: tuple[tuple[str, str], ...]


HELD_OUT = HeldOut(
    colour_nouns=(('red', 'bowl'), ('blue', 'plate'), ('green', 'bottle'), ('yellow', 'jar'), ('black', 'kettle')),
    textures=(('wall', 'tiles', 'green'), ('front', 'wood', 'blue')),
    verb_nouns=(('cut', 'carrot'), ('pour', 'milk'), ('wash', 'cup'), ('shake', 'bottle'), ('throw', 'can')),
)
"""Each part of a combination is common in training; only the combination is new."""

ANSWERS_OF = {f'{colour} {spoken(noun)}' for colour, noun in HELD_OUT.colour_nouns} | {
    action(verb, noun) for verb, noun in HELD_OUT.verb_nouns
}
"""Answers that name a held-out combination."""


def split_of(seed: int) -> str | None:
    """Return 'train', 'validation', 'test', or None for a seed that belongs to none."""
    return next((name for name, seeds in SEEDS.items() if seed in seeds), None)


def held_out_appearances(scene: Scene) -> tuple[str, ...]:
    """Return the held-out colours of objects and textures of a kitchen, in words; none if training may use it."""
    pairs = {(instance.colour, instance.noun) for instance in scene.instances.values()}
    return (
        *(coloured(*pair) for pair in HELD_OUT.colour_nouns if pair in pairs),
        *(
            f'{colour} {pattern} {material}'
            for material, pattern, colour in HELD_OUT.textures
            if scene.paints[material] == (pattern, colour)
        ),
    )


def is_held_out(label: ActionLabel) -> bool:
    """Return whether an action is held out from training."""
    return (label.verb, label.noun) in HELD_OUT.verb_nouns


def last_safe_stamp(labels: Sequence[ActionLabel]) -> float:
    """Return the time in seconds before which no past, present or next action of an episode is held out.

    The time itself is excluded. It is inf if no action is held out, and -inf if the first one is.
    """
    start = float('-inf')  # start of the action before: from then on the held-out one is the next
    for label in labels:
        if is_held_out(label):
            return start
        start = label.start_s
    return float('inf')


def concerns_held_out(fields: Mapping[str, str], answer: str) -> bool:
    """Return whether a question with its answer mentions a held-out combination, even to deny it.

    Args:
        fields: fields of the wording, as in frame.Draft.
        answer: in words.
    """
    words = {answer, fields.get('colour', '')}
    return answer in ANSWERS_OF or any(
        colour in words and fields.get('a') == spoken(noun) for colour, noun in HELD_OUT.colour_nouns
    )
