"""Language models on the causal hybrid stack: Mamba-1, Mamba-2, Phi-2, MaTVLM's mixture (docs/papers.md 4 to 6).

    x (B, L) int64 word pieces or (B, L, d) vectors -> layers -> norm -> logits (B, L, V) of the next token

Letters of a schedule, one per layer (layers.causal):
    M   y = x + Mamba2(RMSNorm x)
    O   y = x + Mamba1(RMSNorm x)
    T   y = x + Attention(LN x) + MLP(LN x), the parallel block of Phi
    S   y = x + Mamba2(LN x) + MLP(LN x), the same block with attention-shaped Mamba-2 (MaTVLM)

States, one per layer: M, O and S layers hold states of one size for any length of the sequence; T layers hold keys and
values.

Symbols: B batch, L tokens, d width, V vocabulary, H query heads, P channels of a head, N states of a channel.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from m3et_ros.layers.causal import LETTERS, CausalState, LanguageStack, StackSizes
from m3et_ros.models.config_checks import check_choice, check_divides, check_number, check_switch, check_whole

RANGES = {
    'vocabulary': (2, 1_000_000),
    'd': (1, 65536),
    'heads': (1, 1024),
    'kv_heads': (0, 1024),
    'channels': (0, 4096),
    'hidden': (1, 262_144),
    'expand': (1, 16),
    'N': (1, 4096),
    'P': (1, 4096),
    'G': (1, 1024),
    'd_conv': (1, 64),
    'chunk': (1, 4096),
}


@dataclass(frozen=True)
class LanguageConfig:
    """Sizes and switches of one language model; the defaults are tiny, for tests and robots.

    Raises:
        ValueError: a field is out of range; the message names field, value and range.
    """

    # Name of the model.
    name: str = 'tiny'
    # Word pieces in the table, unused ones included.
    vocabulary: int = 512
    # Width.
    d: int = 64
    # One letter per layer: M Mamba-2, O Mamba-1, T parallel block with attention, S the same with attention-shaped
    # Mamba-2.
    schedule: str = 'MMMM'
    # Query heads of T and S layers; divides d where there are such layers.
    heads: int = 4
    # Key heads of T and S layers, a divisor of heads; 0 = heads.
    kv_heads: int = 0
    # Rotary channels of a head in T layers, even; 0 = no positions.
    channels: int = 0
    # Base of the rotary wavelengths, from 1.001.
    base: float = 10000.0
    # Width inside the MLP of T and S layers.
    hidden: int = 256
    # Share of a branch's values that T and S layers drop in training, from 0 to 0.99.
    dropout: float = 0.0
    # Inner width of M and O layers as a multiple of d.
    expand: int = 2
    # States of a channel in M and O layers.
    N: int = 16
    # Channels of a head in M layers; divides expand * d where there are such layers.
    P: int = 16
    # Groups of heads that share B and C in M layers; divides their heads, expand * d / P.
    G: int = 1
    # Length of the causal convolutions.
    d_conv: int = 4
    # Longest chunk of a scan, tokens.
    chunk: int = 64
    # Norm before the head: 'rms' (Mamba) or 'layer' (Phi).
    norm: str = 'rms'
    # Added to variances by every norm, from 1e-12 to 0.1.
    eps: float = 1e-5
    # True computes logits with the word table.
    tied: bool = True
    # True gives the head a bias.
    head_bias: bool = False

    def __post_init__(self):
        check_whole(self, RANGES)
        check_number(self, {'base': (1.001, 1e12), 'dropout': (0, 0.99), 'eps': (1e-12, 0.1)})
        check_choice(self, {'norm': ('rms', 'layer')})
        check_switch(self, 'tied', 'head_bias')
        letters = self.schedule
        if not isinstance(letters, str) or not 1 <= len(letters) <= 1024 or set(letters) - set(LETTERS):
            raise ValueError(f'schedule is {letters!r}; give 1 to 1024 letters out of {", ".join(LETTERS)}')
        self._check_divisions()

    def _check_divisions(self):
        if set('TS') & set(self.schedule):
            check_divides(self, 'heads', self.d, 'd')
            check_divides(self, 'kv_heads', self.heads, 'heads', value=self.kv_heads or self.heads)
            if self.channels % 2 or self.channels > self.d // self.heads:
                raise ValueError(
                    f'channels is {self.channels}; give an even number up to the {self.d // self.heads} '
                    'channels of a head'
                )
        if 'M' in self.schedule:
            check_divides(self, 'P', self.expand * self.d, 'expand * d')
            check_divides(self, 'G', self.expand * self.d // self.P, 'the heads of M layers')

    @property
    def sizes(self) -> StackSizes:
        """Return the sizes of the layers."""
        values = {f.name: getattr(self, f.name) for f in fields(StackSizes)}
        return StackSizes(**values | {'kv_heads': self.kv_heads or self.heads})


class LanguageOutput(NamedTuple):
    """Outputs of a language model.

    logits: (B, L, V), or those of the last positions alone.
    states: one per layer, after the sequence; None where they were not asked for.
    hidden: outputs (B, L, d) of the layers of `keep`, by index.
    """

    logits: Tensor
    states: tuple[CausalState, ...] | None
    hidden: dict[int, Tensor]


class LanguageModel(nn.Module):
    """Word table, layers, norm and head of one config."""

    def __init__(self, config: LanguageConfig):
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocabulary, config.d)
        nn.init.normal_(self.embedding.weight, std=0.02)
        self.layers = LanguageStack(config.schedule, config.sizes)
        self.norm = (nn.RMSNorm if config.norm == 'rms' else nn.LayerNorm)(config.d, eps=config.eps)
        self.head = None if config.tied else nn.Linear(config.d, config.vocabulary, bias=False)
        self.head_bias = nn.Parameter(torch.zeros(config.vocabulary)) if config.head_bias else None

    def forward(
        self,
        x: Tensor,
        *,
        mask: Tensor | None = None,
        states: Sequence[CausalState] | None = None,
        return_states: bool = False,
        keep: Collection[int] = (),
        last: int | None = None,
    ) -> LanguageOutput:
        """Compute logits of a sequence, or of its next part.

        Args:
            x: (B, L) int64 word pieces, or (B, L, d) vectors, L >= 1.
            mask: (B, L) bool, False for pads, which come before the words; no pads with states.
            states: after the tokens before x; None = x is the beginning.
            return_states: also return the states after x.
            keep: indices of layers whose outputs are returned.
            last: number of positions at the end whose logits are computed; None = all.

        Raises:
            ValueError: an empty sequence, word pieces outside the table, vectors of another width, pads behind words,
                or pads in a sequence that goes on from states.
        """
        if mask is not None:
            check_pads_first(mask)
            if states is not None:
                check_no_pads(mask)
        x, after, hidden = self.layers(self.embed(x), mask=mask, states=states, return_states=return_states, keep=keep)
        return LanguageOutput(self.logits(x if last is None else x[:, -last:]), after, hidden)

    def embed(self, x: Tensor) -> Tensor:
        """Return vectors (B, L, d) of word pieces (B, L), or vectors as they are; raises as forward."""
        if not x.shape[1]:
            raise ValueError('the prompt is empty; give at least one token')
        if x.is_floating_point():
            if x.dim() != 3 or x.shape[2] != self.config.d:
                raise ValueError(f'the vectors are {tuple(x.shape)}; give (batch, tokens, {self.config.d})')
            return x
        # A compiler must not trace the comparison, and tensors on the meta device have no values.
        traced = torch.compiler.is_compiling() or x.is_meta
        if not traced and x.numel() and (int(x.min()) < 0 or int(x.max()) >= self.config.vocabulary):
            raise ValueError(
                f'the word pieces run from {int(x.min())} to {int(x.max())}; give 0 to '
                f'{self.config.vocabulary - 1}, which the table holds'
            )
        return self.embedding(x)

    def logits(self, x: Tensor) -> Tensor:
        """Return logits (..., V) of the next word piece from layer outputs (..., d)."""
        return F.linear(self.norm(x), self.embedding.weight if self.head is None else self.head.weight, self.head_bias)


def check_pads_first(mask: Tensor) -> None:
    """Refuse words (B, L) whose pads, False in the mask, do not all stand in front of the words.

    Raises:
        ValueError: a pad stands behind a word.
    """
    traced = torch.compiler.is_compiling() or mask.is_meta
    if not traced and bool((mask[:, :-1] & ~mask[:, 1:]).any()):
        raise ValueError('pads stand behind words; put them in front, where the next word does not meet them')


def check_no_pads(mask: Tensor) -> None:
    """Refuse pads, False in the mask (B, L), in a sequence that goes on from states.

    Raises:
        ValueError: there is a pad; it would stand between two words, for positions and for the convolution.
    """
    traced = torch.compiler.is_compiling() or mask.is_meta
    if not traced and not bool(mask.all()):
        raise ValueError(
            'pads stand between the words before and these; give sequences of one length, or each by itself, because '
            'positions and convolutions go on from the last word'
        )


# state-spaces/mamba2-2.7b; its 50,277 word pieces are filled up to a multiple of 16.
MAMBA2_2B7 = LanguageConfig(name='mamba2_2.7b', vocabulary=50288, d=2560, schedule='M' * 64, N=128, P=64, chunk=256)
# microsoft/phi-2.
PHI2 = LanguageConfig(
    name='phi2',
    vocabulary=51200,
    d=2560,
    schedule='T' * 32,
    heads=32,
    channels=32,
    hidden=10240,
    dropout=0.1,
    norm='layer',
    tied=False,
    head_bias=True,
)
TINY_MAMBA = LanguageConfig(name='tiny_mamba')
TINY_PHI = LanguageConfig(name='tiny_phi', schedule='TTTT', channels=8, norm='layer', tied=False, head_bias=True)
