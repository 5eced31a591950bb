"""A connector before a language model, visual tokens first: the common part of ML-Mamba, EMMA and MaTVLM.

    [pads | connector(features) (B, n, d) | words (B, T, d)] -> language model -> logits (B, T, V)

Logits at word t predict word t + 1. Pads of the words are moved to the front, where they change nothing. A model may
have a system message in front of the visual tokens: TinyLLaVA and MaTVLM do. It is a constant of the config, or, in a
released model, the first `before` words.

Symbols: B batch, n visual tokens, s pieces of the system message, T word pieces, L = s + n + T tokens of the sequence,
    d_vision and d widths, V vocabulary.
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
        ValueError: the widths differ, or a piece of the system message is not in the vocabulary.
    """

    # The connector.
    connector: ConnectorConfig
    # The language model.
    language: LanguageConfig
    # Ids of the system message, which stands in front of the visual tokens.
    system: tuple[int, ...] = ()

    def __post_init__(self):
        if any(not 0 <= piece < self.language.vocabulary for piece in self.system):
            raise ValueError(f'system is {self.system}; give pieces from 0 to {self.language.vocabulary - 1}')
        if self.connector.d != self.language.d:
            raise ValueError(
                f'connector.d is {self.connector.d}; give {self.language.d}, the width of the language model'
            )


class Prompt(NamedTuple):
    """The input sequence of the language model.

    x: (B, L, d), pads first.
    mask: (B, L) bool, False for pads; None = no pads.
    order: (B, n + T) int64, indices in x of the n visual tokens followed by the T words; None = x is in that order.
    """

    x: Tensor
    mask: Tensor | None
    order: Tensor | None

    def ordered(self, values: Tensor) -> Tensor:
        """Return the values (B, n + T, d) of visual tokens and words, in that order, of those (B, L, d) of x."""
        if self.order is None:
            return values
        return values.gather(1, self.order[..., None].expand(-1, -1, values.shape[2]))


class VisualOutput(NamedTuple):
    """Outputs for words after visual tokens.

    logits: (B, T, V).
    hidden: outputs (B, n + T, d) of the layers of `keep`, by index, visual tokens first.
    """

    logits: Tensor
    hidden: dict[int, Tensor]


class VisualLanguageModel(nn.Module):
    """Text about an image from its visual tokens; the image encoder is not part of the model."""

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
        before: int = 0,
    ) -> VisualOutput:
        """Compute logits of words after visual tokens, under teacher forcing.

        Args:
            features: visual tokens (B, n, d_vision), raster order.
            ids: word pieces (B, T) int64, T >= 1.
            mask: (B, T) bool, False for pads, wherever they stand; None = no pads.
            grid: rows and columns of the visual tokens; None takes those of the config.
            keep: indices of language layers whose outputs are returned.
            before: number of words in front of the visual tokens, which they cannot read, from 0 to T.

        Raises:
            ValueError: no words, more visual tokens than the model was built for, or a grid that they do not fill;
                `before` is out of range.
        """
        prompt = self.prompt(features, ids, mask=mask, grid=grid, before=before)
        x, _, hidden = self.language.layers(prompt.x, mask=prompt.mask, keep=keep)
        words = prompt.ordered(x)[:, features.shape[1] :]
        return VisualOutput(self.language.logits(words), {index: prompt.ordered(h) for index, h in hidden.items()})

    def prompt(
        self,
        features: Tensor,
        ids: Tensor,
        *,
        mask: Tensor | None = None,
        grid: tuple[int, int] | None = None,
        before: int = 0,
    ) -> Prompt:
        """Return the sequence of connected visual tokens and words; arguments as forward."""
        if not 0 <= before <= ids.shape[1]:
            raise ValueError(f'before is {before}; give 0 to {ids.shape[1]}, the number of words')
        words = self.language.embed(ids)
        # In the dtype of the weights: under autocast the residual stream stays float32.
        visual = self.connector(features, grid=grid).to(words.dtype)
        system = self.system_message(len(ids))
        x = torch.cat([system, words[:, :before], visual, words[:, before:]], 1)
        place = torch.arange(x.shape[1], device=x.device).expand(x.shape[:2])
        ahead = system.shape[1]
        start, end = ahead + before, ahead + before + visual.shape[1]
        # Where the visual tokens and then the words stand in x.
        place = torch.cat([place[:, start:end], place[:, ahead:start], place[:, end:]], 1)
        if mask is None or bool(mask.all()):
            return Prompt(x, None, place if start else None)
        valid = torch.cat(
            [mask.new_ones(system.shape[:2]), mask[:, :before], mask.new_ones(visual.shape[:2]), mask[:, before:]], 1
        )
        order = valid.int().argsort(stable=True, dim=1)
        return Prompt(
            x.gather(1, order[..., None].expand_as(x)), valid.gather(1, order), order.argsort(1).gather(1, place)
        )

    def system_message(self, count: int) -> Tensor:
        """Return the embedded system message (count, s, d)."""
        like, pieces = next(self.language.parameters()), self.config.system
        if not pieces:
            return like.new_zeros(count, 0, self.config.language.d)
        return self.language.embed(torch.tensor(pieces, device=like.device).expand(count, -1))

    def generate(
        self,
        features: Tensor,
        ids: Tensor,
        *,
        mask: Tensor | None = None,
        grid: tuple[int, int] | None = None,
        before: int = 0,
        sampling: Sampling | None = None,
        generator: torch.Generator | None = None,
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield an answer token by token, ids (B,) and probability (B,); see forward and generation.generate."""
        with torch.no_grad():
            prompt = self.prompt(features, ids, mask=mask, grid=grid, before=before)
        return generate(self.language, prompt.x, mask=prompt.mask, sampling=sampling, generator=generator)
