"""The knowledge of an ideal observer of an episode: the objects, their last places, and the actions.

From a seed to a question: after sim/camera.py, before questions/episode_wordings.py. (Questions about single frames
are in questions/frame.py.)
"""

from collections import Counter
from dataclasses import dataclass

import numpy as np

from m3et_ros.data.kitchen.questions.frame import EVERYWHERE
from m3et_ros.data.kitchen.sim.camera import Observation
from m3et_ros.data.kitchen.sim.episode import Episode
from m3et_ros.data.kitchen.sim.vocabulary import NOUNS, OBJECTS
from m3et_ros.data.kitchen.sim.world import OPEN, ActionLabel, WorldState

CLEAR_SHARE = 0.002
"""Least share of the picture of a clearly visible instance: 25 pixels of 112 x 112."""

CLEAR_FRAMES = 3
"""Least number of frames in which an instance is clearly visible, for questions about it."""

GONE_S = 1.0
"""Seconds without a single pixel after which an instance is out of view."""


@dataclass
class ObservedInstance:
    """The observations of one instance."""

    name: str
    noun: str
    # Colour word, or '' where several colours meet.
    colour: str
    # Number of frames in which it was clearly visible.
    frames: int = 0
    # Seconds of the last frame with any pixel of it; -1 for none.
    last_visible_s: float = -1.0
    # Place in words in the last frame in which it was clearly visible; '' if it has none.
    place: str = ''
    # Open and filled in that frame; None if it cannot be opened or filled.
    was_open: bool | None = None
    was_filled: bool | None = None


class KitchenObserver:
    """Observe an episode frame by frame.

    Args:
        episode: episode to observe from its first frame on.

    Attributes:
        state: state of the newest frame, or None.
    """

    def __init__(self, episode: Episode):
        self.episode = episode
        self.state: WorldState | None = None
        self._instances = [
            ObservedInstance(name, instance.noun, instance.colour or '') for name, instance in episode.instances.items()
        ]

    def observe(self, observation: Observation) -> None:
        """Update the knowledge with the next frame."""
        self.state = state = observation.state
        pixels = np.bincount(observation.instance.ravel(), minlength=len(self._instances) + 1)[1:]
        least = CLEAR_SHARE * observation.instance.size
        for one, count in zip(self._instances, pixels, strict=True):
            if count:
                one.last_visible_s = state.stamp_s
            if count >= least:
                one.frames += 1
                one.place = state.places.get(one.name, '')
                one.was_open = state.openness[one.name] > OPEN if one.name in state.openness else None
                one.was_filled = state.fill[one.name] > 0 if one.name in state.fill else None

    def report(self) -> 'EpisodeKnowledge':
        """Return the knowledge after the newest frame.

        Raises:
            ValueError: no frame has been observed.
        """
        if self.state is None:
            raise ValueError('no frame has been observed; call observe first')
        return EpisodeKnowledge(self.episode, self.state, self._instances)


class EpisodeKnowledge:
    """The knowledge of an observer at one frame.

    Args:
        episode: what was observed.
        state: at that frame.
        instances: the observations of every instance.

    Attributes:
        clear: instances that were clearly visible in CLEAR_FRAMES frames or more.
        counts: noun -> number of clear instances; without nouns that have a visible but unclear instance, and without
            EVERYWHERE.
        single: noun -> its only instance, of objects that can be picked up.
        lost: the instances of `single` that are out of view and still in the place where they were last clear.
        done: the finished actions, in order.
    """

    def __init__(self, episode: Episode, state: WorldState, instances: list[ObservedInstance]):
        self.episode, self.state = episode, state
        self.clear = [one for one in instances if one.frames >= CLEAR_FRAMES]
        unclear = {one.noun for one in instances if one.last_visible_s >= 0 and one.frames < CLEAR_FRAMES}
        counts = Counter(one.noun for one in self.clear)
        self.counts = {noun: counts[noun] for noun in NOUNS if noun not in unclear and noun not in EVERYWHERE}
        self._in_view = {
            one.noun for one in instances if state.stamp_s - one.last_visible_s < GONE_S and one.last_visible_s >= 0
        }
        self.single = {one.noun: one for one in self.clear if one.noun in OBJECTS and self.counts.get(one.noun) == 1}
        self.lost = {
            noun: one for noun, one in self.single.items() if self.gone(noun) and one.place == state.places[one.name]
        }
        self.done: tuple[ActionLabel, ...] = state.finished

    def gone(self, noun: str) -> bool:
        """Return whether every instance of a noun is out of view."""
        return noun not in self._in_view

    def position_of(self, noun: str) -> np.ndarray:
        """Return the current position (3,) of the only instance of a noun, in metres in the room."""
        return self.episode.world.position_of(self.single[noun].name)
