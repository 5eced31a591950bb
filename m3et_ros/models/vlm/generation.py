"""Text from a language model, token by token: greedy, or sampled from the likeliest tokens (top-p, Holtzman 2020).

The prompt is encoded once; every further token costs one step of the layers, in Mamba layers with constant memory.

Symbols: B batch, L tokens of the prompt, V vocabulary, d width.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from m3et_ros.layers.causal import CausalState
from m3et_ros.models.config_checks import check_number, check_whole
from m3et_ros.models.vlm.language_model import LanguageModel, check_pads_first


@dataclass(frozen=True)
class Sampling:
    """The choice of the next token, and where an answer ends.

    Raises:
        ValueError: a field is out of range; the message names field, value and range.
    """

    # Longest answer in tokens, from 1 to 65536.
    max_tokens: int = 64
    # Tokens that end an answer; they are not part of it.
    stop: tuple[int, ...] = ()
    # 0 takes the likeliest token; above 0, logits are divided by it before a token is drawn. At most 100.
    temperature: float = 0.0
    # Draw among the fewest likeliest tokens whose probabilities reach this sum, from 1e-6 to 1.
    top_p: float = 1.0

    def __post_init__(self):
        object.__setattr__(self, 'stop', tuple(self.stop))
        check_whole(self, {'max_tokens': (1, 65536)})
        check_number(self, {'temperature': (0, 100), 'top_p': (1e-6, 1)})
        if not all(isinstance(token, int) and not isinstance(token, bool) and token >= 0 for token in self.stop):
            raise ValueError(f'stop is {self.stop!r}; give ids of word pieces, whole numbers from 0')


def generate(
    model: LanguageModel,
    prompt: Tensor,
    *,
    mask: Tensor | None = None,
    sampling: Sampling | None = None,
    generator: torch.Generator | None = None,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield an answer token by token, each computed only when asked for: ids (B,) int64, probability (B,).

    The probability is that of the model, before temperature and top-p. A sample that has ended repeats its stop token
    with probability 1; the step at which the last sample ends is not yielded.

    Args:
        model: in eval mode if it has dropout.
        prompt: (B, L) int64 word pieces or (B, L, d) vectors, L >= 1.
        mask: (B, L) bool, False for pads; pads come first.
        sampling: None = greedy, 64 tokens, no stop token.
        generator: generator of the random draws; None = torch's global one.

    Raises:
        ValueError: an empty prompt, a sample that is all pads, or pads behind words.
    """
    if not prompt.shape[1]:
        raise ValueError('the prompt is empty; give at least one token')
    if mask is not None and not bool(mask.any(1).all()):
        raise ValueError('a prompt of the batch holds pads only; give each at least one token')
    if mask is not None:
        check_pads_first(mask)
    return _steps(model, prompt, mask, sampling or Sampling(), generator)


def collect_answers(steps: Iterator[tuple[Tensor, Tensor]], batch: int, stop: tuple[int, ...]) -> list[list[int]]:
    """Return whole answers from the steps of `generate`: one list of ids per sample, cut before its stop token.

    Args:
        steps: iterator that `generate` returns.
        batch: number of samples B.
        stop: tokens that end an answer.
    """
    answers: list[list[int]] = [[] for _ in range(batch)]
    ended = [False] * batch
    for ids, _ in steps:
        for row, token in enumerate(ids.tolist()):
            ended[row] = ended[row] or token in stop
            if not ended[row]:
                answers[row].append(token)
    return answers


def choose(logits: Tensor, sampling: Sampling, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
    """Choose a token from logits (B, V): ids (B,) int64, and the probability (B,) that the model gives them."""
    probabilities = logits.float().softmax(-1)
    if sampling.temperature == 0:
        best, token = probabilities.max(-1)
        return token, best
    drawn = (logits.float() / sampling.temperature).softmax(-1)
    if sampling.top_p < 1:
        # The fewest likeliest tokens whose sum reaches top_p; the likeliest always stays.
        ordered, order = drawn.sort(-1, descending=True)
        before = ordered.cumsum(-1) - ordered
        drawn = torch.zeros_like(drawn).scatter(-1, order, ordered.masked_fill(before >= sampling.top_p, 0))
    token = torch.multinomial(drawn, 1, generator=generator)
    return token[:, 0], probabilities.gather(1, token)[:, 0]


def _steps(
    model: LanguageModel, x: Tensor, mask: Tensor | None, sampling: Sampling, generator: torch.Generator | None
) -> Iterator[tuple[Tensor, Tensor]]:
    stop = torch.tensor(sampling.stop, dtype=torch.int64, device=x.device)
    ended = torch.zeros(len(x), dtype=torch.bool, device=x.device)
    token = torch.zeros(len(x), dtype=torch.int64, device=x.device)
    states: tuple[CausalState, ...] | None = None
    for _ in range(sampling.max_tokens):
        with torch.no_grad():
            if states is not None:
                x = model.embedding(x)  # chosen by the model: the check of its range would make a GPU wait
            output = model(x, mask=mask, states=states, return_states=True, last=1)
        drawn, probability = choose(output.logits[:, -1], sampling, generator)
        token, probability = torch.where(ended, token, drawn), probability.masked_fill(ended, 1.0)
        ended = ended | torch.isin(token, stop)
        if bool(ended.all()):
            return
        yield token, probability
        x, mask, states = token[:, None], None, output.states
