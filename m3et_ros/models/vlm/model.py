"""A connector before a language model, visual tokens first: what ML-Mamba, EMMA and MaTVLM have in common.

Symbols: B batch, n visual tokens, T word pieces, L = n + T tokens of the sequence, d_vision and d widths, V vocabulary.
    [pads | connector(features) (B, n, d) | words (B, T, d)] -> language model -> logits (B, T, V)
Logits at word t speak of word t + 1. Pads of the words are moved in front of everything, where they change nothing.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from m3et_ros.models.vlm.connectors import Connector, ConnectorConfig
from m3et_ros.models.vlm.generation import Sampling, generate
from m3et_ros.models.vlm.language_model import LanguageConfig, LanguageModel


@dataclass(frozen=True)
class VisualLanguageConfig:
    """A connector and a language model of one width.

    Raises:
        ValueError: the widths differ.
    """

    # The connector.
    connector: ConnectorConfig
    # The language model.
    language: LanguageConfig

    def __post_init__(self):
        if self.connector.d != self.language.d:
            raise ValueError(
                f'connector.d is {self.connector.d}; give {self.language.d}, the width of the language model'
            )


class Prompt(NamedTuple):
    """A sequence as the language model reads it.

    x: (B, L, d), pads first.
    mask: (B, L) bool, False for pads; None = no pads.
    places: (B, L) int64, where in x stand the n visual tokens and, behind them, the T words; None = as they come.
    """

    x: Tensor
    mask: Tensor | None
    places: Tensor | None

    def ordered(self, values: Tensor) -> Tensor:
        """Bring (B, L, ...) back into the order visual tokens, words."""
        if self.places is None:
            return values
        return values.gather(1, self.places.view(*self.places.shape, 1).expand(-1, -1, values.shape[2]))


class VisualOutput(NamedTuple):
    """What the model says of words behind visual tokens.

    logits: (B, T, V).
    hidden: outputs (B, n + T, d) of the layers asked for, visual tokens first.
    """

    logits: Tensor
    hidden: dict[int, Tensor]


class VisualLanguageModel(nn.Module):
    """Text about what an image encoder has seen; the encoder itself is not part of it."""

    def __init__(self, config: VisualLanguageConfig):
        super().__init__()
        self.config = config
        self.connector = Connector(config.connector)
        self.language = LanguageModel(config.language)

    def forward(
        self,
        features: Tensor,
        ids: Tensor,
        *,
        mask: Tensor | None = None,
        grid: tuple[int, int] | None = None,
        keep: Collection[int] = (),
    ) -> VisualOutput:
        """Read words behind visual tokens, under teacher forcing.

        Args:
            features: visual tokens (B, n, d_vision), raster order.
            ids: word pieces (B, T) int64, T >= 1.
            mask: (B, T) bool, False for pads, wherever they stand; None = no pads.
            grid: rows and columns of the visual tokens; None = those of the config.
            keep: indices of language layers whose outputs are wanted.

        Raises:
            ValueError: no words, more visual tokens than the model was built for, or a grid that they do not fill.
        """
        prompt = self.prompt(features, ids, mask=mask, grid=grid)
        x, _, hidden = self.language.layers(prompt.x, mask=prompt.mask, keep=keep)
        words = prompt.ordered(x)[:, features.shape[1] :]
        return VisualOutput(self.language.logits(words), {place: prompt.ordered(h) for place, h in hidden.items()})

    def prompt(
        self, features: Tensor, ids: Tensor, *, mask: Tensor | None = None, grid: tuple[int, int] | None = None
    ) -> Prompt:
        """Put connected visual tokens before words; arguments as forward."""
        words = self.language.embed(ids)
        # In the dtype of the weights: under autocast the residual stream stays float32.
        seen = self.connector(features, grid=grid).to(words.dtype)
        x = torch.cat([seen, words], 1)
        if mask is None or bool(mask.all()):
            return Prompt(x, None, None)
        valid = torch.cat([mask.new_ones(seen.shape[:2]), mask], 1)
        order = valid.int().argsort(stable=True, dim=1)
        return Prompt(x.gather(1, order[..., None].expand_as(x)), valid.gather(1, order), order.argsort(1))

    def generate(
        self,
        features: Tensor,
        ids: Tensor,
        *,
        mask: Tensor | None = None,
        grid: tuple[int, int] | None = None,
        sampling: Sampling | None = None,
        generator: torch.Generator | None = None,
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield an answer token by token, ids (B,) and probability (B,); see generation.generate and forward."""
        with torch.no_grad():
            prompt = self.prompt(features, ids, mask=mask, grid=grid)
        return generate(self.language, prompt.x, mask=prompt.mask, sampling=sampling, generator=generator)
