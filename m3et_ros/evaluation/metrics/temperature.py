"""The temperature that calibrates answers: one number, fitted after training on questions that were not trained on."""

import math

from torch import Tensor
from torch.nn import functional as F

LOWEST, HIGHEST = 0.2, 5.0
"""Range of temperatures."""

STEPS = 40
"""Steps of the search; each narrows the range to 62 %, so that the result is exact to many digits."""


def fit_temperature(logits: Tensor, answers: Tensor) -> float:
    """Return the temperature by which logits are divided for the least cross-entropy (Guo et al. 2017).

    Args:
        logits: scores of the candidate answers, (N, answers).
        answers: position of the right answer of each question, (N,) int64.

    Raises:
        ValueError: there are no questions, or the shapes differ.
    """
    if logits.dim() != 2 or not len(logits) or answers.shape != logits.shape[:1]:
        raise ValueError(
            f'logits are {tuple(logits.shape)} and answers {tuple(answers.shape)}; give (N, answers) and (N,), N > 0'
        )
    logits = logits.double()

    def loss(log_temperature: float) -> float:
        return float(F.cross_entropy(logits / math.exp(log_temperature), answers))

    # Cross-entropy is convex in 1 / temperature, so it has one minimum and a golden section finds it.
    ratio = (math.sqrt(5) - 1) / 2
    low, high = math.log(LOWEST), math.log(HIGHEST)
    left, right = high - ratio * (high - low), low + ratio * (high - low)
    at_left, at_right = loss(left), loss(right)
    for _ in range(STEPS):
        if at_left < at_right:
            high, right, at_right = right, left, at_left
            left = high - ratio * (high - low)
            at_left = loss(left)
        else:
            low, left, at_left = left, right, at_right
            right = low + ratio * (high - low)
            at_right = loss(right)
    return math.exp((low + high) / 2)
