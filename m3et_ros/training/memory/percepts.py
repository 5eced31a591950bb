"""Train the percepts of an episode memory: the class of every cell of a frame, and facts about the classes in it.

The labels of the cache give the classes. Its questions about single frames give the facts: colours, places, distances,
and whether something is open, on or filled.

Symbols: B frames, n patches of a frame, s side of the label map, C classes, P width of a percept, R known facts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import Dataset

from m3et_ros.data.features.episodes import PATCHES
from m3et_ros.data.kitchen.questions.frame_wordings import FARTHEST, STEP, metres
from m3et_ros.data.kitchen.sim.vocabulary import COLOURS, PLACES
from m3et_ros.data.shards import Shard, open_shard
from m3et_ros.models.episode.model import EpisodeConfig
from m3et_ros.models.episode.percepts import CELLS, PerceptEncoder
from m3et_ros.training.recipe import Recipe

FACTS = {
    'colour': tuple(COLOURS),
    'location': PLACES,
    'distance': tuple(metres(steps) for steps in range(1, int(FARTHEST / STEP) + 1)),
    'region': ('left', 'middle', 'right'),
    'is_open': ('no', 'yes'),
    'is_on': ('no', 'yes'),
    'is_filled': ('no', 'yes'),
}
"""Kinds of questions that ask for a fact about one class, and their answers."""

LASTING = 1
"""Number of these kinds, from the first, whose facts no action changes."""

EPISODE_FACTS = ('colour', 'location')
"""Kinds whose answers also occur in questions about episodes."""

MOST_FACTS = 24
"""Most facts of a frame in a batch."""


@dataclass(frozen=True)
class PerceptFrame:
    """A frame with its labels and facts."""

    # (n, d_patch) float16, and classes (s, s) uint8.
    patches: np.ndarray
    labels: np.ndarray
    # Position of the kind in FACTS, class, position of the answer; (R, 3).
    facts: np.ndarray


class PerceptFrames(Dataset[PerceptFrame]):
    """Frames of encoded shards with their labels and facts.

    Args:
        shards: shards of the caches.
        encoded: folder of data.features for each shard.
        classes: names of the classes.
    """

    def __init__(self, shards: Sequence[Path], encoded: Sequence[Path], classes: Sequence[str]):
        self._shards = [open_shard(path) for path in shards]
        self._patches = [np.load(path / PATCHES, mmap_mode='r', allow_pickle=False) for path in encoded]
        self._facts = [frame_facts(shard, classes) for shard in self._shards]
        self._starts = np.cumsum([0, *(len(shard.frames) for shard in self._shards)])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __getitem__(self, index: int) -> PerceptFrame:
        """Return a frame; frames count through all shards."""
        which = int(np.searchsorted(self._starts, index, side='right')) - 1
        frame = index - int(self._starts[which])
        facts, first = self._facts[which]
        return PerceptFrame(
            self._patches[which][frame],
            np.array(self._shards[which].frames[frame]['semseg']),
            facts[first[frame] : first[frame + 1]],
        )


def frame_facts(shard: Shard, classes: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Read the facts that the questions of a shard hold.

    Args:
        shard: frames with their questions.
        classes: names of the classes.

    Returns:
        Rows (kind, class, answer), (R, 3) int16, and the first row of each frame and the end, (F + 1,).
    """
    numbers = {name: i for i, name in enumerate(classes)}
    kinds = {name: i for i, name in enumerate(FACTS)}
    about = [
        (kinds.get(kind, -1), numbers.get(fields.get('a', 'tap' if kind == 'is_on' else ''), -1))
        for kind, fields in shard.header['questions']
    ]
    about = np.array(about).reshape(-1, 2)[shard.questions['question']]
    words = shard.header['answers']
    positions = np.array(
        [[answers.index(word) if word in answers else -1 for word in words] for answers in FACTS.values()]
    )
    answer = np.where(about[:, 0] >= 0, positions[about[:, 0], shard.questions['answer']], -1)
    rows = np.concatenate([about, answer[:, None]], 1)
    kept = (rows >= 0).all(1)
    frame = np.repeat(np.arange(len(shard.frames)), shard.header['asked'])[kept]
    return rows[kept].astype(np.int16), np.searchsorted(frame, np.arange(len(shard.frames) + 1))


def collate_percepts(frames: Sequence[PerceptFrame]) -> tuple[dict[str, Tensor], list[str]]:
    """Return patches (B, n, d_patch), labels (B, s, s) and facts (B, MOST_FACTS, 3), -1 for none; also B keys."""
    facts = np.full((len(frames), MOST_FACTS, 3), -1, np.int64)
    for row, frame in zip(facts, frames, strict=True):
        known = frame.facts[:MOST_FACTS]
        row[: len(known)] = known
    return {
        'patches': torch.from_numpy(np.stack([frame.patches for frame in frames])).float(),
        'labels': torch.from_numpy(np.stack([frame.labels for frame in frames])).long(),
        'facts': torch.from_numpy(facts),
    }, [''] * len(frames)


class TrainablePercepts(nn.Module):
    """A percept encoder with the config of its memory, as Trainer needs it."""

    def __init__(self, eye: PerceptEncoder, config: EpisodeConfig):
        super().__init__()
        self.config, self.eye = config, eye


@dataclass(frozen=True)
class PerceptRecipe(Recipe):
    """Recognise the classes of cells and the facts about classes."""

    STORED_NAME: ClassVar[str] = 'See'
    samples: int = 96_000
    batch: int = 48
    lr: float = 2e-3
    weight_decay: float = 0.02
    # Classes are weighted by their rarity to this power.
    rarity: float = 0.5
    # Weight of the facts relative to the classes.
    facts: float = 0.5

    def losses(
        self, model: TrainablePercepts, batch: Mapping[str, Tensor], generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Return the cross-entropies of the classes and of each kind of fact."""
        logits, percepts = model.eye(batch['patches'])
        cells = cell_classes(batch['labels'], model.eye.grid)
        known = cells < logits.shape[-1]
        number = torch.bincount(cells[known], minlength=logits.shape[-1])
        weight = (number / number.sum().clamp(min=1) + 1e-4) ** -self.rarity
        found = {'classes': F.cross_entropy(logits[known], cells[known], weight)}
        kind, number, answer = batch['facts'].unbind(-1)
        for position, (name, head) in enumerate(zip(FACTS, model.eye.facts, strict=True)):
            row, column = torch.nonzero(kind == position, as_tuple=True)
            if len(row):
                logits = head(percepts[row, number[row, column]])
                found[name] = self.facts * F.cross_entropy(logits, answer[row, column])
        return found


def cell_classes(labels: Tensor, grid: int) -> Tensor:
    """Return the class of each cell of grid * grid patches, (B, grid * grid, CELLS^2), in raster order.

    Args:
        labels: label maps, (B, s, s).
        grid: patches along a side.
    """
    size = grid * CELLS
    if labels.shape[-1] != size:
        labels = F.interpolate(labels[:, None].float(), (size, size), mode='nearest')[:, 0].long()
    cells = labels.unflatten(1, (grid, CELLS)).unflatten(3, (grid, CELLS)).permute(0, 1, 3, 2, 4)
    return cells.flatten(3).flatten(1, 2)
