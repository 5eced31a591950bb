"""The base class of all recipes, and the order of the samples: with model, data and seed they decide a run's result."""

import functools
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from m3et_ros.models.config_checks import check_choice, check_whole
from m3et_ros.training.optim import OPTIMISERS, warm_up_cosine


def check_share(config: Any, *names: str, zero: bool = True, one: bool = True) -> None:
    """Refuse, by ValueError, a field that is not a number from 0 to 1.

    Args:
        config: has the fields.
        names: names of the fields.
        zero: 0 itself is allowed.
        one: 1 itself is allowed.
    """
    for name in names:
        value = getattr(config, name)
        if not 0 <= value <= 1 or (value == 0 and not zero) or (value == 1 and not one):
            low, high = 'from 0' if zero else 'above 0', '1' if one else 'less than 1'
            raise ValueError(f'{name} is {value!r}; give a number {low} to {high}')


@contextmanager
def seeded_by(generator: torch.Generator) -> Iterator[None]:
    """Make dropout depend on a generator alone, so that a resumed run repeats the same draws."""
    seed = int(torch.randint(2**62, (), generator=generator))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


@dataclass(frozen=True)
class Recipe(ABC):
    """Everything that decides the result of a run besides model, data and seed.

    Raises:
        ValueError: a field is out of range; the message names field, value and range.
    """

    # Name in the state of a run, by which a resumed run knows its recipe; '' = the name of the class.
    STORED_NAME: ClassVar[str] = ''
    # Samples of the whole run, repeats counted; an incomplete last step is dropped.
    samples: int = 800_000
    # Samples of one optimiser step, over all processes.
    batch: int = 64
    # Micro-batches into which each process cuts its share of a step, to save memory.
    accumulate: int = 1
    # Highest learning rate. MultiMAE's 1e-4 * batch / 256 is for 1,600 epochs; a short run of a small model needs more.
    lr: float = 6e-4
    # 'adamw' (the papers), or 'muon' for hidden matrices and AdamW for the rest (optim.build_optimiser).
    optimiser: str = 'adamw'
    # Share of the steps in which the learning rate rises from 1e-6.
    warm_up: float = 0.05
    # Weight decay of AdamW (MultiMAE).
    weight_decay: float = 0.05
    # Factor on the learning rate from each encoder layer to the one below; 1 gives all the same rate.
    layer_decay: float = 1.0
    # Factor on the learning rate of the encoder as a whole.
    encoder_scale: float = 1.0
    # Largest norm of the gradient; longer gradients are scaled down to it.
    clip: float = 1.0
    # Decay per step of the averaged weights that the run delivers; 0 delivers the last weights.
    average: float = 0.0

    def __post_init__(self):
        check_whole(self, dict.fromkeys(('samples', 'batch', 'accumulate'), (1, 10**12)))
        check_share(self, 'lr', 'layer_decay', 'encoder_scale', zero=False)
        check_share(self, 'warm_up', 'weight_decay', 'average', one=False)
        if not self.clip > 0:
            raise ValueError(f'clip is {self.clip!r}; give a number above 0')
        check_choice(self, {'optimiser': OPTIMISERS})
        if self.samples < self.batch:
            raise ValueError(f'samples is {self.samples}; give at least one batch of {self.batch}')

    @property
    def steps(self) -> int:
        """Number of steps of the whole run."""
        return self.samples // self.batch

    def rate(self, step: int) -> float:
        """Return the learning rate of a step, counted from 0."""
        return warm_up_cosine(step, total=self.steps, warm_up=int(self.warm_up * self.steps), peak=self.lr)

    def at(self, step: int, steps_per_epoch: int) -> 'Recipe':
        """Return the recipe of a step, counted from 0, for weights that change during a run; by default this one."""
        return self

    @abstractmethod
    def losses(self, model: nn.Module, batch: Mapping[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        """Return weighted losses by name; the run minimises their sum.

        Args:
            model: the model in training mode.
            batch: tensors by name, on the device of the model.
            generator: on the CPU; the only source of randomness.
        """


@dataclass(frozen=True)
class Order:
    """The samples of each step: a new shuffle every epoch, without the incomplete last step of an epoch.

    If the data set joins several, each step takes samples of only one of them, because a batch has one set of
    modalities and one data set may lack labels, depth or questions that another has. The steps of all data sets come in
    a shuffled order.
    """

    # Samples of the data set.
    count: int
    # Samples of a step.
    batch: int
    # Seed of the shuffles.
    seed: int
    # Sample counts of the data sets that are joined, in their order; empty for a single one.
    parts: tuple[int, ...] = ()

    def __post_init__(self):
        if self.parts and sum(self.parts) != self.count:
            raise ValueError(f'parts is {self.parts}; give numbers that add up to count, {self.count}')
        if min((self.count, *self.parts)) < self.batch:
            raise ValueError(
                f'count is {self.count} and parts {self.parts}; give at least one batch of {self.batch} samples each'
            )

    @property
    def length(self) -> int:
        """Number of steps of an epoch."""
        return sum(count // self.batch for count in self.parts or (self.count,))

    def step(self, step: int) -> list[int]:
        """Return the sample numbers of a step; steps count from 0 over the whole run."""
        epoch, position = divmod(step, self.length)
        if len(self.parts) > 1:
            return _mixed(self.parts, self.batch, self.seed, epoch)[position]
        return _shuffled(self.count, self.seed, epoch)[position * self.batch : (position + 1) * self.batch]

    def epochs(self, start: int, end: int) -> Iterator[tuple[int, range]]:
        """Cut the steps start..end - 1 into epochs: yield the number of each epoch and its steps."""
        while start < end:
            epoch = start // self.length
            stop = min(end, (epoch + 1) * self.length)
            yield epoch, range(start, stop)
            start = stop

    def shares(self, steps: range, *, rank: int, world: int, accumulate: int) -> Iterator[list[int]]:
        """Yield the sample numbers of each micro-batch of one process."""
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
    """Return the sample numbers of all steps of an epoch, each step from one part."""
    generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
    steps, start = [], 0
    for count in parts:
        order = torch.randperm(count, generator=generator)[: count // batch * batch] + start
        steps += order.view(-1, batch).tolist()
        start += count
    return [steps[number] for number in torch.randperm(len(steps), generator=generator).tolist()]
