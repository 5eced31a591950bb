"""The tokens of a frame for an action head, made of M3ET's encoding of the frame.

The colour patches, pooled to REGIONS x REGIONS, show where things are and move. The global tokens of a few questions
that M3ET was trained to answer show what the hand holds and does. A frame costs one pass over its images, which depth
and labels need anyway, and the words of those questions. A head in the form of the paper reads all colour patches
instead, in a row of the same kind.

Symbols: B frames, Q questions, T word pieces, n patches of an image, d width, G = REGIONS.
"""

import math
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from m3et_ros.models.m3et.config import MODALITIES, M3ETConfig
from m3et_ros.models.m3et.encoding import Encoded, ImageEncoding

REGIONS = 3
"""Side of the grid to which the colour patches are pooled."""
GUIDES = ('What is the person doing?', 'What is the hand holding?', 'Which object is being acted on?')
"""Questions that are asked about every frame."""


class TextReader(Protocol):
    """A model that reads questions about encoded images, such as an M3ET."""

    def encode_text(self, images: ImageEncoding, text: Tensor, text_mask: Tensor) -> Encoded:
        """Encode words after images as M3ET.encode_text does."""


def frame_width(config: M3ETConfig) -> int:
    """Return the width of the token of a frame."""
    return (REGIONS**2 + len(GUIDES)) * config.d


def frame_token(model: TextReader, images: ImageEncoding, guides: Tensor, guides_mask: Tensor) -> Tensor:
    """Return the token of each frame.

    Args:
        model: the model that encoded the frames.
        images: encoding of B frames with colours, all patches visible.
        guides: word pieces (Q, T) int64 of GUIDES.
        guides_mask: (Q, T) bool, False for pads.

    Returns:
        (B, 1, frame_width) float32.

    Raises:
        ValueError: there are no colours.
    """
    colours = _colours(images)
    B, side = len(colours), math.isqrt(colours.shape[1])
    grid = colours.transpose(1, 2).unflatten(2, (side, side))
    pooled = F.adaptive_avg_pool2d(grid, REGIONS).flatten(2).transpose(1, 2)
    questions = model.encode_text(images, guides.repeat(B, 1), guides_mask.repeat(B, 1))
    answers = questions.context[:, -1].float().unflatten(0, (B, -1))
    return torch.cat([pooled, answers], 1).flatten(1)[:, None]


def patch_tokens(images: ImageEncoding) -> Tensor:
    """Return all colour patches of each frame in a row, (B, 1, n * d) float32.

    Raises:
        ValueError: there are no colours.
    """
    return _colours(images).flatten(1)[:, None]


def _colours(images: ImageEncoding) -> Tensor:
    """Return the outputs of the colour patches, (B, n, d) float32."""
    patches = images.source[0] == MODALITIES.index('rgb')
    if not patches.any():
        raise ValueError('the frames have no colours; an action head needs them')
    return images.stages[-1][:, patches].float()
