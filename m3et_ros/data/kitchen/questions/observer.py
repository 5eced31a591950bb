"""What somebody who watched an episode to its end knows: what was in view, where it was last, what has been done."""

from collections import Counter
from dataclasses import dataclass

import numpy as np

from m3et_ros.data.kitchen.questions.frame import EVERYWHERE
from m3et_ros.data.kitchen.sim.camera import Observation
from m3et_ros.data.kitchen.sim.episode import Episode
from m3et_ros.data.kitchen.sim.vocabulary import NOUNS, OBJECTS
from m3et_ros.data.kitchen.sim.world import OPEN, ActionLabel, State

SURE_SHARE = 0.002
"""Share of the picture from which on a thing is seen well: 25 pixels of 112 x 112."""

SURE_FRAMES = 3
"""A thing that is seen well this often was there for everybody to see."""

GONE_S = 1.0
"""Without a single pixel for so long, a thing is no longer in view."""


@dataclass
class ObservedInstance:
    """What has been seen of one instance."""

    name: str
    noun: str
    colour: str | None
    # Frames in which it was seen well.
    frames: int = 0
    # Seconds at which any pixel of it, and at which it was seen well, for the last time; -1 for never.
    glimpsed_s: float = -1.0
    seen_s: float = -1.0
    # Where it was, whether it was open and whether it was filled when it was last seen well; None where that has no
    # meaning.
    place: str | None = None
    was_open: bool | None = None
    was_filled: bool | None = None


class Witness:
    """Watches an episode frame by frame.

    Attributes:
        state: of the newest frame, or None.
    """

    def __init__(self, episode: Episode):
        self.episode = episode
        self.state: State | None = None
        self._sights = {
            name: ObservedInstance(name, instance.noun, instance.colour) for name, instance in episode.instances.items()
        }

    def look(self, observation: Observation) -> None:
        """Take in the next frame."""
        self.state = state = observation.state
        pixels = np.bincount(observation.instance.ravel(), minlength=len(self._sights) + 1)[1:]
        least = SURE_SHARE * observation.instance.size
        for sight, count in zip(self._sights.values(), pixels):
            if count:
                sight.glimpsed_s = state.stamp_s
            if count >= least:
                sight.frames += 1
                sight.seen_s, sight.place = state.stamp_s, state.places.get(sight.name)
                sight.was_open = state.openness[sight.name] > OPEN if sight.name in state.openness else None
                sight.was_filled = state.fill[sight.name] > 0 if sight.name in state.fill else None

    def account(self) -> 'Account':
        """What is known after the newest frame.

        Raises:
            ValueError: nothing has been looked at.
        """
        if self.state is None:
            raise ValueError('nothing has been looked at; call look first')
        return Account(self.episode, self.state, list(self._sights.values()))


class Account:
    """What can be told at the end.

    Attributes:
        seen: instances seen well.
        counts: noun to how many of it were seen; only nouns of which nothing was barely seen, so that all are known.
        single: noun key to the one thing of it, for things that can be picked up.
        lost: those of `single` that are no longer in view and are where they were last seen.
        done: the finished actions, in order.
    """

    def __init__(self, episode: Episode, state: State, sights: list[ObservedInstance]):
        self.episode, self.state = episode, state
        self.seen = [sight for sight in sights if sight.frames >= SURE_FRAMES]
        unclear = {sight.noun for sight in sights if sight.glimpsed_s >= 0 and sight.frames < SURE_FRAMES}
        counts = Counter(sight.noun for sight in self.seen)
        self.counts = {noun: counts[noun] for noun in NOUNS if noun not in unclear and noun not in EVERYWHERE}
        self._in_view = {
            sight.noun for sight in sights if state.stamp_s - sight.glimpsed_s < GONE_S and sight.glimpsed_s >= 0
        }
        self.single = {
            sight.noun: sight for sight in self.seen if sight.noun in OBJECTS and self.counts.get(sight.noun) == 1
        }
        self.lost = {
            noun: sight
            for noun, sight in self.single.items()
            if self.gone(noun) and sight.place == state.places[sight.name]
        }
        self.done: tuple[ActionLabel, ...] = state.finished

    def gone(self, noun: str) -> bool:
        """Whether nothing of a noun is in view any longer."""
        return noun not in self._in_view

    def where(self, noun: str) -> np.ndarray:
        """Where the one thing of a noun is, (3,) metres in the room."""
        return self.episode.world.where(self.single[noun].name)
