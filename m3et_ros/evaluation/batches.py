"""Helpers of the tasks: batches of samples for a model under evaluation, and scores with intervals as JSON.

Symbols: B batch, n samples.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import nn

from m3et_ros.data.sample import Batch, Sample
from m3et_ros.evaluation.metrics.intervals import Bounds, Interval, Statistic, bootstrap

BATCH = 32
DIGITS = 6
"""Decimals of every reported number."""


@contextmanager
def measured(model: nn.Module) -> Iterator[torch.device]:
    """Put a model into evaluation mode without gradients, yield its device, and restore its mode."""
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            yield next(model.parameters()).device
    finally:
        model.train(was_training)


def in_batches(samples: Iterable[tuple[int, Sample]], batch: int = BATCH) -> Iterator[list[tuple[int, Sample]]]:
    """Yield batches of numbered samples that either all have measured depth or all lack it.

    collate drops depth from a batch in which one sample lacks it, so the two kinds are kept apart.

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
    """Move the named inputs of a batch to a device; the text mask goes with the text."""
    return {name: value.to(device) for name, value in batch.inputs.items() if name.removesuffix('_mask') in names}


def spread(count: int, wanted: int) -> list[int]:
    """Return at most `wanted` evenly spaced positions in 0..count - 1."""
    return sorted(set(np.linspace(0, count - 1, min(count, wanted)).round().astype(int).tolist()))


def cluster_of(sample: Sample) -> str:
    """Return the cluster of a sample for intervals: its kitchen, 'seed 12', or the sample's own key."""
    return sample.key if sample.seed is None else f'seed {sample.seed}'


def scored(
    rows: ArrayLike, statistic: Statistic, clusters: Sequence[str], bounds: Bounds | None = None
) -> dict[str, Any]:
    """Return a statistic of rows (n, k) with its 95 % interval over clusters, as JSON; see intervals.bootstrap."""
    return interval_json(bootstrap(rows, statistic, clusters, bounds=bounds))


def interval_json(interval: Interval, counted: str | None = 'kitchens') -> dict[str, Any]:
    """Convert an interval to JSON, rounded.

    Args:
        interval: the interval.
        counted: key for the number of clusters; None leaves it out.
    """
    found = {'value': rounded(interval.value), 'low': rounded(interval.low), 'high': rounded(interval.high)}
    return found if counted is None else found | {counted: interval.clusters}


def rounded(value: float | None) -> float | None:
    """Round a number to DIGITS decimals; None and numbers that are not finite become None."""
    return None if value is None or not np.isfinite(value) else round(float(value), DIGITS)
