"""Questions about an observation, answered from masks, depth, the state of the kitchen and the list of actions."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from m3et_ros.data.kitchen.questions.frame_wordings import (
    FARTHEST,
    MOST,
    PHRASINGS,
    REGIONS,
    STEP,
    action,
    coloured,
    metres,
)
from m3et_ros.data.kitchen.sim.camera import Observation
from m3et_ros.data.kitchen.sim.episode import Episode
from m3et_ros.data.kitchen.sim.vocabulary import COLOURS, NOUNS, OBJECTS, PLACES, plural, spoken, with_article
from m3et_ros.data.kitchen.sim.world import OPEN

LEAST_SHARE = 0.0006
"""Share of the picture from which on a thing counts as in view; nothing is asked about what is smaller."""

REACH = 0.85
"""Length of an arm in metres."""

ONE_SIDED = 0.15
"""How often a family is asked where all its answers are the same yes or no (a kitchen is mostly shut)."""

EVERYWHERE = ('wall', 'ceiling', 'floor', 'clothes')
"""Nouns nobody asks about."""

Draft = tuple[str, str, dict[str, str]]
"""Kind of question, answer, and the fields of its wording."""


@dataclass(frozen=True)
class Question:
    """One question and its answer."""

    # One of FAMILIES.
    family: str
    text: str
    # One of templates.ANSWERS.
    answer: str


@dataclass(frozen=True)
class VisibleInstance:
    """What a mask says about one instance."""

    name: str
    noun: str
    colour: str | None
    # Mean position across the picture, 0 left to 1 right.
    across: float
    # Mean distance from the camera in metres.
    distance: float


class Scenery:
    """What is in view, for the families to ask about."""

    def __init__(self, episode: Episode, observation: Observation):
        self.episode, self.state = episode, observation.state
        self.seen, slivers = _statistics(episode, observation)
        counts = Counter(seen.noun for seen in self.seen)
        # A noun with a barely visible instance is not counted, nor said to be absent.
        self.unclear = set(slivers) | set(EVERYWHERE)
        self.counts = {noun: counts[noun] for noun in NOUNS if noun not in self.unclear}
        self.things = [seen for seen in self.seen if seen.noun in OBJECTS]
        self.single = [seen for seen in self.seen if self.counts.get(seen.noun) == 1]
        self.single_things = [seen for seen in self.single if seen.noun in OBJECTS]


def _statistics(episode: Episode, observation: Observation) -> tuple[list[VisibleInstance], list[str]]:
    """The instances in view, and the nouns of those that are too small to speak of."""
    height, width = observation.depth.shape
    u, v = np.arange(width), np.arange(height)
    x, y = (u - observation.K[0, 2]) / observation.K[0, 0], (v - observation.K[1, 2]) / observation.K[1, 1]
    distance = np.nan_to_num(observation.depth) * np.sqrt(1 + x**2 + y[:, None] ** 2)
    ids, size = observation.instance.ravel(), len(episode.instances) + 1
    pixels = np.bincount(ids, minlength=size)
    across = np.bincount(ids, np.broadcast_to(u, (height, width)).ravel(), size)
    away = np.bincount(ids, distance.ravel(), size)
    seen, slivers = [], []
    for i, (name, instance) in enumerate(episode.instances.items(), start=1):
        if pixels[i] >= LEAST_SHARE * height * width:
            seen.append(
                VisibleInstance(
                    name, instance.noun, instance.colour, (across[i] / pixels[i] + 0.5) / width, away[i] / pixels[i]
                )
            )
        elif pixels[i]:
            slivers.append(instance.noun)
    return seen, slivers


def _yes(fact: bool) -> str:
    return 'yes' if fact else 'no'


def _existence(scenery: Scenery) -> Iterator[Draft]:
    for noun, count in scenery.counts.items():
        yield 'existence', _yes(count > 0), {'article': with_article(noun)}


def _count(scenery: Scenery) -> Iterator[Draft]:
    for noun in OBJECTS:
        if 0 < scenery.counts.get(noun, 0) <= MOST:
            yield 'count', str(scenery.counts[noun]), {'plural': plural(noun)}
    if not scenery.unclear & set(OBJECTS):
        colours = Counter(seen.colour for seen in scenery.things)
        for colour in COLOURS:
            if colours[colour] <= MOST:
                yield 'count_colour', str(colours[colour]), {'colour': colour}


def _colour(scenery: Scenery) -> Iterator[Draft]:
    for seen in scenery.single_things:
        yield 'colour', seen.colour, {'a': spoken(seen.noun)}
        for colour in COLOURS:
            yield 'is_colour', _yes(colour == seen.colour), {'a': spoken(seen.noun), 'colour': colour}


def _location(scenery: Scenery) -> Iterator[Draft]:
    for seen in scenery.single_things:
        here = scenery.state.places[seen.name]
        yield 'location', here, {'a': spoken(seen.noun)}
        for place in PLACES:
            yield 'is_located', _yes(place == here), {'a': spoken(seen.noun), 'place': place}


def _distance(scenery: Scenery) -> Iterator[Draft]:
    for seen in scenery.single_things:
        steps = round(seen.distance / STEP)
        if abs(seen.distance / STEP - steps) < 0.4 and 1 <= steps <= FARTHEST / STEP:
            yield 'distance', metres(steps), {'a': spoken(seen.noun)}
        if abs(seen.distance - REACH) > 0.1:
            yield 'in_reach', _yes(seen.distance < REACH), {'a': spoken(seen.noun)}
        for other in scenery.single_things:
            if abs(seen.distance - other.distance) > 0.15:
                nearer = min(seen, other, key=lambda s: s.distance)
                yield 'closer', spoken(nearer.noun), {'a': spoken(seen.noun), 'b': spoken(other.noun)}


def _region(scenery: Scenery) -> Iterator[Draft]:
    for seen in scenery.single_things:
        if min(abs(seen.across - border) for border in (1 / 3, 2 / 3)) > 0.03:
            yield 'region', REGIONS[int(3 * seen.across)], {'a': spoken(seen.noun)}


def _relation(scenery: Scenery) -> Iterator[Draft]:
    for seen in scenery.single_things:
        for other in scenery.single:
            if abs(seen.across - other.across) > 0.06:
                fields = {'a': spoken(seen.noun), 'b': spoken(other.noun)}
                yield 'left_of', _yes(seen.across < other.across), fields
                yield 'right_of', _yes(seen.across > other.across), fields


def _nearest(scenery: Scenery) -> Iterator[Draft]:
    nearest, *others = sorted(scenery.things, key=lambda seen: seen.distance) or [None]
    if nearest and all(seen.distance - nearest.distance > 0.05 for seen in others):
        yield 'nearest', coloured(nearest.colour, nearest.noun), {}
        for seen in scenery.single_things:
            yield 'is_nearest', _yes(seen is nearest), {'a': spoken(seen.noun)}


def _state(scenery: Scenery) -> Iterator[Draft]:
    doors = defaultdict(list)
    for seen in scenery.seen:
        if seen.name in scenery.episode.scene.containers:
            doors[seen.noun].append(scenery.state.openness[seen.name] > OPEN)
    for noun, are_open in doors.items():
        if noun == 'tap':
            yield 'is_on', _yes(any(are_open)), {}
        else:
            yield 'is_open', _yes(any(are_open)), {'a': spoken(noun), 'article': with_article(noun)}
    for seen in scenery.single_things:
        if seen.name in scenery.state.fill:
            yield 'is_filled', _yes(scenery.state.fill[seen.name] > 0), {'a': spoken(seen.noun)}


def _hand(scenery: Scenery) -> Iterator[Draft]:
    held = scenery.state.held
    if any(seen.noun == 'hand' for seen in scenery.seen):
        yield 'holding', _yes(held is not None), {}
        yield 'empty_handed', _yes(held is None), {}
        yield 'held', spoken(scenery.episode.instances[held].noun) if held else 'nothing', {}


def _action(kind: str, label) -> Iterator[Draft]:
    yield kind, action(label.verb, label.noun), {}
    yield f'{kind}_verb', label.verb.replace('-', ' '), {}
    yield f'{kind}_noun', spoken(label.noun), {}


def _action_now(scenery: Scenery) -> Iterator[Draft]:
    if scenery.state.current:
        yield from _action('now', scenery.state.current)


def _action_done(scenery: Scenery) -> Iterator[Draft]:
    done = scenery.state.finished
    if len(done) <= MOST:
        yield 'how_many_done', str(len(done)), {}
    for kind, position in (('last', -1), ('before_last', -2), ('first', 0)):
        if len(done) >= abs(position) and done:
            yield kind, action(done[position].verb, done[position].noun), {}
    used = {label.noun for label in done}
    for noun in used | {seen.noun for seen in scenery.single_things}:
        yield 'used', _yes(noun in used), {'a': spoken(noun)}


def _action_next(scenery: Scenery) -> Iterator[Draft]:
    later = (label for label in scenery.episode.labels if label.start_s > scenery.state.stamp_s)
    label = next(later, None)
    if label:
        yield from _action('next', label)


ASK = {
    'existence': _existence,
    'count': _count,
    'colour': _colour,
    'location': _location,
    'distance': _distance,
    'region': _region,
    'relation': _relation,
    'nearest': _nearest,
    'state': _state,
    'hand': _hand,
    'action_now': _action_now,
    'action_done': _action_done,
    'action_next': _action_next,
}
"""Family -> everything it can ask about a scenery."""

FAMILIES = tuple(ASK)
"""Names of the families."""


def all_questions(episode: Episode, observation: Observation) -> list[Question]:
    """Every question in its first wording, family by family.

    What comes next is asked only once the episode has gone on past it: keep observations, and ask when it is over.
    """
    scenery = Scenery(episode, observation)
    return [
        Question(family, PHRASINGS[kind][0].format(**fields), answer)
        for family, ask in ASK.items()
        for kind, answer, fields in ask(scenery)
    ]


def sample_questions(episode: Episode, observation: Observation, rng: np.random.Generator, n: int) -> list[Question]:
    """Draw n questions (none if nothing can be asked): families evenly, then answers evenly, then questions.

    Evenly drawn answers leave nothing to gain from guessing yes. See all_questions about what comes next.
    """
    scenery = Scenery(episode, observation)
    families = {family: _by_answer(ask(scenery)) for family, ask in ASK.items()}
    names = [family for family, by_answer in families.items() if by_answer]
    odds = np.array([ONE_SIDED if set(families[name]) in ({'yes'}, {'no'}) else 1.0 for name in names])
    if not names:
        return []
    drawn = rng.choice(len(names), size=n, p=odds / odds.sum())
    return [_draw(names[i], families[names[i]], rng) for i in drawn]


def _by_answer(drafts: Iterator[Draft]) -> dict[str, list[tuple[str, dict[str, str]]]]:
    """Drafts sorted by what they are answered with."""
    sorted_out = defaultdict(list)
    for kind, answer, fields in drafts:
        sorted_out[answer].append((kind, fields))
    return dict(sorted_out)


def _draw(family: str, by_answer: dict[str, list], rng: np.random.Generator) -> Question:
    """One question of a family."""
    answers = list(by_answer)
    answer = answers[rng.integers(len(answers))]
    kind, fields = by_answer[answer][rng.integers(len(by_answer[answer]))]
    wordings = PHRASINGS[kind]
    return Question(family, wordings[rng.integers(len(wordings))].format(**fields), answer)
