"""What both evaluations share: samples in batches for a model that is being measured, and scores with intervals.

Symbols: B batch, n samples.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import nn

from m3et_ros.data.sample import Batch, Sample
from m3et_ros.evaluation.metrics.intervals import Interval, Statistic, bootstrap

BATCH = 32
DIGITS = 6
"""Decimals of every number that is reported."""

KITCHEN = re.compile(r'seed \d+')


@contextmanager
def measured(model: nn.Module) -> Iterator[torch.device]:
    """Put a model into evaluation mode without gradients, and back; yields its device."""
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            yield next(model.parameters()).device
    finally:
        model.train(was_training)


def in_batches(samples: Iterable[tuple[int, Sample]], batch: int = BATCH) -> Iterator[list[tuple[int, Sample]]]:
    """Batches of numbered samples that either all have measured depth or all lack it.

    collate leaves depth out of a batch in which one sample lacks it; no sample may suffer from its neighbours.

    Raises:
        ValueError: batch is below 1.
    """
    if batch < 1:
        raise ValueError(f'batch is {batch}; give at least 1')
    waiting: dict[bool, list[tuple[int, Sample]]] = {True: [], False: []}
    for number, sample in samples:
        group = waiting[sample.depth is not None and bool(np.isfinite(sample.depth).any())]
        group.append((number, sample))
        if len(group) == batch:
            yield group[:]
            group.clear()
    yield from (group for group in waiting.values() if group)


def shown_inputs(batch: Batch, names: Sequence[str], device: torch.device) -> dict[str, torch.Tensor]:
    """Those inputs of a batch that are to be shown, on a device; the mask goes with the text."""
    return {name: value.to(device) for name, value in batch.inputs.items() if name.removesuffix('_mask') in names}


def kitchen_of(key: str) -> str:
    """What resembles each other: 'seed 12' of 'seed 12 tick 70', else the key itself."""
    found = KITCHEN.match(key)
    return found[0] if found else key


def scored(rows: ArrayLike, statistic: Statistic, kitchens: Sequence[str]) -> dict[str, Any]:
    """A statistic of rows (n, k) with its 95 % interval over kitchens, ready for JSON; see intervals.bootstrap."""
    return told(bootstrap(rows, statistic, kitchens))


def told(interval: Interval) -> dict[str, Any]:
    """An interval as JSON has it, rounded."""
    return {
        'value': rounded(interval.value),
        'low': rounded(interval.low),
        'high': rounded(interval.high),
        'kitchens': interval.clusters,
    }


def rounded(value: float | None) -> float | None:
    """A number with as many decimals as are reported; None for none and for what is not finite."""
    return None if value is None or not np.isfinite(value) else round(float(value), DIGITS)
