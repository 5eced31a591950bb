"""Learning to see for a memory: which class a cell belongs to, and what can be told of each class in a frame.

The labels of the cache tell the classes; its questions about single frames tell colours, places, distances and whether
something is open or filled.

Symbols: F frames, n patches of a frame, s side of the label map, C classes, P width of a percept, R told facts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import Dataset

from m3et_ros.data.features import PATCHES
from m3et_ros.data.kitchen.questions.frame_wordings import FARTHEST, STEP, metres
from m3et_ros.data.kitchen.sim.vocabulary import COLOURS, PLACES
from m3et_ros.data.shards import open_shard
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
"""Kinds of questions about a frame that tell something of one class, and their answers."""

LASTING = 1
"""How many of them, the first ones, no action changes."""

SPOKEN = ('colour', 'location')
"""Those whose answers questions about episodes have, too."""

MOST = 24
"""Most facts of a frame that are learnt from at a time."""


@dataclass(frozen=True)
class Glance:
    """One frame."""

    # (n, d_patch) float16, and classes (s, s) uint8.
    patches: np.ndarray
    labels: np.ndarray
    # Told facts: place in FACTS, class, place of the answer; (R, 3).
    facts: np.ndarray


class Glances(Dataset[Glance]):
    """Frames of encoded shards with what is known about them.

    Args:
        shards: of the caches.
        encoded: a folder of training.remembered for each.
        classes: spoken names of the classes.
    """

    def __init__(self, shards: Sequence[Path], encoded: Sequence[Path], classes: Sequence[str]):
        self._shards = [open_shard(path) for path in shards]
        self._patches = [np.load(path / PATCHES, mmap_mode='r', allow_pickle=False) for path in encoded]
        self._facts = [frame_facts(shard, classes) for shard in self._shards]
        self._starts = np.cumsum([0, *(len(shard.frames) for shard in self._shards)])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __getitem__(self, index: int) -> Glance:
        """One frame."""
        which = int(np.searchsorted(self._starts, index, side='right')) - 1
        frame = index - int(self._starts[which])
        facts, first = self._facts[which]
        return Glance(
            self._patches[which][frame],
            np.array(self._shards[which].frames[frame]['semseg']),
            facts[first[frame] : first[frame + 1]],
        )


def frame_facts(shard, classes: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """What the questions of a shard tell: (fact, class, answer) rows (R, 3), and where those of each frame begin."""
    numbers = {name: i for i, name in enumerate(classes)}
    kinds = {name: i for i, name in enumerate(FACTS)}
    about = [
        (kinds.get(kind, -1), numbers.get(fields.get('a', 'tap' if kind == 'is_on' else ''), -1))
        for kind, fields in shard.header['questions']
    ]
    about = np.array(about).reshape(-1, 2)[shard.questions['question']]
    words = shard.header['answers']
    places = np.array(
        [[answers.index(word) if word in answers else -1 for word in words] for answers in FACTS.values()]
    )
    answer = np.where(about[:, 0] >= 0, places[about[:, 0], shard.questions['answer']], -1)
    rows = np.concatenate([about, answer[:, None]], 1)
    kept = (rows >= 0).all(1)
    frame = np.repeat(np.arange(len(shard.frames)), shard.header['asked'])[kept]
    return rows[kept].astype(np.int16), np.searchsorted(frame, np.arange(len(shard.frames) + 1))


def collate_glances(glances: Sequence[Glance]) -> tuple[dict[str, Tensor], list[str]]:
    """Patches (B, n, d_patch), labels (B, s, s) and facts (B, MOST, 3), -1 for none; and B keys."""
    facts = np.full((len(glances), MOST, 3), -1, np.int64)
    for row, glance in zip(facts, glances):
        told = glance.facts[:MOST]
        row[: len(told)] = told
    return {
        'patches': torch.from_numpy(np.stack([glance.patches for glance in glances])).float(),
        'labels': torch.from_numpy(np.stack([glance.labels for glance in glances])).long(),
        'facts': torch.from_numpy(facts),
    }, [''] * len(glances)


class TrainablePercepts(nn.Module):
    """An eye with the config of its memory, as Trainer wants it."""

    def __init__(self, eye: PerceptEncoder, config):
        super().__init__()
        self.config, self.eye = config, eye


@dataclass(frozen=True)
class PerceptRecipe(Recipe):
    """Classes of cells, and facts of classes."""

    samples: int = 96_000
    batch: int = 48
    lr: float = 2e-3
    weight_decay: float = 0.02
    # Power of a class's rarity by which it is weighed.
    rarity: float = 0.5
    # Weight of the facts beside the classes.
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
        for place, (name, head) in enumerate(zip(FACTS, model.eye.facts)):
            row, column = torch.nonzero(kind == place, as_tuple=True)
            if len(row):
                told = head(percepts[row, number[row, column]])
                found[name] = self.facts * F.cross_entropy(told, answer[row, column])
        return found


def cell_classes(labels: Tensor, grid: int) -> Tensor:
    """Classes of the cells of grid * grid patches, of label maps (B, s, s): (B, grid * grid, CELLS^2), raster order."""
    size = grid * CELLS
    if labels.shape[-1] != size:
        labels = F.interpolate(labels[:, None].float(), (size, size), mode='nearest')[:, 0].long()
    cells = labels.unflatten(1, (grid, CELLS)).unflatten(3, (grid, CELLS)).permute(0, 1, 3, 2, 4)
    return cells.flatten(3).flatten(1, 2)
