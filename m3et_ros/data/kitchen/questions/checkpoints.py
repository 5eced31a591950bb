"""Questions about an episode so far, at several frames of it; the cache stores them to train a memory.

A stored question point is [tick of its frame, [[category, kind, answer, fields], ...]]; episode.worded words its
questions.

From a seed to a question: after questions/episode.py, before cache/generate.py.
"""

from collections.abc import Mapping

import numpy as np

from m3et_ros.data.kitchen.questions.episode import choose, episode_drafts
from m3et_ros.data.kitchen.questions.frame import Draft
from m3et_ros.data.kitchen.questions.observer import KitchenObserver
from m3et_ros.data.kitchen.sim.camera import Observation
from m3et_ros.data.kitchen.sim.episode import FPS, Episode

EVERY = 10 * FPS
"""Ticks of a period; its last frame is a question point."""

STRIDE = 5
"""Most ticks between the frames of an episode with question points; with more, too much happens unseen."""

QUESTIONS = 40
"""Most questions of a question point."""

Drafts = dict[str, list[Draft]]
"""Category -> questions."""


class CheckpointObserver:
    """Observe an episode and collect the possible questions at each question point.

    Args:
        episode: episode to observe from its first frame on.
        stride: ticks from one frame to the next.

    Attributes:
        drafts: tick -> questions by category; none if the stride is above STRIDE.
    """

    def __init__(self, episode: Episode, stride: int):
        self.drafts: dict[int, Drafts] = {}
        self._observer = KitchenObserver(episode) if stride <= STRIDE else None
        self._stride = stride

    def observe(self, observation: Observation) -> None:
        """Update the knowledge with the next frame."""
        if self._observer is None:
            return
        self._observer.observe(observation)
        tick = observation.state.tick
        if tick // EVERY < (tick + self._stride) // EVERY:
            self.drafts[tick] = episode_drafts(self._observer.report())

    def before(self, stamp_s: float) -> dict[int, Drafts]:
        """Return the drafts of the question points before a time in seconds."""
        return {tick: drafts for tick, drafts in self.drafts.items() if tick / FPS < stamp_s}


def choose_stored(episodes: Mapping[int, Mapping[int, Drafts]], rng: np.random.Generator) -> dict[int, list]:
    """Draw the questions to be stored, balanced over all episodes together as episode.choose does.

    Args:
        episodes: seed -> tick -> drafts.
        rng: breaks ties.

    Returns:
        Seed -> its question points, as the header of a shard stores them.
    """
    points = [(seed, tick) for seed, drafts in episodes.items() for tick in drafts]
    chosen = choose([episodes[seed][tick] for seed, tick in points], QUESTIONS, rng)
    stored: dict[int, list] = {seed: [] for seed in episodes}
    for (seed, tick), drafts in zip(points, chosen, strict=True):
        stored[seed].append([tick, [[category, *draft] for category, draft in drafts]])
    return stored
