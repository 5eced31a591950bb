"""What decides the result of a run: the plan that recipes fill in, and the order of the samples."""

import functools
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from m3et_ros.training.optim import OPTIMISERS, warm_up_cosine


@dataclass(frozen=True)
class Recipe(ABC):
    """What decides the result of a run, besides model, data and seed.

    Raises:
        ValueError: a field is out of range; the message names field, value and range.
    """

    # Samples seen in the whole run, repeats counted; the last incomplete step is left out.
    samples: int = 800_000
    # Samples of one step of the optimiser, over all processes.
    batch: int = 64
    # Micro-batches into which every process cuts its share of a step, to save memory.
    accumulate: int = 1
    # Highest learning rate. MultiMAE's 1e-4 * batch / 256 is for 1,600 epochs; a short run of a small model needs more.
    lr: float = 6e-4
    # 'adamw' (the papers), or 'muon' for the matrices between hidden layers beside it (optim.build_optimiser).
    optimiser: str = 'adamw'
    # Share of the steps in which the rate rises from 1e-6.
    warm_up: float = 0.05
    # Weight decay of AdamW (MultiMAE).
    weight_decay: float = 0.05
    # Factor on the learning rate from each encoder layer to the one below; 1 treats all alike.
    layer_decay: float = 1.0
    # Factor on the learning rate of the encoder as a whole.
    encoder_scale: float = 1.0
    # Gradients are scaled down to this norm.
    clip: float = 1.0
    # Decay per step of the averaged weights that are delivered at the end; 0 delivers the last weights.
    average: float = 0.0

    def __post_init__(self):
        for name in ('samples', 'batch', 'accumulate'):
            if isinstance(value := getattr(self, name), bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f'{name} is {value!r}; give a whole number from 1')
        for name, low, high in (('lr', 0, 1), ('clip', 0, math.inf), ('layer_decay', 0, 1), ('encoder_scale', 0, 1)):
            if not low < (value := getattr(self, name)) <= high:
                raise ValueError(f'{name} is {value!r}; give a number above {low} and at most {high}')
        for name in ('warm_up', 'weight_decay', 'average'):
            if not 0 <= (value := getattr(self, name)) < 1:
                raise ValueError(f'{name} is {value!r}; give a number from 0 to less than 1')
        if self.optimiser not in OPTIMISERS:
            raise ValueError(f'optimiser is {self.optimiser!r}; give one of {", ".join(OPTIMISERS)}')
        if self.samples < self.batch:
            raise ValueError(f'samples is {self.samples}; give at least one batch of {self.batch}')

    @property
    def steps(self) -> int:
        """Steps of the whole run."""
        return self.samples // self.batch

    def rate(self, step: int) -> float:
        """Learning rate of a step."""
        return warm_up_cosine(step, total=self.steps, warm_up=int(self.warm_up * self.steps), peak=self.lr)

    @abstractmethod
    def losses(self, model: nn.Module, batch: Mapping[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        """Return named losses, weighted, whose sum is to fall.

        Args:
            model: an M3ET in training mode.
            batch: tensors by name, on the device of the model.
            generator: on the CPU, the only source of randomness.
        """


@dataclass(frozen=True)
class Order:
    """Which samples each step takes: a new shuffle every epoch, the last incomplete step of an epoch left out.

    Where the data set is made of several, each step takes samples of one of them: what one has (labels, depth,
    questions) another may lack, and a batch shows one set of modalities. The steps of all come in a shuffled order.
    """

    # Samples of the data set.
    count: int
    # Samples of a step.
    batch: int
    # Of the shuffles.
    seed: int
    # Samples of each of the data sets that stand one after the other in this one; empty for a single one.
    parts: tuple[int, ...] = ()

    def __post_init__(self):
        if self.parts and sum(self.parts) != self.count:
            raise ValueError(f'parts is {self.parts}; give numbers whose sum is count, {self.count}')
        if min((self.count, *self.parts)) < self.batch:
            raise ValueError(
                f'count is {self.count} and parts {self.parts}; give at least one batch of {self.batch} samples each'
            )

    @property
    def length(self) -> int:
        """Steps of an epoch."""
        return sum(count // self.batch for count in self.parts or (self.count,))

    def step(self, step: int) -> list[int]:
        """Return the sample numbers of a step, counted from 0 over the whole run."""
        epoch, place = divmod(step, self.length)
        if len(self.parts) > 1:
            return _mixed(self.parts, self.batch, self.seed, epoch)[place]
        return _shuffled(self.count, self.seed, epoch)[place * self.batch : (place + 1) * self.batch]

    def epochs(self, start: int, end: int) -> Iterator[tuple[int, range]]:
        """Cut the steps start..end - 1 at the ends of the epochs: yield the epoch and its steps."""
        while start < end:
            epoch = start // self.length
            stop = min(end, (epoch + 1) * self.length)
            yield epoch, range(start, stop)
            start = stop

    def shares(self, steps: range, *, rank: int, world: int, accumulate: int) -> Iterator[list[int]]:
        """Yield the micro-batches of one process."""
        size = self.batch // (world * accumulate)
        for step in steps:
            ids = self.step(step)
            for micro in range(accumulate):
                start = (micro * world + rank) * size
                yield ids[start : start + size]


@functools.lru_cache(maxsize=2)
def _shuffled(count: int, seed: int, epoch: int) -> list[int]:
    generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
    return torch.randperm(count, generator=generator).tolist()


@functools.lru_cache(maxsize=2)
def _mixed(parts: tuple[int, ...], batch: int, seed: int, epoch: int) -> list[list[int]]:
    """The steps of an epoch, each from one part."""
    generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
    steps, start = [], 0
    for count in parts:
        order = torch.randperm(count, generator=generator)[: count // batch * batch] + start
        steps += order.view(-1, batch).tolist()
        start += count
    return [steps[place] for place in torch.randperm(len(steps), generator=generator).tolist()]
