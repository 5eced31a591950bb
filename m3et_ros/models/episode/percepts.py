"""Percepts of a frame: for each class of things, its place in the view, its probability and its appearance.

The cells of M3ET's colour patches, with their bare colours and depths beside them, are classified. The percept of a
class is then the mean of its patches and cells. So a frame of any number of patches becomes C percepts of one width,
from which facts are read: the colour of a thing, for example, or where it is.

Symbols: B frames, n = g * g colour patches, k = CELLS^2 cells of a patch, d width of M3ET, d_patch = d + 4 k,
    e width of the encoder, C classes, P width of a percept = d_value + 4 + STATISTICS, F answers of all facts together.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from m3et_ros.layers.mamba import no_decay
from m3et_ros.models.m3et.config import MODALITIES, M3ETConfig
from m3et_ros.models.m3et.encoding import ImageEncoding

CELLS = 2
"""Side of the grid of cells into which a patch is cut for bare colours and depths."""
STATISTICS = 5
"""Numbers at the end of a percept: size in cells (log), probability of the surest cell, mean column and row in -1..1,
share of the weight that lies in one patch."""
PEAK = -4
"""Index of the probability of the surest cell in a percept."""


def patch_width(config: M3ETConfig) -> int:
    """Return the width of a patch as the percept encoder takes it, d_patch."""
    return config.d + 4 * CELLS**2


def patch_features(config: M3ETConfig, images: ImageEncoding, inputs: Mapping[str, Tensor]) -> Tensor:
    """Return the colour patches of frames, each with the bare colours and depths of its cells.

    Args:
        config: config of the model that encoded the frames.
        images: encoding of B frames with colours, all patches visible.
        inputs: the encoded images: rgb (B, 3, S, S) and, where there is depth, depth (B, 1 or 2, S, S), standardised; a
            second channel, its validity, is left out.

    Returns:
        (B, n, d_patch) float32; depths are 0 where there is no depth.

    Raises:
        ValueError: there are no colours.
    """
    patches = images.source[0] == MODALITIES.index('rgb')
    if not patches.any():
        raise ValueError('the frames have no colours; a memory needs them')
    rgb = inputs['rgb'].float()
    depth = torch.nan_to_num(inputs['depth'][:, :1].float()) if 'depth' in inputs else torch.zeros_like(rgb[:, :1])
    small = F.adaptive_avg_pool2d(torch.cat([rgb, depth], 1), CELLS * config.grid)
    cells = F.pixel_unshuffle(small, CELLS).flatten(2).transpose(1, 2)
    return torch.cat([images.stages[-1][:, patches].float(), cells], -1)


class PerceptEncoder(nn.Module):
    """Classifies the cells of patches (B, n, d_patch), and makes a percept of each class.

    Args:
        d_patch: width of a patch.
        grid: side g of the grid of patches.
        e: width of the encoder.
        d_value: width of the learned part of a percept.
        classes: C.
        facts: number of answers of each fact.
    """

    def __init__(self, *, d_patch: int, grid: int, e: int, d_value: int, classes: int, facts: Sequence[int]):
        super().__init__()
        self.grid, self.classes, self.bare = grid, classes, 4 * CELLS**2
        self.enter = nn.Sequential(nn.LayerNorm(d_patch), nn.Linear(d_patch, e))
        self.places = no_decay(torch.randn(grid**2, e) * 0.02)
        self.round = nn.Conv2d(e, e, 3, padding=1, groups=e)
        self.mix = nn.Sequential(nn.LayerNorm(e), nn.Linear(e, 2 * e), nn.GELU(), nn.Linear(2 * e, e))
        self.leave = nn.LayerNorm(e)
        self.tell = nn.Linear(e, CELLS**2 * classes)  # logits of the classes; checkpoints have it under this name
        self.value = nn.Linear(e, d_value)
        self.facts = nn.ModuleList(nn.Linear(self.width, answers) for answers in facts)

    @property
    def width(self) -> int:
        """Return the width of a percept, P."""
        return self.value.out_features + 4 + STATISTICS

    def forward(self, patches: Tensor) -> tuple[Tensor, Tensor]:
        """Encode frames (B, n, d_patch), as patch_features returns them.

        Returns:
            Logits of the classes (B, n, k, C), cells in raster order, and percepts (B, C, P), float32.
        """
        x = self.enter(patches) + self.places
        around = self.round(x.transpose(1, 2).unflatten(2, (self.grid, self.grid))).flatten(2).transpose(1, 2)
        x = x + self.mix(x + around)
        x = self.leave(x)
        logits = self.tell(x).float().unflatten(-1, (CELLS**2, self.classes))
        return logits, self.percepts(logits, self.value(x).float(), patches[..., -self.bare :].float())

    def fact_probabilities(self, percepts: Tensor) -> Tensor:
        """Return the probabilities of the answers of all facts, (..., F), times the probability of the class."""
        return torch.cat([fact(percepts).float().softmax(-1) for fact in self.facts], -1) * percepts[..., PEAK, None]

    def percepts(self, logits: Tensor, values: Tensor, bare: Tensor) -> Tensor:
        """Return the mean of each class over patches and bare cells, with the surer ones weighted more.

        Args:
            logits: logits of the classes (B, n, k, C).
            values: learned part of each patch (B, n, d_value).
            bare: colours and depths of the cells (B, n, 4 * k).

        Returns:
            (B, C, P).
        """
        share = logits.softmax(-1)
        weight = share.square() / share.square().sum((1, 2), keepdim=True).clamp(min=1e-9)
        bare = bare.unflatten(-1, (4, CELLS**2)).transpose(2, 3).flatten(1, 2)
        cells = weight.flatten(1, 2).transpose(1, 2) @ bare
        weight = weight.sum(2).transpose(1, 2)
        line = torch.linspace(-1, 1, self.grid, device=bare.device)
        spots = torch.cartesian_prod(line, line).flip(-1).expand(len(bare), -1, -1)
        patches = weight @ torch.cat([values, spots], -1)
        area, peak = share.sum((1, 2)), share.amax((1, 2))
        return torch.cat(
            [
                patches[..., :-2],
                cells,
                area.clamp(min=1e-4).log()[..., None],
                peak[..., None],
                patches[..., -2:],
                weight.amax(-1)[..., None],
            ],
            -1,
        )
