"""The hybrid stack: Transformer and Mamba layers in the order of a schedule string (docs/papers.md 2.2, 2.3).

Symbols: B batch, L tokens, d width. 'T' is a Transformer block, 'M' a pre-norm residual Mamba mixer without MLP,
    'S' a Transformer block with attention-shaped Mamba-2 in the place of attention (MaTVLM; docs/papers.md section 6).
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from torch import Tensor, nn

from m3et_ros.layers.attention import EPS, HeadAttention, TransformerBlock
from m3et_ros.layers.kv_cache import AttentionState
from m3et_ros.layers.mamba import AttentionMamba2, Mamba1, Mamba2

MIXERS = {'mamba1': Mamba1, 'mamba2': Mamba2}
DIRECTIONS = ('alternate', 'forward')


class MambaLayer(nn.Module):
    """x += Mamba(LN x), scanned from the last token to the first when `backward`."""

    def __init__(self, mixer: nn.Module, *, d: int, backward: bool = False):
        super().__init__()
        self.norm = nn.LayerNorm(d, eps=EPS)
        self.mixer = mixer
        self.backward = backward

    def forward(
        self, x: Tensor, *, mask: Tensor | None = None, state: Tensor | None = None, return_state: bool = False
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Mix a sequence, or its second part.

        Args:
            x: (B, L, d).
            mask: (B, L) bool, True = valid.
            state: where the scan of the tokens before x ended, of B samples or of fewer, each for as many rows of x,
                one after the other. x is then scanned forward whatever the direction of those was, and the
                convolution starts anew, so that pads in front of x change nothing.
            return_state: also return the state after the last token scanned.
        """
        u, flipped = self.norm(x), self.backward and state is None
        if flipped:
            u, mask = u.flip(1), None if mask is None else mask.flip(1)
        before = (
            None
            if state is None
            else self.mixer.init_state(len(x), dtype=u.dtype)._replace(
                ssm=state.repeat_interleave(len(x) // len(state), 0)
            )
        )
        # Without a wish for states a fused kernel may serve.
        y = self.mixer(u, mask=mask, state=before, return_state=return_state)
        y, after = y if return_state else (y, None)
        x = x + (y.flip(1) if flipped else y)
        return (x, after.ssm) if return_state else x

    def renew(self, x: Tensor, places: Tensor | None, kept: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Some tokens (B, K, d) anew among those of an earlier pass: theirs, what is kept, the state after all.

        Args:
            x: the new ones.
            places: theirs, (K,) int64, distinct; None = x is all tokens, in order.
            kept: of the pass before, in the order of its scan; None with places.
        """
        u, flipped = self.norm(x), self.backward and places is None
        if self.backward and places is not None:
            places = kept.shape[1] - 1 - places
        y, kept, state = self.mixer.renew(u.flip(1) if flipped else u, places, kept)
        return x + (y.flip(1) if flipped else y), kept, state


class MambaBlock(MambaLayer):
    """x += Mamba(LN x); x += MLP(LN x): a Transformer block whose attention a mixer has replaced."""

    def __init__(self, mixer: nn.Module, *, d: int, backward: bool = False, mlp_ratio: float = 4):
        super().__init__(mixer, d=d, backward=backward)
        self.norm2 = nn.LayerNorm(d, eps=EPS)
        hidden = int(d * mlp_ratio)
        self.mlp = nn.Sequential(nn.Linear(d, hidden), nn.GELU(), nn.Linear(hidden, d))

    def forward(
        self, x: Tensor, *, mask: Tensor | None = None, state: Tensor | None = None, return_state: bool = False
    ) -> Tensor | tuple[Tensor, Tensor]:
        """As MambaLayer."""
        x, state = (
            super().forward(x, mask=mask, state=state, return_state=True)
            if return_state
            else (super().forward(x, mask=mask, state=state), None)
        )
        x = x + self.mlp(self.norm2(x))
        return (x, state) if return_state else x

    def renew(self, x: Tensor, places: Tensor | None, kept: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """As MambaLayer."""
        x, kept, state = super().renew(x, places, kept)
        return x + self.mlp(self.norm2(x)), kept, state


LayerState = AttentionState | Tensor
"""What a layer keeps of a sequence for what follows it."""


class Pass(NamedTuple):
    """What a stack has computed of L tokens, so that some of them may be computed anew.

    outputs: of the stages, each (B, L, d), as HybridStack.forward gives them.
    states: one a layer, as HybridStack.forward gives them.
    kept: one a layer: keys and values, or (B, L, width) of a mixer in the order of its scan.
    """

    outputs: list[Tensor]
    states: list[LayerState]
    kept: list[LayerState]


class HybridStack(nn.Module):
    """Layers strung together by a schedule; every stage's output is handed out for multi-scale fusion.

    Args:
        d: width.
        schedule: one letter a layer, T, M or S.
        heads: attention heads of the T layers, and of what stands in their place in S layers.
        mixer: 'mamba1' or 'mamba2', the mixer of the M layers.
        mixer_options: further arguments of that mixer, for example {'N': 64}.
        directions: 'alternate' scans every second M layer and every second S layer backwards, 'forward' none.
        stages: number of outputs; the layers are divided among them as evenly as they go.

    Raises:
        ValueError: an unknown letter, mixer or direction, or more stages than layers.
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
            # S layers are counted apart: the directions of M layers do not depend on what replaced attention.
            backward = directions == 'alternate' and schedule[:position].count(letter) % 2 == 1
            if letter == 'S':
                self.layers.append(MambaBlock(AttentionMamba2(d=d, heads=heads), d=d, backward=backward))
                continue
            self.layers.append(MambaLayer(MIXERS[mixer](d=d, **(mixer_options or {})), d=d, backward=backward))
        self.ends = [round((stage + 1) * len(schedule) / stages) for stage in range(stages)]
        self.norm = nn.LayerNorm(d, eps=EPS)

    def forward(
        self,
        x: Tensor,
        *,
        mask: Tensor | None = None,
        states: Sequence[LayerState] | None = None,
        return_states: bool = False,
        looks: list[HeadAttention] | None = None,
    ) -> list[Tensor] | tuple[list[Tensor], list[LayerState]]:
        """Encode tokens.

        Args:
            x: (B, L, d).
            mask: (B, L) bool, True = valid.
            states: of the tokens before x, one a layer; None = nothing went before. Several rows of x, one after the
                other, may follow the same sample; they leave no states then.
            return_states: also return the states with x in them.
            looks: gets a Look for each T layer, in their order: where x looks among what went before; wants states.

        Returns:
            One (B, L, d) per stage; only the last, the encoder output, is normalised. With return_states also one
            state per layer.
        """
        outputs, kept = [], []
        for place, layer in enumerate(self.layers):
            if looks is not None and isinstance(layer, TransformerBlock):
                looks.append(layer.look(x, states[place]))
            x = layer(x, mask=mask, state=None if states is None else states[place], return_state=return_states)
            if return_states:
                x, state = x
                kept.append(state)
            outputs += [x] * (place + 1 in self.ends)
        outputs[-1] = self.norm(x)
        return (outputs, kept) if return_states else outputs

    def renew(self, x: Tensor, places: Tensor | None = None, before: Pass | None = None) -> Pass:
        """Encode some tokens anew among those of an earlier pass, whose others stay as they are.

        The new ones attend to all tokens and are scanned among all of them. The others do not learn of them, which is
        what it saves: it costs as much as so many tokens, and the scans.

        Args:
            x: (B, K, d).
            places: of x among the L tokens, (K,) int64, distinct; None = x is all of them, in order.
            before: the earlier pass; None with places.

        Returns:
            The pass, of all tokens.
        """
        kept = [None] * len(self.layers) if before is None else before.kept
        new, states, outputs = [], [], []
        for place, layer in enumerate(self.layers):
            x, own, state = layer.renew(x, places, kept[place])
            new.append(own)
            states.append(state)
            outputs += [x] * (place + 1 in self.ends)
        outputs[-1] = self.norm(x)
        if before is not None:
            outputs = [old.index_copy(1, places, part) for old, part in zip(before.outputs, outputs)]
        return Pass(outputs, states, new)


def _check(schedule: str, mixer: str, directions: str, stages: int) -> None:
    if not schedule or set(schedule) - set('TMS'):
        raise ValueError(
            f'schedule is {schedule!r} but must be letters T (Transformer), M (Mamba) and S (Mamba in the '
            'place of attention): try TMTMTM'
        )
    if mixer not in MIXERS:
        raise ValueError(f'mixer is {mixer!r} but must be one of {", ".join(MIXERS)}')
    if directions not in DIRECTIONS:
        raise ValueError(f'directions is {directions!r} but must be one of {", ".join(DIRECTIONS)}')
    if not 1 <= stages <= len(schedule):
        raise ValueError(f'stages is {stages} but must be from 1 to the number of layers, {len(schedule)}')
