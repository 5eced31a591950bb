"""The one training loop, on accelerate: a CPU, a GPU, or several processes under torchrun or `accelerate launch`.

A step takes `batch` samples however many processes and micro-batches share them. The order of the samples and every
random choice are functions of (seed, step, micro-batch, process), so a run that goes on from a stored state repeats
to the bit what it would have done without the break, as long as the number of processes is the same.
"""

import hashlib
import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence, Sized
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.utils import broadcast, send_to_device
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader

from m3et_ros.data.errors import InputError
from m3et_ros.ops import dispatch
from m3et_ros.training.optim import build_optimiser, set_rate
from m3et_ros.training.recipe import Order, Recipe
from m3et_ros.training.run_state import STATE, load_state, save_state

LOG = 'log.jsonl'
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingSession:
    """How one sitting at a run goes; the next one may choose otherwise."""

    # Stop after so many minutes, state saved; None goes on to the end.
    minutes: float | None = None
    # Minutes between states.
    save_minutes: float = 10.0
    # Steps between lines of the log.
    log_steps: int = 20
    # Processes that load samples; 0 loads between steps.
    workers: int = 0
    # Matrix products in bfloat16; scans, losses and weights stay float32.
    bf16: bool = False
    # Go on from the state in the folder.
    resume: bool = False


@dataclass(frozen=True)
class Outcome:
    """Where a sitting ended."""

    # Steps done since the start of the run, and those of the whole run.
    step: int
    steps: int
    # Samples seen.
    samples: int
    # Seconds of training, earlier sittings included.
    seconds: float
    # Mean of each loss as the last line of the log has it.
    losses: dict[str, float]


class Objective(nn.Module):
    """Model and recipe as one module, so that distributed training sees a single forward."""

    def __init__(self, model: nn.Module, plan: Recipe, *, bf16: bool):
        super().__init__()
        self.model, self.plan, self.bf16 = model, plan, bf16

    def forward(self, batch: Mapping[str, Tensor], seed: int) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss of a batch and its parts, detached."""
        device = next(iter(batch.values())).device
        with torch.autocast(device.type, torch.bfloat16, enabled=self.bf16):
            parts = self.plan.losses(self.model, batch, torch.Generator().manual_seed(seed))
        return sum(parts.values()), {name: part.detach() for name, part in parts.items()}


@contextmanager
def _flushed() -> Iterator[None]:
    """Denormal numbers count as zero: decays that have all but ended cost ten times as much as others."""
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


class Trainer:
    """One sitting at a run."""

    def __init__(
        self,
        plan: Recipe,
        model: nn.Module,
        data: Sized,
        collate: Callable[[Sequence], tuple],
        folder: Path,
        *,
        seed: int,
        sitting: TrainingSession,
    ):
        kinds = [DistributedDataParallelKwargs(find_unused_parameters=True)]
        # Told of a CPU in so many words: otherwise processes under torchrun on a machine without a GPU stay alone.
        self.accelerator = Accelerator(cpu=not torch.cuda.is_available(), kwargs_handlers=kinds)
        self.plan, self.data, self.collate, self.folder, self.seed = plan, data, collate, Path(folder), seed
        self.sitting = sitting
        self._check()
        self.order = Order(len(data), plan.batch, seed, self._parts)
        device = self.accelerator.device
        self.model = model.to(device).train()
        self.objective = self.accelerator.prepare_model(Objective(self.model, plan, bf16=sitting.bf16))
        self.optimizer = build_optimiser(
            self.model,
            kind=plan.optimiser,
            weight_decay=plan.weight_decay,
            layer_decay=plan.layer_decay,
            encoder_scale=plan.encoder_scale,
        )
        self.average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(plan.average)) if plan.average else None
        # Kernels are checked here because inside autocast the check would distrust them.
        for choice in dispatch.describe(device):
            log.info('%s is served by %s (%s)', choice.op, choice.name, choice.reason)
        self.step, self.seconds = 0, 0.0
        if sitting.resume:
            self._resume()

    @property
    def delivered(self) -> nn.Module:
        """The model with the weights that the run delivers."""
        return self.model if self.average is None else self.average.module

    @_flushed()
    def run(
        self, tell: Callable[[dict[str, Any]], None] = lambda entry: None, stop: Callable[[], bool] = lambda: False
    ) -> Outcome:
        """Train until the run, the minutes or the user's patience ends, and save the state.

        Args:
            tell: gets every line of the log, in the main process.
            stop: asked after each step, in the main process; True ends the sitting there.

        Raises:
            InputError: a loss is not finite (loss_not_finite; the state before is kept), or the disk is full.
        """
        started = saved = time.monotonic()
        before, first, window, losses = self.seconds, self.step, [], {}
        batches = self._batches()
        while self.step < self.plan.steps:
            window.append(self._advance(batches))
            now = time.monotonic()
            self.seconds = before + now - started
            limit = self.sitting.minutes
            due, end = self._agree(
                now - saved >= 60 * self.sitting.save_minutes,
                stop() or (limit is not None and now - started >= 60 * limit),
            )
            end = end or self.step == self.plan.steps
            if end or len(window) >= self.sitting.log_steps:
                losses, window = self._note(window, (now - started) / (self.step - first), tell), []
            if end or due:
                self._save()
                saved = now
            if end:
                break
        self.accelerator.wait_for_everyone()
        return Outcome(self.step, self.plan.steps, self.step * self.plan.batch, self.seconds, losses)

    def _advance(self, batches: Iterator) -> dict[str, Tensor]:
        """Do one step of the optimiser; returns its losses."""
        plan, keys, found = self.plan, [], []
        for micro in range(plan.accumulate):
            batch, names = next(batches)
            keys += names
            batch = send_to_device(batch, self.accelerator.device, non_blocking=True)
            alone = micro + 1 < plan.accumulate
            with self.accelerator.no_sync(self.objective) if alone else nullcontext():
                total, parts = self.objective(batch, self._draw(micro))
                self.accelerator.backward(total / plan.accumulate)
            found.append(parts)
        self.norm = nn.utils.clip_grad_norm_(self.model.parameters(), plan.clip)
        if not torch.isfinite(self.norm):
            self._refuse_loss(found, keys)
        set_rate(self.optimizer.param_groups, plan.rate(self.step))
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.average is not None:
            self.average.update_parameters(self.model)
        self.step += 1
        return _joined(found)

    def _refuse_loss(self, found: list[dict[str, Tensor]], keys: list[str]) -> None:
        values = ', '.join(f'{name} {float(value):.3g}' for name, value in _joined(found).items())
        raise InputError(
            'loss_not_finite',
            f'Step {self.step + 1} gave no finite gradient ({values}) on the samples '
            f'{", ".join(keys[:64])}; look at them or lower the learning rate, then go on with --resume '
            'from the last state, which is kept.',
        )

    def _draw(self, micro: int) -> int:
        """Seed of one micro-batch of one process."""
        where = (self.seed, self.step, micro, self.accelerator.process_index)
        return int.from_bytes(hashlib.blake2b(repr(where).encode(), digest_size=8).digest(), 'big') >> 1

    def _batches(self) -> Iterator[tuple[dict[str, Tensor], list[str]]]:
        """Load this process's micro-batches; a loader serves one epoch, so that its workers all know which."""
        share = {
            'rank': self.accelerator.process_index,
            'world': self.accelerator.num_processes,
            'accumulate': self.plan.accumulate,
        }
        for epoch, steps in self.order.epochs(self.step, self.plan.steps):
            if hasattr(self.data, 'epoch'):  # data sets that draw anew in every epoch
                self.data.epoch = epoch
            yield from DataLoader(
                self.data,
                batch_sampler=self.order.shares(steps, **share),
                collate_fn=self.collate,
                num_workers=self.sitting.workers,
            )

    def _agree(self, *wishes: bool) -> list[bool]:
        """What the main process wishes, in all of them: their clocks differ."""
        if self.accelerator.num_processes == 1:
            return list(wishes)
        return broadcast(torch.tensor(wishes, dtype=torch.int32, device=self.accelerator.device)).bool().tolist()

    def _note(self, window: list[dict[str, Tensor]], pace: float, tell: Callable) -> dict[str, float]:
        """Write a line of the log; pace is in seconds a step."""
        losses = _means(window)
        if self.accelerator.is_main_process:
            entry = {
                'step': self.step,
                'steps': self.plan.steps,
                'samples': self.step * self.plan.batch,
                'lr': self.plan.rate(self.step - 1),
                'losses': losses,
                'gradient_norm': round(float(self.norm), 6),
                'seconds': round(self.seconds, 1),
                'samples_per_second': round(self.plan.batch / pace, 1),
                'seconds_left': round((self.plan.steps - self.step) * pace, 1),
            }
            with (self.folder / LOG).open('a', encoding='utf-8') as file:
                file.write(json.dumps(entry) + '\n')
            tell(entry)
        return losses

    def _save(self) -> None:
        if self.accelerator.is_main_process:
            save_state(
                self.folder,
                model=self.model,
                optimizer=self.optimizer,
                average=self.average,
                header=self._header() | {'step': self.step, 'seconds': self.seconds},
            )

    def _resume(self) -> None:
        header = load_state(self.folder, model=self.model, optimizer=self.optimizer, average=self.average)
        for name, value in self._header().items():
            if header.get(name) != json.loads(json.dumps(value)):
                raise InputError(
                    'resume_state',
                    f'The run in {self.folder} was started with {name} '
                    f'{header.get(name)}, not {value}; give the same again or start anew elsewhere.',
                )
        self.step, self.seconds = header['step'], header['seconds']
        if self.accelerator.is_main_process:
            _cut_log(self.folder / LOG, self.step)

    @property
    def _parts(self) -> tuple[int, ...]:
        """Samples of each data set that this one is made of (data.sources.Sources); empty for a single one."""
        parts = tuple(getattr(self.data, 'parts', ()))
        return parts if len(parts) > 1 else ()

    def _header(self) -> dict[str, Any]:
        return {
            'seed': self.seed,
            'recipe': type(self.plan).__name__,
            **asdict(self.plan),
            'data': self._parts or len(self.data),
            'processes': self.accelerator.num_processes,
            'model': asdict(self.model.config),
        }

    def _check(self) -> None:
        parts = self.plan.accumulate * self.accelerator.num_processes
        if self.plan.batch % parts:
            raise InputError(
                'training',
                f'A batch of {self.plan.batch} cannot be cut into {parts} equal parts '
                '(processes times accumulate); choose a multiple.',
            )
        for which, count in enumerate(self._parts or (len(self.data),)):
            if count < self.plan.batch:
                name = f'The source {self.data.names[which]}' if self._parts else 'The data set'
                raise InputError(
                    'training',
                    f'{name} has {count} samples and a batch {self.plan.batch}; give more samples or a smaller batch.',
                )
        if (self.folder / STATE).exists() and not self.sitting.resume:
            raise InputError(
                'training', f'{self.folder} already holds a run; go on with --resume or choose another folder.'
            )
        self.folder.mkdir(parents=True, exist_ok=True)


def _joined(found: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Mean of each loss over the micro-batches in which it occurred."""
    names = dict.fromkeys(name for parts in found for name in parts)
    return {name: torch.stack([p[name].float() for p in found if name in p]).mean() for name in names}


def _means(window: list[dict[str, Tensor]]) -> dict[str, float]:
    return {name: round(float(value), 6) for name, value in _joined(window).items()}


def _cut_log(path: Path, step: int) -> None:
    """Drop the lines of steps that will be done again."""
    if path.exists():
        lines = path.read_text(encoding='utf-8').splitlines()
        kept = [line for line in lines if line.endswith('}') and json.loads(line)['step'] <= step]
        path.write_text(''.join(line + '\n' for line in kept), encoding='utf-8')
