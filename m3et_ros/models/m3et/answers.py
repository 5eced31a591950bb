"""The answer head that knows where the nouns of a question are, and answers that are sums of parts.

With parts the score of 'red bowl' is that of red plus that of a bowl plus that of a coloured thing in general, so a
pair that training never showed has a score that training has shaped. The parts of each answer are a matrix, which
follows from the words of the answers (data.answer_parts) and belongs to the weights.

Symbols: R rows (questions), A answers, P parts, C of them read from the look, d width.
"""

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from m3et_ros.layers.attention import EPS
from m3et_ros.models.m3et.config import M3ETConfig
from m3et_ros.models.m3et.decoders import AnswerHead
from m3et_ros.models.m3et.readout import PLACE, SLOTS, standardised

PRODUCTS = 32
"""Products of what a question asks and how its places compare."""


class LookReader(nn.Module):
    """Scores of C parts, in use colours, from the look alone: (R, 2 * d) -> (R, C).

    The encoder's outputs know the noun, too, so they are read linearly: a hidden layer could learn that a bowl is never
    red. The bare colour tokens hardly do, and have one.
    """

    def __init__(self, *, d: int, parts: int):
        super().__init__()
        self.encoded = nn.Linear(d, parts)
        self.bare = nn.Sequential(nn.LayerNorm(d, eps=EPS), nn.Linear(d, d), nn.GELU(), nn.Linear(d, parts, bias=False))

    def forward(self, look: Tensor) -> Tensor:
        """Return scores (R, C) of a look (R, 2 * d): mean output of the encoder, then mean bare colour token."""
        encoded, bare = look.chunk(2, -1)
        return self.encoded(encoded) + self.bare(bare)


class PlacedAnswerHead(nn.Module):
    """Scores of candidate answers from the global token, the places of two nouns and, for some parts, the look.

    'Is it left of ..?' and 'Is it right of ..?' have opposite answers for the same places, so the answer is a product:
    of what is asked, from the token, and of how the places compare. Given such products, a head learns it from fewer
    questions than a hidden layer alone needs.
    """

    parts: Tensor | None

    def __init__(self, *, d: int, answers: int, parts: int = 0, looks: int = 0):
        super().__init__()
        numbers = (SLOTS + 1) * PLACE
        self.asked = nn.Linear(d, PRODUCTS)
        self.compared = nn.Linear(numbers, PRODUCTS)
        self.layers = nn.Sequential(
            nn.Linear(d + numbers + PRODUCTS, 2 * d),
            nn.GELU(),
            nn.LayerNorm(2 * d, eps=EPS),
            nn.Linear(2 * d, parts - looks if parts else answers),
        )
        self.look = LookReader(d=d, parts=looks) if looks else None
        matrix = None
        if parts:
            # Until the words of the answers are known, each answer has one part of either kind.
            rows = torch.arange(answers)
            matrix = F.one_hot(rows % (parts - looks), parts)
            if looks:
                matrix = matrix + F.one_hot(parts - looks + rows % looks, parts)
            matrix = matrix.float()
        self.register_buffer('parts', matrix)

    def forward(self, token: Tensor, places: Tensor, look: Tensor | None) -> Tensor:
        """Return logits (R, A).

        Args:
            token: global token, (R, d).
            places: Encoded.places, (R, 2, 7).
            look: Encoded.look, (R, 2 * d); None in a head without parts that are read from it.
        """
        scores = self.part_scores(token, places, look)
        return scores if self.parts is None else F.linear(scores, self.parts)

    def part_scores(self, token: Tensor, places: Tensor, look: Tensor | None) -> Tensor:
        """Return the scores of the parts, (R, P), those read from the look last; the logits where there are none."""
        first, second = standardised(places).to(token.dtype).unbind(1)
        numbers = torch.cat([first, second, first - second], 1)
        products = self.asked(token) * self.compared(numbers).tanh()
        scores = self.layers(torch.cat([token, numbers, products], 1))
        if self.look is None:
            return scores
        if look is None:
            raise ValueError('this head reads colours from what is looked at; give the look')
        return torch.cat([scores, self.look(look.to(token.dtype)).to(scores.dtype)], 1)

    @torch.no_grad()
    def set_parts(self, matrix: Tensor) -> None:
        """Set which parts each answer has, (A, P) of 0 and 1.

        Raises:
            ValueError: the shape is not that of the head.
        """
        if self.parts is None or matrix.shape != self.parts.shape:
            wanted = None if self.parts is None else tuple(self.parts.shape)
            raise ValueError(f'the parts are {tuple(matrix.shape)} and those of the head {wanted}; give the same')
        self.parts.copy_(matrix)

    @torch.no_grad()
    def answer_bias(self) -> Tensor:
        """Return the sum of the biases of the parts of each answer, (A,)."""
        bias: Tensor = self._output.bias
        if self.look is not None:
            bias = torch.cat([bias, self.look.encoded.bias])
        return bias if self.parts is None else self.parts @ bias

    @torch.no_grad()
    def set_answer_bias(self, bias: float) -> None:
        """Set the biases of the parts so that they sum up to `bias` for each answer, as nearly as they can."""
        own = self._output.bias
        if self.parts is None:
            own.fill_(bias)
            return
        found = torch.linalg.pinv(self.parts.float()) @ self.parts.new_full((len(self.parts),), bias)
        own.copy_(found[: len(own)])
        if self.look is not None:
            self.look.encoded.bias.copy_(found[len(own) :])

    @property
    def _output(self) -> nn.Linear:
        return cast(nn.Linear, self.layers[-1])


def build_answer_head(config: M3ETConfig) -> AnswerHead | PlacedAnswerHead | None:
    """Return the answer head of a config; None where it has no answers."""
    if not config.answers:
        return None
    if not config.places:
        return AnswerHead(d=config.d, answers=config.answers)
    return PlacedAnswerHead(d=config.d, answers=config.answers, parts=config.answer_parts, looks=config.look_parts)
