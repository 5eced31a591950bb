"""Text from a language model, word piece by word piece: greedy, or drawn from the likeliest (top-p, Holtzman 2020).

Symbols: B batch, L tokens of the prompt, V vocabulary, d width.
The prompt is read once; every further token costs one step of the layers, in Mamba layers at constant memory.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from m3et_ros.models.config_checks import check_number, check_whole
from m3et_ros.models.vlm.language_model import LanguageModel, LanguageOutput


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen, and when to stop.

    Raises:
        ValueError: a field is out of range; the message names field, value and range.
    """

    # Most tokens of an answer, from 1 to 65536.
    max_tokens: int = 64
    # Tokens that end an answer; they are not part of it.
    stop: tuple[int, ...] = ()
    # 0 takes the likeliest token; above, logits are divided by it before one is drawn. At most 100.
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

    The probability is the model's own, before temperature and top-p, of the token given those before it. A sample that
    has ended goes on with its stop token at probability 1; once all have, the iterator ends without that step.

    Args:
        model: put into eval mode by the caller where it drops values in training.
        prompt: (B, L) int64 word pieces or (B, L, d) vectors, L >= 1.
        mask: (B, L) bool, False for pads; pads stand in front.
        sampling: None = greedy, 64 tokens, no stop token.
        generator: of the draws; None = torch's own.

    Raises:
        ValueError: an empty prompt, a sample that is all pads, or pads behind words.
    """
    sampling = sampling or Sampling()
    _check_prompt(prompt, mask)
    return _generate(model, prompt, mask, sampling, generator)


def complete(
    model: LanguageModel,
    prompt: Tensor,
    *,
    mask: Tensor | None = None,
    sampling: Sampling | None = None,
    generator: torch.Generator | None = None,
) -> list[list[int]]:
    """Whole answers, one list of ids a sample, without the stop tokens; arguments as generate."""
    return whole(
        generate(model, prompt, mask=mask, sampling=sampling, generator=generator),
        len(prompt),
        (sampling or Sampling()).stop,
    )


def whole(steps: Iterator[tuple[Tensor, Tensor]], batch: int, stop: tuple[int, ...]) -> list[list[int]]:
    """Gather what generate yields: one list of ids a sample, cut before its stop token."""
    answers, ended = [[] for _ in range(batch)], [False] * batch
    for ids, _ in steps:
        for row, token in enumerate(ids.tolist()):
            ended[row] = ended[row] or token in stop
            if not ended[row]:
                answers[row].append(token)
    return answers


def choose(logits: Tensor, sampling: Sampling, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
    """Token (B,) int64 chosen from logits (B, V), and the probability (B,) that the model gives it."""
    probabilities = logits.float().softmax(-1)
    if sampling.temperature == 0:
        best, token = probabilities.max(-1)
        return token, best
    drawn = (logits.float() / sampling.temperature).softmax(-1)
    if sampling.top_p < 1:
        drawn = _likeliest(drawn, sampling.top_p)
    token = torch.multinomial(drawn, 1, generator=generator)
    return token[:, 0], probabilities.gather(1, token)[:, 0]


def _likeliest(probabilities: Tensor, top_p: float) -> Tensor:
    """Zero out all (B, V) but the fewest likeliest whose sum reaches top_p; the likeliest always stays."""
    ordered, order = probabilities.sort(-1, descending=True)
    before = ordered.cumsum(-1) - ordered
    return torch.zeros_like(probabilities).scatter(-1, order, ordered.masked_fill(before >= top_p, 0))


def _check_prompt(prompt: Tensor, mask: Tensor | None) -> None:
    if not prompt.shape[1]:
        raise ValueError('the prompt is empty; give at least one token')
    if mask is None:
        return
    if not bool(mask.any(1).all()):
        raise ValueError('a prompt of the batch holds pads only; give each at least one token')
    if bool((mask[:, :-1] & ~mask[:, 1:]).any()):
        raise ValueError('pads stand behind words; put them in front, where generation does not meet them')


def _generate(
    model: LanguageModel, x: Tensor, mask: Tensor | None, sampling: Sampling, generator: torch.Generator | None
) -> Iterator[tuple[Tensor, Tensor]]:
    stop = torch.tensor(sampling.stop, dtype=torch.int64, device=x.device)
    ended = torch.zeros(len(x), dtype=torch.bool, device=x.device)
    token, states = torch.zeros(len(x), dtype=torch.int64, device=x.device), None
    for _ in range(sampling.max_tokens):
        output = _read(model, x, mask, states)
        drawn, probability = choose(output.logits[:, -1], sampling, generator)
        token, probability = torch.where(ended, token, drawn), probability.masked_fill(ended, 1.0)
        ended = ended | torch.isin(token, stop)
        if bool(ended.all()):
            return
        yield token, probability
        x, mask, states = token[:, None], None, output.states


@torch.no_grad()
def _read(model: LanguageModel, x: Tensor, mask: Tensor | None, states: tuple | None) -> LanguageOutput:
    if states is not None:
        x = model.embedding(x)  # the model's own choice needs no look at its range, for which a GPU would have to stop
    return model(x, mask=mask, states=states, return_states=True, last=1)
