"""The causal stack of language models: Mamba-2, attention and attention-shaped Mamba-2 in any order (papers.md 4-6).

Symbols: B batch, L tokens, d width. Letters of a schedule:
    'M' a Mamba-2 mixer behind an RMSNorm (Mamba-2, ML-Mamba, EMMA)
    'T' Phi's parallel block with causal attention
    'S' the same block with attention-shaped Mamba-2 in its place (MaTVLM)
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from m3et_ros.layers.attention_mamba import AttentionMamba2
from m3et_ros.layers.causal import CausalAttention, CausalState, MixerBlock, ParallelBlock
from m3et_ros.layers.mamba import Mamba2

LETTERS = 'MTS'


@dataclass(frozen=True)
class StackSizes:
    """Sizes that the layers of a stack have in common; models.language checks them."""

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
    # Width inside the MLP of T and S layers.
    hidden: int
    # Share of a branch's values that T and S layers drop in training.
    dropout: float
    # Inner width of M layers as a multiple of d.
    expand: int
    # States of a channel in M layers.
    N: int
    # Channels of a head in M layers.
    P: int
    # Groups of heads that share B and C in M layers.
    G: int
    # Length of the causal convolutions.
    d_conv: int
    # Longest chunk of a scan, tokens.
    chunk: int
    # Added to variances by every norm.
    eps: float


def language_layer(letter: str, sizes: StackSizes) -> MixerBlock | ParallelBlock:
    """Build one layer of a schedule.

    Raises:
        ValueError: an unknown letter.
    """
    d = sizes.d
    if letter == 'M':
        return MixerBlock(Mamba2(d=d, expand=sizes.expand, N=sizes.N, P=sizes.P, G=sizes.G, d_conv=sizes.d_conv,
                                 chunk=sizes.chunk), d=d, eps=sizes.eps)
    heads = {'heads': sizes.heads, 'kv_heads': sizes.kv_heads}
    if letter == 'T':
        mixer = CausalAttention(d=d, channels=sizes.channels, base=sizes.base, **heads)
    elif letter == 'S':
        mixer = AttentionMamba2(d=d, d_conv=sizes.d_conv, chunk=sizes.chunk, **heads)
    else:
        raise ValueError(f'schedule holds {letter!r}; give letters out of {", ".join(LETTERS)}')
    return ParallelBlock(mixer, d=d, hidden=sizes.hidden, dropout=sizes.dropout, eps=sizes.eps)


class LanguageStack(nn.ModuleList):
    """The layers of a schedule, one after the other; the last output is not normalised."""

    def __init__(self, schedule: str, sizes: StackSizes):
        super().__init__(language_layer(letter, sizes) for letter in schedule)

    def forward(self, x: Tensor, *, mask: Tensor | None = None, states: Sequence[CausalState] | None = None,
                return_states: bool = False, keep: Collection[int] = ()
                ) -> tuple[Tensor, tuple[CausalState, ...] | None, dict[int, Tensor]]:
        """Run.

        Args:
            x: (B, L, d).
            mask: (B, L) bool, False for pads.
            states: of the tokens before x, one a layer; None = nothing went before.
            return_states: also return the states with x in them.
            keep: indices of layers whose outputs are wanted.

        Returns:
            (B, L, d); one state a layer, or None; the outputs kept, by index.
        """
        after, kept = [], {}
        for place, layer in enumerate(self):
            x = layer(x, mask=mask, state=None if states is None else states[place], return_state=return_states)
            if return_states:
                x, state = x
                after.append(state)
            if place in keep:
                kept[place] = x
        return x, tuple(after) if return_states else None, kept
