"""Questions about a frame whose facts come from teachers: the generator of the simulated kitchen, over other facts.

The families are those whose answers such facts decide. Teachers name only what they were trained on, so nothing is
asked about all objects together, such as 'What is nearest?' or 'How many red things are there?'.
"""

import copy
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np

from m3et_ros.data.kitchen.questions.frame import (
    ASK,
    EVERYWHERE,
    FURTHER,
    ONE_SIDED,
    Draft,
    VisibleInstance,
    VisibleScene,
)
from m3et_ros.data.kitchen.questions.frame_wordings import CLOSED, phrasings
from m3et_ros.data.kitchen.sim.vocabulary import NOUNS, plural, spoken
from m3et_ros.data.labelled.facts import ObjectFact
from m3et_ros.data.sample import QuestionAnswers

KEYS = {spoken(noun): noun for noun in NOUNS}
"""Word for a noun of the kitchen -> its key, which gives plurals and articles."""


def noun_key(name: str) -> str:
    """Return the key of a name: that of the kitchen's noun where it has one, else the name itself."""
    return KEYS.get(name, name)


@dataclass(frozen=True)
class AskedBy:
    """The rules by which the questions of a data set are asked."""

    # Names that the teachers know and the student is asked about; the others are neither present nor absent.
    nouns: tuple[str, ...]
    # Those of them that are counted: found as boxes. In a mask two cups side by side are one region.
    counted: tuple[str, ...]
    # Version of the generator whose wordings are used, 1 or 2.
    version: int


class LabelledScene(VisibleScene):
    """The facts of one frame, for the generator's families to ask about."""

    def __init__(self, facts: Sequence[ObjectFact], asked: AskedBy):
        nouns = [noun_key(name) for name in asked.nouns]
        things = [noun for noun in nouns if noun not in EVERYWHERE]
        self.state: Any = SimpleNamespace(
            places={str(fact.number): fact.place for fact in facts if fact.part == 'thing' and fact.place}
        )
        self._arrange(_instances(facts, 'thing'), _instances(facts, 'unsure'), nouns, things)

    def only(self, kept: Callable[[VisibleInstance], bool]) -> 'LabelledScene':
        """Return the scene with questions about some of the objects alone; all of them are counted."""
        scene = copy.copy(self)
        scene.single_objects = [one for one in self.single_objects if kept(one)]
        return scene


def _instances(facts: Sequence[ObjectFact], part: str) -> list[VisibleInstance]:
    return [
        VisibleInstance(str(fact.number), noun_key(fact.name), fact.colour, fact.across, fact.distance, fact.share)
        for fact in facts
        if fact.part == part
    ]


def labelled_drafts(scene: LabelledScene, asked: AskedBy) -> Iterator[tuple[str, Draft]]:
    """Yield every question about a frame with its family.

    Args:
        scene: the frame.
        asked: the rules.
    """
    about = {
        'existence': scene,
        'colour': scene.only(lambda one: bool(one.colour)),
        'location': scene.only(lambda one: one.name in scene.state.places),
        'distance': scene.only(lambda one: one.distance > 0),
        'region': scene,
        'relation': scene,
        'count': scene,
    }
    families = [(family, ASK[family], those) for family, those in about.items()]
    if asked.version == 2:
        families += [(family, FURTHER[family], scene) for family in ('count', 'absent')]
    counted = {plural(noun_key(name)) for name in asked.counted}
    for family, ask, those in families:
        for draft in ask(those):
            # A count of colours would leave out what no teacher names.
            if draft[0] != 'count_colour' and (draft[0] != 'count' or draft[2]['plural'] in counted):
                yield family, draft


def draw(
    drafts: Collection[tuple[str, Draft]], number: int, asked: AskedBy, rng: np.random.Generator
) -> list[QuestionAnswers]:
    """Draw questions about one frame: families evenly, then answers evenly, then questions, then wordings.

    Args:
        drafts: as from labelled_drafts.
        number: questions to draw, some of them possibly equal.
        asked: the rules.
        rng: generator of the sample.

    Returns:
        `number` questions; none where there are no drafts.
    """
    families: dict[str, dict[str, list[Draft]]] = {}
    for family, draft in drafts:
        families.setdefault(family, {}).setdefault(draft[1], []).append(draft)
    if not families:
        return []
    names = list(families)
    odds = np.array([ONE_SIDED if set(families[name]) in ({'yes'}, {'no'}) else 1.0 for name in names])
    found = []
    for family in rng.choice(len(names), size=number, p=odds / odds.sum()):
        answers = list(families[names[family]])
        answer = answers[rng.integers(len(answers))]
        pool = families[names[family]][answer]
        kind, _, values = pool[rng.integers(len(pool))]
        wordings = phrasings(kind, asked.version)
        text = wordings[rng.integers(len(wordings))].format(**values)
        found.append(QuestionAnswers(text, {answer: 1.0}, names[family], kind in CLOSED))
    return found
