"""The token of a frame that action head and memory read, made once for both by the runtime that serves."""

from collections.abc import Callable

import torch
from torch import Tensor

from m3et_ros.data.checkpoints.m3et import Checkpoint
from m3et_ros.models.actions.frame_token import GUIDES, TextReader, frame_token
from m3et_ros.models.actions.mambavl import MambaVL
from m3et_ros.models.m3et.encoding import ImageEncoding


def guides_shape(checkpoint: Checkpoint) -> tuple[int, int] | None:
    """Return number and length of the guides in word pieces; None where no head of a checkpoint reads them."""
    actions = checkpoint.heads.get('mambavl')
    by_actions = isinstance(actions, MambaVL) and actions.config.patches == 1
    if not by_actions and 'episode' not in checkpoint.heads:
        return None
    count, length = encoded_guides(checkpoint)[0].shape
    return count, length


def encoded_guides(checkpoint: Checkpoint) -> tuple[Tensor, Tensor]:
    """Return ids (Q, T) int64 and mask (Q, T) bool of the guides, cut to the longest of them."""
    ids, mask = checkpoint.tokenizer.encode(GUIDES, checkpoint.model.config.text_length)
    longest = int(mask.sum(1).max())
    return ids[:, :longest], mask[:, :longest]


class FrameTokens:
    """Asks the guides of models.actions.frame_token about encoded frames.

    Args:
        checkpoint: model and tokenizer.
        reader: returns the model or its graphs, which may change between two frames; None = always the model.
    """

    def __init__(self, checkpoint: Checkpoint, reader: Callable[[], TextReader] | None = None):
        model = checkpoint.model
        self._reader = reader or (lambda: model)
        self._guides = encoded_guides(checkpoint)
        self._newest: tuple[ImageEncoding, Tensor] | None = None

    def to(self, device: torch.device) -> None:
        """Move to a device, and let go of the newest frame."""
        self._guides = self._guides[0].to(device), self._guides[1].to(device)
        self._newest = None

    def read(self, images: ImageEncoding) -> Tensor:
        """Return the token (1, 1, frame_width) float32 of a frame; asked again for the same encoding, the same one.

        Raises:
            ValueError: the frame has no colours.
        """
        if self._newest is None or self._newest[0] is not images:
            self._newest = images, frame_token(self._reader(), images, *self._guides)
        return self._newest[1]
