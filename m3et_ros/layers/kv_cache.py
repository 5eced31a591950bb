"""Cache of attention: the keys and values of earlier tokens, with space for those to come.

Symbols: B batch, H heads, L tokens, d width. A mask is (B, L) bool, True = may be attended to.
"""

from typing import NamedTuple

import torch
from torch import Tensor

SPARE_TOKENS = 256
"""Number of tokens for which space is added at a time; copying it for every token would cost more than attention."""


class AttentionState(NamedTuple):
    """Keys and values that later tokens attend to. It grows with the sequence, unlike the state of a Mamba mixer.

    k, v: (B, H, L, d / H).
    mask: (B, L) bool, True = may be attended to; None = all.
    buffer: the longer memory that k and v are views of; None = they own their memory.
    """

    k: Tensor
    v: Tensor
    mask: Tensor | None
    buffer: 'CacheBuffer | None' = None

    def extended(self, k: Tensor, v: Tensor, mask: Tensor | None) -> 'AttentionState':
        """Return the state with the next tokens added; this one does not change, and others may extend it too."""
        if self.mask is None and mask is None:
            if k.shape[2] == 1 and not torch.is_grad_enabled() and not torch.compiler.is_compiling():
                buffer = self.buffer
                if buffer is None or not buffer.can_append_to(self):
                    buffer = CacheBuffer(self)
                return buffer.append(k, v)
            return AttentionState(torch.cat([self.k, k], 2), torch.cat([self.v, v], 2), None)
        masks = [
            keys.new_ones(len(keys), keys.shape[2], dtype=torch.bool) if known is None else known
            for keys, known in ((self.k, self.mask), (k, mask))
        ]
        return AttentionState(torch.cat([self.k, k], 2), torch.cat([self.v, v], 2), torch.cat(masks, 1))

    def repeated(self, times: int) -> 'AttentionState':
        """Return the state for B * times continuations of B sequences, those of the first sequence first."""
        mask = None if self.mask is None else self.mask.repeat_interleave(times, 0)
        return AttentionState(self.k.repeat_interleave(times, 0), self.v.repeat_interleave(times, 0), mask)


class CacheBuffer:
    """Memory that is longer than the keys and values in it; states are views of its beginning.

    Tokens are appended only behind the longest state. A shorter state that is extended gets a buffer of its own, so no
    state ever changes.
    """

    def __init__(self, state: AttentionState):
        """Copy a state into memory with space for SPARE_TOKENS more."""
        B, H, L, _ = state.k.shape
        self.k, self.v = (t.new_empty(B, H, L + SPARE_TOKENS, t.shape[3]) for t in (state.k, state.v))
        self.k[:, :, :L], self.v[:, :, :L] = state.k, state.v
        self.used = L

    def can_append_to(self, state: AttentionState) -> bool:
        """Return True where a token may be written behind this state."""
        writable = torch.is_inference_mode_enabled() or not self.k.is_inference()
        return writable and self.used == state.k.shape[2] < self.k.shape[2]

    def append(self, k: Tensor, v: Tensor) -> AttentionState:
        """Write one token, k and v (B, H, 1, d / H), behind the longest state and return the new state."""
        self.k[:, :, self.used], self.v[:, :, self.used] = k[:, :, 0], v[:, :, 0]
        self.used += 1
        return AttentionState(self.k[:, :, : self.used], self.v[:, :, : self.used], None, self)
