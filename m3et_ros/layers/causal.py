"""Causal attention with a cache, the blocks of language models, and stacks of them (docs/papers.md 4 to 6).

Symbols: B batch, L tokens, d width, H query heads, K key heads (K divides H), P = d / H channels of a head,
    R rotary channels, the first of each head. Letters of a schedule:
    'M' a Mamba-2 mixer behind an RMSNorm (Mamba-2, ML-Mamba, EMMA)
    'O' a Mamba-1 mixer, the original one, behind an RMSNorm (Mamba, the first EMMA)
    'T' Phi's parallel block with causal attention
    'S' the same block with attention-shaped Mamba-2 in the place of attention (MaTVLM)
A mask is (B, L) bool, True = valid. A query without a valid key gets zeros, never NaN. Pads in front of a sequence do
not change it: rotary positions encode distances only, and Mamba mixers skip pads.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from m3et_ros.layers.attention import attend
from m3et_ros.layers.kv_cache import AttentionState
from m3et_ros.layers.mamba import AttentionMamba2, Mamba1, Mamba2, MambaState

LETTERS = 'MTSO'
CausalState = AttentionState | MambaState
"""State of a layer after a sequence: keys and values of every token, or a state of constant size."""


def repeated(state: CausalState, times: int) -> CausalState:
    """Return the state for B * times continuations of B sequences, those of the first sequence first."""
    if times == 1:
        return state
    if isinstance(state, AttentionState):
        return state.repeated(times)
    return MambaState(*(part.repeat_interleave(times, 0) for part in state))


def rotary(first: int, count: int, *, channels: int, base: float, like: Tensor) -> tuple[Tensor, Tensor]:
    """Return cosine and sine of positions first .. first + count - 1: (count, channels / 2) each, dtype of `like`.

    Channel pair i turns by position * base^(-2 i / channels) (rotary positions, Su et al. 2021).
    """
    turns = base ** -(torch.arange(0, channels, 2, dtype=torch.float32, device=like.device) / channels)
    angles = torch.arange(first, first + count, dtype=torch.float32, device=like.device)[:, None] * turns
    return angles.cos().to(like.dtype), angles.sin().to(like.dtype)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate the first R channels of x (B, H, L, P); channel i of their first half pairs with i of the second."""
    one, two, rest = x.split([cos.shape[-1], cos.shape[-1], x.shape[-1] - 2 * cos.shape[-1]], -1)
    return torch.cat([one * cos - two * sin, two * cos + one * sin, rest], -1)


class CausalAttention(nn.Module):
    """Self-attention to a token itself and to earlier ones; parameter names are those of Phi.

    Args:
        d: width.
        heads: query heads H; divides d.
        kv_heads: key heads K, each of which serves H / K query heads; None = H.
        channels: rotary channels R of a head, even; 0 = no positions.
        base: base of the rotary wavelengths.

    Raises:
        ValueError: heads or kv_heads does not divide, or channels is odd or more than P.
    """

    def __init__(self, *, d: int, heads: int, kv_heads: int | None = None, channels: int = 0, base: float = 10000.0):
        super().__init__()
        self.heads, self.kv_heads, self.channels, self.base = heads, kv_heads or heads, channels, base
        if d % heads or heads % self.kv_heads:
            raise ValueError(
                f'heads is {heads} and kv_heads {self.kv_heads}; give heads that divide d = {d} and '
                'kv_heads that divide heads'
            )
        wide = d // heads
        if channels % 2 or not 0 <= channels <= wide:
            raise ValueError(f'channels is {channels}; give an even number up to the {wide} channels of a head')
        self.q_proj = nn.Linear(d, d)
        self.k_proj = nn.Linear(d, self.kv_heads * wide)
        self.v_proj = nn.Linear(d, self.kv_heads * wide)
        self.dense = nn.Linear(d, d)

    def forward(
        self, x: Tensor, *, mask: Tensor | None = None, state: AttentionState | None = None, return_state: bool = False
    ) -> Tensor | tuple[Tensor, AttentionState]:
        """Attend.

        Args:
            x: (B, L, d).
            mask: (B, L) bool, hides pads of x.
            state: keys and values of earlier tokens; None = there are none.
            return_state: also return the state that includes x.

        Returns:
            (B, L, d), with return_state also the state, whose keys and values have K heads.
        """
        q, k, v = (
            project(x).unflatten(-1, (heads, -1)).transpose(1, 2)
            for project, heads in (
                (self.q_proj, self.heads),
                (self.k_proj, self.kv_heads),
                (self.v_proj, self.kv_heads),
            )
        )
        if self.channels:
            first = 0 if state is None else state.k.shape[2]
            turn = rotary(first, x.shape[1], channels=self.channels, base=self.base, like=q)
            q, k = rotate(q, *turn), rotate(k, *turn)
        state = AttentionState(k, v, mask) if state is None else state.extended(k, v, mask)
        each, shared = self.heads // self.kv_heads, state
        if each > 1:
            shared = state._replace(k=state.k.repeat_interleave(each, 1), v=state.v.repeat_interleave(each, 1))
        # A single token attends to all keys, so no causal mask has to be built.
        attended = attend(q, shared, causal=x.shape[1] > 1)
        y = self.dense(attended.transpose(1, 2).flatten(2))
        return (y, state) if return_state else y


Mixer = CausalAttention | Mamba1 | Mamba2


def mix(
    mixer: Mixer, u: Tensor, *, mask: Tensor | None, state: CausalState | None, return_state: bool
) -> tuple[Tensor, CausalState | None]:
    """Run a mixer over u (B, L, d); a single token with a state takes the recurrent step of Mamba."""
    if isinstance(mixer, (Mamba1, Mamba2)) and isinstance(state, MambaState) and u.shape[1] == 1 and mask is None:
        y, state = mixer.step(u[:, 0], state)
        return y[:, None], state
    if return_state:
        return mixer(u, mask=mask, state=state, return_state=True)
    return mixer(u, mask=mask, state=state), None


class MixerBlock(nn.Module):
    """x += Mixer(RMSNorm x), the block of a Mamba language model."""

    def __init__(self, mixer: Mixer, *, d: int, eps: float = 1e-5):
        super().__init__()
        self.norm = nn.RMSNorm(d, eps=eps)
        self.mixer = mixer

    def forward(
        self, x: Tensor, *, mask: Tensor | None = None, state: CausalState | None = None, return_state: bool = False
    ) -> Tensor | tuple[Tensor, CausalState]:
        """Return (B, L, d), with return_state also the state; arguments as in CausalAttention."""
        y, after = mix(self.mixer, self.norm(x), mask=mask, state=state, return_state=return_state)
        return (x + y, after) if return_state and after is not None else x + y


class ParallelBlock(nn.Module):
    """x += Mixer(LN x) + MLP(LN x), both on one LayerNorm: Phi's block.

    Args:
        mixer: causal attention, or the mixer by which MaTVLM replaces it.
        d: width.
        hidden: inner width of the MLP (GELU, tanh form).
        dropout: share of the values of each branch that is dropped in training.
        eps: added to the variance by the LayerNorm.
    """

    def __init__(self, mixer: Mixer, *, d: int, hidden: int, dropout: float = 0.0, eps: float = 1e-5):
        super().__init__()
        self.norm = nn.LayerNorm(d, eps=eps)
        self.mixer = mixer
        self.fc1 = nn.Linear(d, hidden)
        self.fc2 = nn.Linear(hidden, d)
        self.dropout = dropout

    def forward(
        self, x: Tensor, *, mask: Tensor | None = None, state: CausalState | None = None, return_state: bool = False
    ) -> Tensor | tuple[Tensor, CausalState]:
        """Return (B, L, d), with return_state also the state; arguments as in CausalAttention."""
        u = self.norm(x)
        y, after = mix(self.mixer, u, mask=mask, state=state, return_state=return_state)
        wide = self.fc2(F.gelu(self.fc1(u), approximate='tanh'))
        x = x + self._dropped(y) + self._dropped(wide)
        return (x, after) if return_state and after is not None else x

    def _dropped(self, y: Tensor) -> Tensor:
        return F.dropout(y, self.dropout, self.training) if self.dropout else y


@dataclass(frozen=True)
class StackSizes:
    """Sizes that the layers of a stack share; models.vlm.language_model checks them."""

    # Width.
    d: int
    # Query heads of T and S layers.
    heads: int
    # Key heads of T and S layers.
    kv_heads: int
    # Rotary channels of a head in T layers.
    channels: int
    # Base of the rotary wavelengths.
    base: float
    # Inner width of the MLP of T and S layers.
    hidden: int
    # Share of the values of a branch that T and S layers drop in training.
    dropout: float
    # Inner width of M and O layers as a multiple of d.
    expand: int
    # States of a channel in M and O layers.
    N: int
    # Channels of a head in M layers.
    P: int
    # Groups of heads that share B and C in M layers.
    G: int
    # Length of the causal convolutions.
    d_conv: int
    # Longest chunk of a scan in tokens.
    chunk: int
    # Added to variances by every norm.
    eps: float


def language_layer(letter: str, sizes: StackSizes) -> MixerBlock | ParallelBlock:
    """Build one layer of a schedule.

    Raises:
        ValueError: the letter is unknown.
    """
    d = sizes.d
    if letter == 'M':
        return MixerBlock(
            Mamba2(d=d, expand=sizes.expand, N=sizes.N, P=sizes.P, G=sizes.G, d_conv=sizes.d_conv, chunk=sizes.chunk),
            d=d,
            eps=sizes.eps,
        )
    if letter == 'O':
        return MixerBlock(Mamba1(d=d, expand=sizes.expand, N=sizes.N, d_conv=sizes.d_conv), d=d, eps=sizes.eps)
    heads = {'heads': sizes.heads, 'kv_heads': sizes.kv_heads}
    mixer: Mixer
    if letter == 'T':
        mixer = CausalAttention(d=d, channels=sizes.channels, base=sizes.base, **heads)
    elif letter == 'S':
        mixer = AttentionMamba2(d=d, d_conv=sizes.d_conv, chunk=sizes.chunk, **heads)
    else:
        raise ValueError(f'schedule holds {letter!r}; give letters out of {", ".join(LETTERS)}')
    return ParallelBlock(mixer, d=d, hidden=sizes.hidden, dropout=sizes.dropout, eps=sizes.eps)


class LanguageStack(nn.ModuleList):
    """The layers of a schedule in order; the last output is not normalised."""

    def __init__(self, schedule: str, sizes: StackSizes):
        super().__init__(language_layer(letter, sizes) for letter in schedule)

    def forward(
        self,
        x: Tensor,
        *,
        mask: Tensor | None = None,
        states: Sequence[CausalState] | None = None,
        return_states: bool = False,
        keep: Collection[int] = (),
    ) -> tuple[Tensor, tuple[CausalState, ...] | None, dict[int, Tensor]]:
        """Run all layers.

        Args:
            x: (B, L, d).
            mask: (B, L) bool, False for pads.
            states: states after earlier tokens, one per layer; None = there are no earlier tokens.
            return_states: also return the states that include x.
            keep: indices of the layers whose outputs are returned too.

        Returns:
            (B, L, d); one state per layer, or None; the outputs asked for, by index.
        """
        after: list[CausalState] = []
        outputs: dict[int, Tensor] = {}
        for index, layer in enumerate(self):
            state = None if states is None else states[index]
            if return_states:
                x, state = layer(x, mask=mask, state=state, return_state=True)
                after.append(state)
            else:
                x = layer(x, mask=mask, state=state)
            if index in keep:
                outputs[index] = x
        return x, tuple(after) if return_states else None, outputs
