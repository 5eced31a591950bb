"""Cached kitchens, or recordings, as episodes: frames in the order of time, and the actions done in them.

Symbols: n frames of an episode, k actions.
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
"""An action is anticipated from what is seen up to so long before it starts (docs/papers.md, 7.7)."""


@dataclass(frozen=True)
class Action:
    """One action of an episode."""

    # Seconds since the episode began.
    start_s: float
    stop_s: float
    # Places in Labels.verbs and Labels.nouns.
    verb: int
    noun: int


@dataclass(frozen=True)
class QuestionPoint:
    """A frame at which is asked about an episode so far."""

    # Place of the frame among those of its episode.
    frame: int
    # (category, (kind, answer, fields)), as data.kitchen.eqa.worded takes them.
    drafts: tuple[tuple[str, Draft], ...]


@dataclass(frozen=True)
class EpisodeFrames:
    """One episode of a cache, or one recording."""

    # Unlike that of any other: the seed of a kitchen, or the name of a bag.
    name: str
    # Number of its first frame among those of all episodes, and seconds of each of its frames since it began, (n,).
    first: int
    stamps: np.ndarray
    # In the order of time; the last ones may begin after the last frame.
    actions: tuple[Action, ...]
    # Moments at which is asked about all that came before: data.kitchen.moments. Empty in caches with few frames a
    # second, and in those made before moments were kept.
    moments: tuple[QuestionPoint, ...] = ()
    # Places of the frames with which a stream begins anew, after a gap; none in caches.
    breaks: tuple[int, ...] = ()

    def now(self) -> np.ndarray:
        """Number of the action under way at each frame, -1 for none: (n,) int64."""
        found = np.full(len(self.stamps), -1)
        for number, action in enumerate(self.actions):
            found[(self.stamps >= action.start_s) & (self.stamps < action.stop_s)] = number
        return found

    def last(self) -> np.ndarray:
        """Number of the action that started last at each frame, under way or over, -1 for none: (n,) int64."""
        return np.searchsorted([action.start_s for action in self.actions], self.stamps, side='right') - 1

    def next(self, gap_s: float = GAP_S) -> np.ndarray:
        """Number of the first action that starts at least gap_s after each frame, -1 for none: (n,) int64."""
        starts = np.array([action.start_s for action in self.actions])
        found = np.searchsorted(starts, self.stamps + gap_s - 1e-9)
        return np.where(found < len(starts), found, -1)


def open_episodes(folders: Sequence[Path]) -> list[EpisodeFrames]:
    """The episodes of caches, frames numbered through in the order of KitchenSamples without questions.

    Raises:
        InputError: a folder is no cache, or was made before actions were kept.
    """
    episodes, first = [], 0
    for path in (path for folder in folders for path in read_shards(folder)):
        shard = open_shard(path)
        if 'actions' not in shard.header:
            raise InputError(
                'foreign_cache', f'{path.parent} was made before actions were kept; delete it and generate it again.'
            )
        seeds, ticks = shard.frames['seed'], shard.frames['tick']
        edges = [0, *(np.flatnonzero(np.diff(seeds)) + 1).tolist(), len(seeds)] if len(seeds) else []
        for start, end in pairwise(edges):
            seed = int(seeds[start])
            actions = tuple(Action(*values) for values in shard.header['actions'][str(seed)])
            moments = _moments(shard.header.get('moments', {}).get(str(seed), ()), ticks[start:end])
            episodes.append(EpisodeFrames(str(seed), first + start, ticks[start:end] / FPS, actions, moments))
        first += len(seeds)
    return episodes


def _moments(kept: Sequence, ticks: np.ndarray) -> tuple[QuestionPoint, ...]:
    """What the header of a shard says of an episode."""
    return tuple(
        QuestionPoint(
            int(np.searchsorted(ticks, tick)),
            tuple((category, (kind, answer, fields)) for category, kind, answer, fields in drafts),
        )
        for tick, drafts in kept
    )


def frame_rate(folders: Sequence[Path]) -> float:
    """Frames of a second, the same in all caches.

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
