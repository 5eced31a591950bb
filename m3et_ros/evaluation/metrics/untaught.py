"""The bonus of answers that training never gave: calibrated stacking (Chao et al., ECCV 2016).

A combination that training leaves out, as "red bowl", is a candidate of every question and right of none, so training
lowers its score although it is the sum of parts that are well known. The bonus makes up for that.
"""

import torch
from torch import Tensor

HIGHEST, STEP = 6.0, 0.25
"""Largest bonus and the difference between two that are tried, in logits."""

COST = 0.005
"""Share of the questions with taught answers that the bonus may turn from right to wrong, on balance."""


def fit_bonus(logits: Tensor, answers: Tensor, untaught: Tensor) -> float:
    """Return the largest bonus that costs at most COST of the accuracy on questions whose answers were taught.

    Such questions alone decide, so nothing is learnt from the combinations that are left out.

    Args:
        logits: scores of the candidate answers, (N, answers).
        answers: position of the right answer of each question, (N,) int64.
        untaught: True for answers that training never gave to such a question, (N, answers) bool.
    """
    taught = ~untaught[torch.arange(len(answers)), answers]
    logits, answers, untaught = logits[taught], answers[taught], untaught[taught]
    if not untaught.any():
        return 0.0

    def right(bonus: float) -> float:
        return float(((logits + bonus * untaught).argmax(-1) == answers).float().mean())

    least, bonus = right(0.0) - COST, 0.0
    while bonus + STEP <= HIGHEST and right(bonus + STEP) >= least:
        bonus += STEP
    return bonus
