"""The hybrid stack: Transformer and Mamba layers in the order of a schedule string (docs/papers.md 2.2, 2.3).

Symbols: B batch, L tokens, d width. 'T' is a Transformer block, 'M' a pre-norm residual Mamba mixer without MLP,
    'S' a Transformer block with attention-shaped Mamba-2 in the place of attention (MaTVLM; docs/papers.md 6).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, cast

from torch import Tensor, nn

from m3et_ros.layers.attention import EPS, HeadAttention, TransformerBlock
from m3et_ros.layers.kv_cache import AttentionState
from m3et_ros.layers.mamba import AttentionMamba2, Mamba1, Mamba2, MambaState

MIXERS = {'mamba1': Mamba1, 'mamba2': Mamba2}
DIRECTIONS = ('alternate', 'forward')
LayerState = AttentionState | Tensor
"""State of a layer after a sequence, which later tokens attend to or scan on from."""


class MambaLayer(nn.Module):
    """x += Mamba(LN x), scanned from the last token to the first when `backward`."""

    def __init__(self, mixer: Mamba1 | Mamba2, *, d: int, backward: bool = False):
        super().__init__()
        self.norm = nn.LayerNorm(d, eps=EPS)
        self.mixer = mixer
        self.backward = backward

    def forward(
        self, x: Tensor, *, mask: Tensor | None = None, state: Tensor | None = None, return_state: bool = False
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Mix a sequence, or the second part of one.

        Args:
            x: (B, L, d).
            mask: (B, L) bool, True = valid.
            state: state after the scan of earlier tokens, of B samples, or of fewer that each serve as many
                consecutive rows of x. x is then scanned forward, after an earlier scan in either direction, and
                the convolution starts anew, so that pads in front of x change nothing.
            return_state: also return the state after the last token scanned.

        Returns:
            (B, L, d), with return_state also the state.
        """
        y, after = self._mixed(x, mask, state, return_state)
        return y if after is None else (y, after)

    def renew(self, x: Tensor, indices: Tensor | None, cache: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Compute some tokens anew among those of an earlier pass.

        Args:
            x: the new tokens (B, K, d).
            indices: (K,) int64, distinct, where they stand; None = x holds all tokens, in order.
            cache: cache of the pass before, in the order of its scan; None with indices.

        Returns:
            Outputs (B, K, d), the cache for the next call, and the state after all tokens.
        """
        u, flipped = self.norm(x), self.backward and indices is None
        if self.backward and indices is not None and cache is not None:
            indices = cache.shape[1] - 1 - indices
        y, cache, state = self.mixer.renew(u.flip(1) if flipped else u, indices, cache)
        return x + (y.flip(1) if flipped else y), cache, state

    def _mixed(
        self, x: Tensor, mask: Tensor | None, state: Tensor | None, return_state: bool
    ) -> tuple[Tensor, Tensor | None]:
        """Return x + Mamba(LN x), and the state where it is asked for."""
        u, flipped = self.norm(x), self.backward and state is None
        if flipped:
            u, mask = u.flip(1), None if mask is None else mask.flip(1)
        before: MambaState | None = None
        if state is not None:
            conv = self.mixer.conv1d
            before = MambaState(u.new_zeros(len(x), conv.kernel_size[0] - 1, conv.in_channels), state)
        after = None
        if return_state:
            y, new_state = self.mixer(u, mask=mask, state=before, return_state=True)
            after = new_state.ssm
        else:
            y = self.mixer(u, mask=mask, state=before)
        return x + (y.flip(1) if flipped else y), after


class MambaBlock(MambaLayer):
    """x += Mamba(LN x); x += MLP(LN x): a Transformer block whose attention a mixer has replaced."""

    def __init__(self, mixer: Mamba1 | Mamba2, *, d: int, backward: bool = False, mlp_ratio: float = 4):
        super().__init__(mixer, d=d, backward=backward)
        self.norm2 = nn.LayerNorm(d, eps=EPS)
        hidden = int(d * mlp_ratio)
        self.mlp = nn.Sequential(nn.Linear(d, hidden), nn.GELU(), nn.Linear(hidden, d))

    def renew(self, x: Tensor, indices: Tensor | None, cache: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Compute some tokens anew, as MambaLayer does."""
        x, cache, state = super().renew(x, indices, cache)
        return x + self.mlp(self.norm2(x)), cache, state

    def _mixed(
        self, x: Tensor, mask: Tensor | None, state: Tensor | None, return_state: bool
    ) -> tuple[Tensor, Tensor | None]:
        x, after = super()._mixed(x, mask, state, return_state)
        return x + self.mlp(self.norm2(x)), after


class Pass(NamedTuple):
    """Results of a stack for L tokens, from which some of them can be computed anew.

    outputs: one per stage, each (B, L, d), as HybridStack.forward returns them.
    states: one per layer, as HybridStack.forward returns them.
    caches: one per layer: keys and values, or the inputs of a mixer (B, L, width) in the order of its scan.
    """

    outputs: list[Tensor]
    states: list[LayerState]
    caches: list[LayerState]


class HybridStack(nn.Module):
    """Layers in the order of a schedule; the output of every stage is returned for multi-scale fusion.

    Args:
        d: width.
        schedule: one letter per layer, T, M or S.
        heads: attention heads of the T layers, and of the mixers that replace attention in S layers.
        mixer: 'mamba1' or 'mamba2', the mixer of the M layers.
        mixer_options: further arguments of that mixer, for example {'N': 64}.
        directions: 'alternate' scans every second M layer and every second S layer backwards, 'forward' none.
        stages: number of outputs; the layers are divided among them as evenly as possible.

    Raises:
        ValueError: a letter, the mixer or the directions is unknown, or there are more stages than layers.
    """

    def __init__(
        self,
        *,
        d: int,
        schedule: str = 'TMTMTM',
        heads: int,
        mixer: str = 'mamba1',
        mixer_options: Mapping | None = None,
        directions: str = 'alternate',
        stages: int = 3,
    ):
        super().__init__()
        _check(schedule, mixer, directions, stages)
        self.layers = nn.ModuleList()
        for position, letter in enumerate(schedule):
            if letter == 'T':
                self.layers.append(TransformerBlock(d=d, heads=heads))
                continue
            # S layers are counted apart, so that they do not change the directions of M layers.
            backward = directions == 'alternate' and schedule[:position].count(letter) % 2 == 1
            if letter == 'S':
                self.layers.append(MambaBlock(AttentionMamba2(d=d, heads=heads), d=d, backward=backward))
                continue
            self.layers.append(MambaLayer(MIXERS[mixer](d=d, **(mixer_options or {})), d=d, backward=backward))
        # Number of layers up to the end of each stage.
        self.ends = [round((stage + 1) * len(schedule) / stages) for stage in range(stages)]
        self.norm = nn.LayerNorm(d, eps=EPS)

    def forward(
        self,
        x: Tensor,
        *,
        mask: Tensor | None = None,
        states: Sequence[LayerState] | None = None,
        return_states: bool = False,
        head_attentions: list[HeadAttention] | None = None,
        read_out: Callable[[int, HeadAttention], Tensor] | None = None,
    ) -> list[Tensor] | tuple[list[Tensor], list[LayerState]]:
        """Encode tokens.

        Args:
            x: (B, L, d).
            mask: (B, L) bool, True = valid.
            states: states after earlier tokens, one per layer; None = there are no earlier tokens. Several consecutive
                rows of x may follow the same sample; they return no states then.
            return_states: also return the states that include x.
            head_attentions: receives one HeadAttention per T layer, in order: from x to the earlier tokens. It needs
                states.
            read_out: called after each T layer with its index in the schedule and its HeadAttention; (B, L, d) that it
                returns is added to the layer's output. It needs states.

        Returns:
            One (B, L, d) per stage; only the last, the encoder output, is normalised. With return_states also one
            state per layer.

        Raises:
            ValueError: head_attentions or read_out without states.
        """
        attends = head_attentions is not None or read_out is not None
        if attends and states is None:
            raise ValueError(
                'head_attentions and read_out need states: without earlier tokens there is nothing to attend to'
            )
        outputs: list[Tensor] = []
        after: list[LayerState] = []
        for number, layer in enumerate(self.layers, start=1):
            state = None if states is None else states[number - 1]
            attention = None
            if attends and isinstance(layer, TransformerBlock):
                attention = layer.head_attention(x, cast(AttentionState, state))
            if return_states:
                x, state = layer(x, mask=mask, state=state, return_state=True)
                after.append(cast(LayerState, state))
            else:
                x = layer(x, mask=mask, state=state)
            if attention is not None and head_attentions is not None:
                head_attentions.append(attention)
            if attention is not None and read_out is not None:
                x = x + read_out(number - 1, attention)
            if number in self.ends:
                outputs.append(x)
        outputs[-1] = self.norm(x)
        return (outputs, after) if return_states else outputs

    def renew(self, x: Tensor, indices: Tensor | None = None, before: Pass | None = None) -> Pass:
        """Encode some tokens anew among those of an earlier pass, whose other tokens stay as they are.

        The new tokens attend to all tokens and are scanned among all of them. The other tokens are not updated, which
        saves time: only the new tokens and the scans are computed.

        Args:
            x: (B, K, d).
            indices: (K,) int64, distinct, of x among the L tokens; None = x holds all of them, in order.
            before: the earlier pass; None with indices.

        Returns:
            The pass of all tokens.
        """
        states: list[LayerState] = []
        caches: list[LayerState] = []
        outputs: list[Tensor] = []
        for number, layer in enumerate(self.layers, start=1):
            assert isinstance(layer, (TransformerBlock, MambaLayer))
            cache = None if before is None else before.caches[number - 1]
            x, renewed, state = layer.renew(x, indices, cache)  # type: ignore[arg-type]  # its own kind of cache
            caches.append(renewed)
            states.append(state)
            if number in self.ends:
                outputs.append(x)
        outputs[-1] = self.norm(x)
        if before is not None and indices is not None:
            outputs = [old.index_copy(1, indices, new) for old, new in zip(before.outputs, outputs, strict=True)]
        return Pass(outputs, states, caches)


def _check(schedule: str, mixer: str, directions: str, stages: int) -> None:
    if not schedule or set(schedule) - set('TMS'):
        raise ValueError(
            f'schedule is {schedule!r}; give letters T (Transformer), M (Mamba) and S (Mamba in the place of '
            'attention), for example TMTMTM'
        )
    if mixer not in MIXERS:
        raise ValueError(f'mixer is {mixer!r}; give one of {", ".join(MIXERS)}')
    if directions not in DIRECTIONS:
        raise ValueError(f'directions is {directions!r}; give one of {", ".join(DIRECTIONS)}')
    if not 1 <= stages <= len(schedule):
        raise ValueError(f'stages is {stages}; give a number from 1 to the number of layers, {len(schedule)}')
