"""Questions about an episode so far, asked at several moments of it, as the cache keeps them to train a memory on.

A moment is [tick of its frame, [[category, kind, answer, fields], ...]]; data.kitchen.eqa words the questions.
"""

from collections.abc import Mapping

import numpy as np

from m3et_ros.data.kitchen.questions.episode import choose, episode_drafts
from m3et_ros.data.kitchen.questions.frame import Draft
from m3et_ros.data.kitchen.questions.observer import Witness
from m3et_ros.data.kitchen.sim.camera import Observation
from m3et_ros.data.kitchen.sim.episode import FPS, Episode

EVERY = 10 * FPS
"""Ticks from one moment to the next; it is the last frame of them."""

STRIDE = 5
"""Tenths of a second between frames, at most, of an episode that can be asked about: else too much goes unseen."""

QUESTIONS = 40
"""Most questions of a moment."""

Drafts = dict[str, list[Draft]]


class Moments:
    """Watches an episode and notes what could be asked at each moment: `drafts`, by tick."""

    def __init__(self, episode: Episode, stride: int):
        self.drafts: dict[int, Drafts] = {}
        self._witness = Witness(episode) if stride <= STRIDE else None
        self._stride = stride

    def look(self, observation: Observation) -> None:
        """Take in the next frame."""
        if self._witness is None:
            return
        self._witness.look(observation)
        tick = observation.state.tick
        if tick // EVERY < (tick + self._stride) // EVERY:
            self.drafts[tick] = episode_drafts(self._witness.account())

    def before(self, stamp_s: float) -> dict[int, Drafts]:
        """Those moments that come before a time in seconds."""
        return {tick: drafts for tick, drafts in self.drafts.items() if tick / FPS < stamp_s}


def chosen(episodes: Mapping[int, dict[int, Drafts]], rng: np.random.Generator) -> dict[int, list]:
    """The questions that are kept, balanced over all episodes at once as `eqa.choose` does.

    Args:
        episodes: seed to tick to drafts.
        rng: decides between equals.

    Returns:
        Seed to its moments.
    """
    places = [(seed, tick) for seed, moments in episodes.items() for tick in moments]
    found = choose([episodes[seed][tick] for seed, tick in places], QUESTIONS, rng)
    kept: dict[int, list] = {seed: [] for seed in episodes}
    for (seed, tick), drafts in zip(places, found):
        kept[seed].append([tick, [[category, *draft] for category, draft in drafts]])
    return kept
