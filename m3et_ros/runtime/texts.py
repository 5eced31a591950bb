"""Text from the steps of a model that writes token by token."""

from collections.abc import Callable, Iterator

import torch


def texts(
    steps: Iterator[tuple[torch.Tensor, torch.Tensor]], decode: Callable[[list[int]], str]
) -> Iterator[tuple[str, float]]:
    """Yield (text so far, probability of its newest token) for each step, computed when it is asked for.

    Args:
        steps: ids (1,) int64 and probabilities (1,) of a model's generate.
        decode: turns the ids so far into text.
    """
    tokens: list[int] = []
    while True:
        # Inference mode is entered for each step: between steps the caller's code runs.
        with torch.inference_mode():
            step = next(steps, None)
        if step is None:
            return
        ids, probability = step
        tokens.append(int(ids[0]))
        yield decode(tokens), float(probability[0])
