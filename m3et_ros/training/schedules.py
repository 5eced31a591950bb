"""Learning rates as pure functions of the step, so that a resumed run needs nothing but its step."""

import math


def warm_up_cosine(step: int, *, total: int, warm_up: int, peak: float, start: float = 1e-6, end: float = 0.0) -> float:
    """Rise linearly from `start` to `peak`, then fall as half a cosine to `end` (MultiMAE; papers.md, section 1).

    Args:
        step: 0 for the first step; beyond total - 1 the rate stays at `end`.
        total: steps of the whole run.
        warm_up: steps of the rise, less than total; the rate at step `warm_up` is the peak.
        peak: highest rate.
        start: rate of step 0 where there is a rise.
        end: rate that the last step would be followed by.

    Raises:
        ValueError: warm_up is not in 0..total - 1.
    """
    if not 0 <= warm_up < total:
        raise ValueError(f'warm_up is {warm_up} of {total} steps; give 0 to {total - 1}')
    if step < warm_up:
        return start + (peak - start) * step / warm_up
    passed = min(1.0, (step - warm_up) / (total - warm_up))
    return end + (peak - end) * (1 + math.cos(math.pi * passed)) / 2
