"""What an action head takes of each frame: one token, made of what M3ET's encoder left behind of it.

The colour patches, pooled to REGIONS x REGIONS, tell where things are and move; the global tokens of a few questions
that M3ET was taught to answer tell what the hand holds and does. A frame costs one pass over its images, which depth
and labels need anyway, and the words of those questions.

Symbols: B frames, Q questions, I image tokens, d width, G = REGIONS.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from m3et_ros.models.m3et.config import MODALITIES, M3ETConfig
from m3et_ros.models.m3et.encoding import ImageEncoding
from m3et_ros.models.m3et.model import M3ET

REGIONS = 3
"""Sides of the grid to which the colour patches are pooled."""

GUIDES = ('What is the person doing?', 'What is the hand holding?', 'Which object is being acted on?')
"""Asked of every frame."""


def frame_width(config: M3ETConfig) -> int:
    """Width of the token of a frame."""
    return (REGIONS**2 + len(GUIDES)) * config.d


def frame_token(model: M3ET, sight: ImageEncoding, guides: Tensor, guides_mask: Tensor) -> Tensor:
    """The token of each frame.

    Args:
        model: that saw them.
        sight: of B frames with colours, all patches seen.
        guides: ids (Q, T) int64 of GUIDES.
        guides_mask: (Q, T) bool, False for pads.

    Returns:
        (B, 1, frame_width) float32.

    Raises:
        ValueError: there are no colours.
    """
    patches = sight.source[0] == MODALITIES.index('rgb')
    if not patches.any():
        raise ValueError('the frames have no colours; an action head cannot do without')
    side, B = model.config.grid, len(sight.source)
    grid = sight.stages[-1][:, patches].float().transpose(1, 2).unflatten(2, (side, side))
    pooled = F.adaptive_avg_pool2d(grid, REGIONS).flatten(2).transpose(1, 2)
    heard = model.encode_text(sight, guides.repeat(B, 1), guides_mask.repeat(B, 1))
    told = model.global_token(heard).float().unflatten(0, (B, -1))
    return torch.cat([pooled, told], 1).flatten(1)[:, None]
