"""EMMA's loss beside that of the text: how far a predicted image is from the one that was seen (papers.md, section 5).

Symbols: B batch, n visual tokens, d width of a target.
"""

from torch import Tensor

REDUCTIONS = ('mean', 'sum_1e-5')


def alignment_loss(predicted: Tensor, target: Tensor, *, reduction: str = 'mean') -> Tensor:
    """Squared error of (B, n, d) tensors in one order.

    'mean' does not depend on sizes; 'sum_1e-5' is the published sum times 1e-5, 1e-5 B n d times as large.

    Raises:
        ValueError: shapes that differ, or an unknown reduction.
    """
    if predicted.shape != target.shape:
        raise ValueError(f'the prediction is {tuple(predicted.shape)} and the target {tuple(target.shape)}; give '
                         'two of one shape')
    if reduction not in REDUCTIONS:
        raise ValueError(f'reduction is {reduction!r}; give one of {", ".join(REDUCTIONS)}')
    errors = (predicted.float() - target.float()).square()
    return errors.mean() if reduction == 'mean' else 1e-5 * errors.sum()


def alignment_weight(step: int, *, steps_per_epoch: int, weight: float = 1.0, warm_up: float = 0.1) -> float:
    """Weight of the loss at a step: rises linearly from 0 over `warm_up` epochs and then stays."""
    rise = warm_up * steps_per_epoch
    return weight if step >= rise else weight * step / rise
