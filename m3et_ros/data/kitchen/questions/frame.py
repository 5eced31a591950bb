"""Questions about one frame, answered from masks, depth, the state of the kitchen and the list of actions.

From a seed to a question: after questions/frame_wordings.py, before questions/balance.py (which questions a data set
draws) and questions/recorded_frames.py (which questions of a frame are stored).
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from m3et_ros.data.kitchen.questions.frame_wordings import (
    FARTHEST,
    MOST,
    NOT_IN_VIEW,
    REGIONS,
    SIDES,
    STEP,
    action,
    coloured,
    metres,
    phrasings,
    yes_or_no,
)
from m3et_ros.data.kitchen.sim.camera import Observation
from m3et_ros.data.kitchen.sim.episode import Episode
from m3et_ros.data.kitchen.sim.vocabulary import (
    AFFORDS,
    COLOURS,
    NOUNS,
    OBJECTS,
    PLACES,
    plural,
    spoken,
    spoken_verb,
    with_article,
)
from m3et_ros.data.kitchen.sim.world import OPEN, ActionLabel

LEAST_SHARE = 0.0006
"""Least share of the picture of an instance in view; nothing is asked about smaller ones."""

REACH = 0.85
"""Length of an arm in metres."""

ONE_SIDED = 0.15
"""Odds of a family whose answers are all yes or all no, relative to the others (most of a kitchen is shut)."""

EVERYWHERE = ('wall', 'ceiling', 'floor', 'clothes')
"""Nouns that no question is about."""

SURFACES = {'on the counter': 'top', 'on the hob': 'hob', 'on the table': 'table'}
"""Place -> noun of its surface."""

SURFACE_SHARE = 0.03
"""Share of the picture above which a surface is enough in view to say that nothing is on it."""

CLEAR = 0.03
"""Least distance of an object from the border of a third of the picture, as a share of its width."""

Draft = tuple[str, str, dict[str, str]]
"""Kind of question, answer, and the fields of its wording."""


@dataclass(frozen=True)
class Question:
    """One question and its answer."""

    # One of FAMILIES.
    family: str
    text: str
    # One of frame_wordings.ANSWERS.
    answer: str


@dataclass(frozen=True)
class VisibleInstance:
    """Measurements of one instance in view."""

    name: str
    noun: str
    # Colour word, or '' where several colours meet.
    colour: str
    # Mean position across the picture, 0 left to 1 right.
    across: float
    # Mean distance from the camera in metres.
    distance: float
    # Share of the picture.
    share: float


class VisibleScene:
    """The instances in view of one frame, for the families to ask about.

    Args:
        episode: what is observed.
        observation: one frame of it.

    Attributes:
        state: state of the world.
        instances: the instances in view.
        slivers: the instances that are visible, but smaller than LEAST_SHARE.
        unclear: nouns that are neither counted nor called absent: those of a barely visible instance, and EVERYWHERE.
        counts: noun -> number in view, without the unclear nouns.
        things: nouns that are counted and located; in a kitchen OBJECTS.
        objects: the instances of these nouns.
        single: instances that are the only one of their noun.
        single_objects: instances that are both in `single` and in `objects`.
        absent: nouns of things without a pixel in the frame.
    """

    def __init__(self, episode: Episode, observation: Observation):
        self.episode, self.state = episode, observation.state
        self._arrange(*measure_instances(episode, observation), tuple(NOUNS), tuple(OBJECTS))

    def _arrange(
        self,
        instances: list[VisibleInstance],
        slivers: list[VisibleInstance],
        nouns: Sequence[str],
        things: Sequence[str],
    ) -> None:
        self.instances, self.slivers, self.things = instances, slivers, tuple(things)
        counts = Counter(one.noun for one in instances)
        self.unclear = {one.noun for one in slivers} | set(EVERYWHERE)
        self.counts = {noun: counts[noun] for noun in nouns if noun not in self.unclear}
        self.objects = [one for one in instances if one.noun in self.things]
        self.single = [one for one in instances if self.counts.get(one.noun) == 1]
        self.single_objects = [one for one in self.single if one.noun in self.things]
        self.absent = [noun for noun in self.things if self.counts.get(noun) == 0]

    @property
    def next_action(self) -> ActionLabel | None:
        """The action that starts next, or None; known once the episode has advanced past it."""
        return next((label for label in self.episode.labels if label.start_s > self.state.stamp_s), None)


def measure_instances(
    episode: Episode, observation: Observation
) -> tuple[list[VisibleInstance], list[VisibleInstance]]:
    """Return the instances in view, and those that are visible but smaller than LEAST_SHARE."""
    height, width = observation.depth.shape
    u, v = np.arange(width), np.arange(height)
    x, y = (u - observation.K[0, 2]) / observation.K[0, 0], (v - observation.K[1, 2]) / observation.K[1, 1]
    distance = np.nan_to_num(observation.depth) * np.sqrt(1 + x**2 + y[:, None] ** 2)
    ids, size = observation.instance.ravel(), len(episode.instances) + 1
    pixels = np.bincount(ids, minlength=size)
    across = np.bincount(ids, np.broadcast_to(u, (height, width)).ravel(), size)
    away = np.bincount(ids, distance.ravel(), size)
    visible: list[VisibleInstance] = []
    slivers: list[VisibleInstance] = []
    for i, (name, instance) in enumerate(episode.instances.items(), start=1):
        if pixels[i]:
            centre, share = (across[i] / pixels[i] + 0.5) / width, pixels[i] / (height * width)
            one = VisibleInstance(name, instance.noun, instance.colour or '', centre, away[i] / pixels[i], share)
            (visible if pixels[i] >= LEAST_SHARE * height * width else slivers).append(one)
    return visible, slivers


def _existence(scene: VisibleScene) -> Iterator[Draft]:
    for noun, count in scene.counts.items():
        yield 'existence', yes_or_no(count > 0), {'article': with_article(noun)}


def _count(scene: VisibleScene) -> Iterator[Draft]:
    for noun in scene.things:
        if 0 < scene.counts.get(noun, 0) <= MOST:
            yield 'count', str(scene.counts[noun]), {'plural': plural(noun)}
    if not scene.unclear & set(scene.things):
        colours = Counter(one.colour for one in scene.objects)
        for colour in COLOURS:
            if colours[colour] <= MOST:
                yield 'count_colour', str(colours[colour]), {'colour': colour}


def _colour(scene: VisibleScene) -> Iterator[Draft]:
    for one in scene.single_objects:
        yield 'colour', one.colour, {'a': spoken(one.noun)}
        for colour in COLOURS:
            yield 'is_colour', yes_or_no(colour == one.colour), {'a': spoken(one.noun), 'colour': colour}


def _location(scene: VisibleScene) -> Iterator[Draft]:
    for one in scene.single_objects:
        here = scene.state.places[one.name]
        yield 'location', here, {'a': spoken(one.noun)}
        for place in PLACES:
            yield 'is_located', yes_or_no(place == here), {'a': spoken(one.noun), 'place': place}


def _distance(scene: VisibleScene) -> Iterator[Draft]:
    for one in scene.single_objects:
        steps = round(one.distance / STEP)
        if abs(one.distance / STEP - steps) < 0.4 and 1 <= steps <= FARTHEST / STEP:
            yield 'distance', metres(steps), {'a': spoken(one.noun)}
        if abs(one.distance - REACH) > 0.1:
            yield 'in_reach', yes_or_no(one.distance < REACH), {'a': spoken(one.noun)}
        for other in scene.single_objects:
            if abs(one.distance - other.distance) > 0.15:
                nearer = min(one, other, key=lambda instance: instance.distance)
                yield 'closer', spoken(nearer.noun), {'a': spoken(one.noun), 'b': spoken(other.noun)}


def _region(scene: VisibleScene) -> Iterator[Draft]:
    for one in scene.single_objects:
        if min(abs(one.across - border) for border in (1 / 3, 2 / 3)) > CLEAR:
            yield 'region', REGIONS[int(3 * one.across)], {'a': spoken(one.noun)}


def _relation(scene: VisibleScene) -> Iterator[Draft]:
    for one in scene.single_objects:
        for other in scene.single:
            if abs(one.across - other.across) > 0.06:
                fields = {'a': spoken(one.noun), 'b': spoken(other.noun)}
                yield 'left_of', yes_or_no(one.across < other.across), fields
                yield 'right_of', yes_or_no(one.across > other.across), fields


def _nearest(scene: VisibleScene) -> Iterator[Draft]:
    if not scene.objects:
        return
    nearest, *others = sorted(scene.objects, key=lambda one: one.distance)
    if all(one.distance - nearest.distance > 0.05 for one in others):
        yield 'nearest', coloured(nearest.colour, nearest.noun), {}
        for one in scene.single_objects:
            yield 'is_nearest', yes_or_no(one is nearest), {'a': spoken(one.noun)}


def _state(scene: VisibleScene) -> Iterator[Draft]:
    doors = defaultdict(list)
    for one in scene.instances:
        if one.name in scene.episode.scene.containers:
            doors[one.noun].append(scene.state.openness[one.name] > OPEN)
    for noun, are_open in doors.items():
        if noun == 'tap':
            yield 'is_on', yes_or_no(any(are_open)), {}
        else:
            yield 'is_open', yes_or_no(any(are_open)), {'a': spoken(noun), 'article': with_article(noun)}
    for one in scene.single_objects:
        if one.name in scene.state.fill:
            yield 'is_filled', yes_or_no(scene.state.fill[one.name] > 0), {'a': spoken(one.noun)}


def _hand(scene: VisibleScene) -> Iterator[Draft]:
    held = scene.state.held
    if any(one.noun == 'hand' for one in scene.instances):
        yield 'holding', yes_or_no(held is not None), {}
        yield 'empty_handed', yes_or_no(held is None), {}
        yield 'held', spoken(scene.episode.instances[held].noun) if held else 'nothing', {}


def _action(kind: str, label: ActionLabel | None) -> Iterator[Draft]:
    if label:
        yield kind, action(label.verb, label.noun), {}
        yield f'{kind}_verb', spoken_verb(label.verb), {}
        yield f'{kind}_noun', spoken(label.noun), {}


def _action_now(scene: VisibleScene) -> Iterator[Draft]:
    return _action('now', scene.state.current)


def _action_done(scene: VisibleScene) -> Iterator[Draft]:
    done = scene.state.finished
    if len(done) <= MOST:
        yield 'how_many_done', str(len(done)), {}
    for kind, position in (('last', -1), ('before_last', -2), ('first', 0)):
        if len(done) >= max(1, abs(position)):
            yield kind, action(done[position].verb, done[position].noun), {}
    used = {label.noun for label in done}
    for noun in used | {one.noun for one in scene.single_objects}:
        yield 'used', yes_or_no(noun in used), {'a': spoken(noun)}


def _action_next(scene: VisibleScene) -> Iterator[Draft]:
    return _action('next', scene.next_action)


def _count_none(scene: VisibleScene) -> Iterator[Draft]:
    for noun in scene.absent:
        yield 'count', '0', {'plural': plural(noun)}


def _alone(scene: VisibleScene) -> Iterator[tuple[str, VisibleInstance]]:
    """Yield (third in words, object) of each third of the picture with one object, clear of the thirds beside it.

    A barely visible object counts as one too, but is not asked about.
    """
    slivers = [one for one in scene.slivers if one.noun in scene.things]
    for i, region in enumerate(REGIONS):
        low, high = i / 3, (i + 1) / 3
        near = [one for one in [*scene.objects, *slivers] if low - CLEAR < one.across < high + CLEAR]
        if len(near) == 1 and near[0] not in slivers:
            (one,) = near
            if (i == 0 or one.across > low + CLEAR) and (i == 2 or one.across < high - CLEAR):
                yield SIDES[region], one


def _colour_at(scene: VisibleScene) -> Iterator[Draft]:
    """Ask for colours without a noun, so that only the picture gives them."""
    for side, one in _alone(scene):
        yield 'colour_at', one.colour, {'side': side}
    for one in scene.objects:
        if one.name == scene.state.held:
            yield 'colour_held', one.colour, {}


def _thing_at(scene: VisibleScene) -> Iterator[Draft]:
    for side, one in _alone(scene):
        yield 'thing_at', spoken(one.noun), {'side': side}


def _what_at(scene: VisibleScene) -> Iterator[Draft]:
    """Ask for the only object in view on a surface, or for a surface without any."""
    places = scene.state.places
    for place, surface in SURFACES.items():
        here = [one for one in scene.objects if places[one.name] == place]
        if any(places.get(one.name) == place for one in scene.slivers):
            continue
        if len(here) == 1:
            yield 'what_at', spoken(here[0].noun), {'place': place}
        elif not here and sum(one.share for one in scene.instances if one.noun == surface) > SURFACE_SHARE:
            yield 'what_at', 'nothing', {'place': place}


def _absent(scene: VisibleScene) -> Iterator[Draft]:
    """Ask about objects without a pixel in the frame, in the wordings of those in view.

    Pairs are one object out of view with one in view, in both orders, and two out of view. Of the latter there would be
    hundreds, so only neighbours in the list of nouns are paired.
    """
    for noun in scene.absent:
        fields = {'a': spoken(noun)}
        for kind in ('colour', 'location', 'distance', 'in_reach', 'region'):
            yield kind, NOT_IN_VIEW, fields
        if noun in AFFORDS['mix']:
            yield 'is_filled', NOT_IN_VIEW, fields
        yield from (('is_colour', NOT_IN_VIEW, fields | {'colour': colour}) for colour in COLOURS)
        yield from (('is_located', NOT_IN_VIEW, fields | {'place': place}) for place in PLACES)
    both = [(a, b) for pair in pairwise(scene.absent) for a, b in (pair, pair[::-1])]
    objects, single = ([one.noun for one in group] for group in (scene.single_objects, scene.single))
    for kinds, others in ((('closer',), objects), (('left_of', 'right_of'), single)):
        one = [(a, b) for a in scene.absent for b in others] + [(a, b) for a in objects for b in scene.absent]
        for kind in kinds:
            yield from ((kind, NOT_IN_VIEW, {'a': spoken(a), 'b': spoken(b)}) for a, b in one + both)


ASK: dict[str, Callable[[VisibleScene], Iterator[Draft]]] = {
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
"""Family -> the generator of all its questions about a frame, of every version."""

FURTHER: dict[str, Callable[[VisibleScene], Iterator[Draft]]] = {
    'count': _count_none,
    'colour': _colour_at,
    'location': _what_at,
    'region': _thing_at,
    'absent': _absent,
}
"""Family -> the generator of the questions that version 2 adds."""

FAMILIES = tuple({**ASK, **FURTHER})
"""Names of the families; version 1 lacks 'absent'."""


def drafts(scene: VisibleScene) -> Iterator[tuple[str, Draft]]:
    """Yield every question about a frame with its family, family by family.

    Args:
        scene: the frame; the version of its episode decides what is asked.
    """
    sources = (ASK,) if scene.episode.version == 1 else (ASK, FURTHER)
    for family in FAMILIES:
        for source in sources:
            if family in source:
                yield from ((family, draft) for draft in source[family](scene))


def all_questions(episode: Episode, observation: Observation) -> list[Question]:
    """Return every question about a frame in its first wording, family by family.

    The next action is known only after the episode has advanced past it: keep the observations, and ask at the end.

    Args:
        episode: what is observed.
        observation: one frame of it.
    """
    scene = VisibleScene(episode, observation)
    return [
        Question(family, phrasings(kind, episode.version)[0].format(**fields), answer)
        for family, (kind, answer, fields) in drafts(scene)
    ]


def sample_questions(episode: Episode, observation: Observation, rng: np.random.Generator, n: int) -> list[Question]:
    """Draw n questions about a frame: families evenly, then answers evenly, then questions.

    Because answers are drawn evenly, a guesser gains nothing from saying yes. The docstring of all_questions explains
    when the next action is known.

    Args:
        episode: what is observed.
        observation: one frame of it.
        rng: random generator of the draws.
        n: number of questions.

    Returns:
        n questions, some of them possibly equal; none if the frame allows none.
    """
    scene = VisibleScene(episode, observation)
    families: dict[str, dict[str, list[tuple[str, dict[str, str]]]]] = {}
    for family, (kind, answer, fields) in drafts(scene):
        families.setdefault(family, {}).setdefault(answer, []).append((kind, fields))
    names = list(families)
    if not names:
        return []
    odds = np.array([ONE_SIDED if set(families[name]) in ({'yes'}, {'no'}) else 1.0 for name in names])
    questions = []
    for family in (names[i] for i in rng.choice(len(names), size=n, p=odds / odds.sum())):
        answers = list(families[family])
        answer = answers[rng.integers(len(answers))]
        pool = families[family][answer]
        kind, fields = pool[rng.integers(len(pool))]
        wordings = phrasings(kind, episode.version)
        questions.append(Question(family, wordings[rng.integers(len(wordings))].format(**fields), answer))
    return questions
