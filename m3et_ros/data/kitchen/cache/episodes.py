"""Cached kitchens, or recordings, as episodes: frames in the order of time, and the actions done in them.

Symbols: n frames of an episode, k actions.

From a seed to a question: after cache/generate.py; episode.worded words the questions of a QuestionPoint.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from m3et_ros.data.errors import InputError
from m3et_ros.data.kitchen.cache.recipe import read_recipe, read_shards
from m3et_ros.data.kitchen.questions.frame import Draft
from m3et_ros.data.kitchen.sim.episode import FPS
from m3et_ros.data.shards import open_shard

GAP_S = 1.0
"""Anticipation time in seconds: the observed video ends this long before the action starts (docs/papers.md 7.7)."""


@dataclass(frozen=True)
class Action:
    """One action of an episode."""

    # Seconds since the episode began.
    start_s: float
    stop_s: float
    # Positions in Labels.verbs and Labels.nouns.
    verb: int
    noun: int


@dataclass(frozen=True)
class QuestionPoint:
    """A frame with questions about the episode so far."""

    # Position of the frame in its episode.
    frame: int
    # (category, (kind, answer, fields)), as questions.episode.worded takes them.
    drafts: tuple[tuple[str, Draft], ...]


@dataclass(frozen=True)
class EpisodeFrames:
    """One episode of a cache, or one recording."""

    # Unique: the seed of a kitchen, or the name of a bag.
    name: str
    # Number of its first frame among those of all episodes, and seconds of each of its frames since it began, (n,).
    first: int
    stamps: np.ndarray
    # In the order of time; the last ones may begin after the last frame.
    actions: tuple[Action, ...]
    # See questions.checkpoints. Empty in caches with few frames per second and in old caches.
    question_points: tuple[QuestionPoint, ...] = ()
    # Positions of the frames after a gap, with which a stream begins anew; none in caches.
    breaks: tuple[int, ...] = ()

    def now(self) -> np.ndarray:
        """Return the number of the action under way at each frame, -1 for none: (n,) int64."""
        found = np.full(len(self.stamps), -1)
        for number, action in enumerate(self.actions):
            found[(self.stamps >= action.start_s) & (self.stamps < action.stop_s)] = number
        return found

    def last(self) -> np.ndarray:
        """Return the number of the latest action that has started at each frame, -1 for none: (n,) int64."""
        return np.searchsorted([action.start_s for action in self.actions], self.stamps, side='right') - 1

    def next(self, gap_s: float = GAP_S) -> np.ndarray:
        """Return the number of the first action at least gap_s after each frame, -1 for none: (n,) int64."""
        starts = np.array([action.start_s for action in self.actions])
        found = np.searchsorted(starts, self.stamps + gap_s - 1e-9)
        return np.where(found < len(starts), found, -1)


def open_episodes(folders: Sequence[Path]) -> list[EpisodeFrames]:
    """Read the episodes of caches; their frames are numbered as in KitchenSamples without questions.

    Raises:
        InputError: a folder is not a cache, or its version stored no actions.
    """
    episodes, first = [], 0
    for path in (path for folder in folders for path in read_shards(folder)):
        shard = open_shard(path)
        if 'actions' not in shard.header:
            raise InputError(
                'foreign_cache', f'{path.parent} was made before actions were stored; delete it and generate it again.'
            )
        points = shard.header.get('moments', {})
        seeds, ticks = shard.frames['seed'], shard.frames['tick']
        edges = [0, *(np.flatnonzero(np.diff(seeds)) + 1).tolist(), len(seeds)] if len(seeds) else []
        for start, end in pairwise(edges):
            seed, own = str(seeds[start]), ticks[start:end]
            episodes.append(
                EpisodeFrames(
                    seed,
                    first + start,
                    own / FPS,
                    tuple(Action(*values) for values in shard.header['actions'][seed]),
                    tuple(
                        QuestionPoint(
                            int(np.searchsorted(own, tick)),
                            tuple((category, (kind, answer, fields)) for category, kind, answer, fields in drafts),
                        )
                        for tick, drafts in points.get(seed, ())
                    ),
                )
            )
        first += len(seeds)
    return episodes


def frame_rate(folders: Sequence[Path]) -> float:
    """Return the frames per second of caches.

    Raises:
        ValueError: the caches differ.
    """
    rates = {FPS / read_recipe(folder).stride for folder in folders}
    if len(rates) > 1:
        raise ValueError(
            f'the caches have {", ".join(f"{rate:g}" for rate in sorted(rates))} frames a second; give '
            'caches of one rate'
        )
    return rates.pop()
