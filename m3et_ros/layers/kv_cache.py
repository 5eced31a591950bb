"""What attention keeps of the tokens before: keys and values, with room for those to come.

Symbols: B batch, H heads, L tokens, d width. A mask is (B, L) bool, True = may be looked at.
"""

from typing import NamedTuple

import torch
from torch import Tensor

ROOM = 256
"""Tokens for which room is made at a time: to copy all that is kept for each token would cost more than to attend."""


class AttentionState(NamedTuple):
    """What later tokens attend to of those before them; it grows with their number, unlike a Mamba mixer's.

    k, v: (B, H, L, d / H).
    mask: (B, L) bool, True = may be looked at; None = all.
    room: the memory in which k and v lie and that has place for more; None = there is none.
    """

    k: Tensor
    v: Tensor
    mask: Tensor | None
    room: 'Room | None' = None

    def extended(self, k: Tensor, v: Tensor, mask: Tensor | None) -> 'AttentionState':
        """Add the next tokens; this state stays what it is, and others may go on from it."""
        if self.mask is None and mask is None:
            if k.shape[2] == 1 and not torch.is_grad_enabled() and not torch.compiler.is_compiling():
                room = self.room if self.room is not None and self.room.open_to(self) else Room(self)
                return room.add(k, v)
            return AttentionState(torch.cat([self.k, k], 2), torch.cat([self.v, v], 2), None)
        masks = [
            keys.new_ones(len(keys), keys.shape[2], dtype=torch.bool) if known is None else known
            for keys, known in ((self.k, self.mask), (k, mask))
        ]
        return AttentionState(torch.cat([self.k, k], 2), torch.cat([self.v, v], 2), torch.cat(masks, 1))

    def repeated(self, times: int) -> 'AttentionState':
        """The state of B sequences for B * times that go on from them, those of the first sequence first."""
        return AttentionState(*(None if t is None else t.repeat_interleave(times, 0) for t in self[:3]))


class Room:
    """Keys and values in memory that is longer than they are; states are views of its beginning.

    Tokens are written behind the longest state alone. Whoever goes on from a shorter one gets memory of his own, so
    that no state ever changes.
    """

    def __init__(self, state: AttentionState):
        """Copy a state to where there is place for ROOM more tokens."""
        B, H, L, _ = state.k.shape
        self.k, self.v = (t.new_empty(B, H, L + ROOM, t.shape[3]) for t in (state.k, state.v))
        self.k[:, :, :L], self.v[:, :, :L] = state.k, state.v
        self.used = L

    def open_to(self, state: AttentionState) -> bool:
        """Whether a token may be written behind this state."""
        writable = torch.is_inference_mode_enabled() or not self.k.is_inference()
        return writable and self.used == state.k.shape[2] < self.k.shape[2]

    def add(self, k: Tensor, v: Tensor) -> AttentionState:
        """Write one token, k and v (B, H, 1, d / H), behind the longest state."""
        self.k[:, :, self.used], self.v[:, :, self.used] = k[:, :, 0], v[:, :, 0]
        self.used += 1
        return AttentionState(self.k[:, :, : self.used], self.v[:, :, : self.used], None, self)
