"""The one training loop, on accelerate: a CPU, a GPU, or several processes under torchrun or `accelerate launch`.

A step takes `batch` samples however many processes and micro-batches share them. The order of the samples and every
random choice are functions of (seed, step, micro-batch, process). A resumed run therefore repeats to the bit what it
would have done without the break, as long as the number of processes is the same.
"""

import hashlib
import json
import logging
import os
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence, Sized
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.utils import broadcast, send_to_device
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader

from m3et_ros.data.errors import InputError
from m3et_ros.data.files import write_atomically
from m3et_ros.ops import dispatch
from m3et_ros.runtime.fused_scans import use_fused
from m3et_ros.runtime.heap import keep_freed_memory
from m3et_ros.runtime.kernels import use_built
from m3et_ros.training.optim import build_optimiser, set_rate
from m3et_ros.training.recipe import Order, Recipe
from m3et_ros.training.run_state import (
    STATE,
    WHOLE_RUN,
    LogEntry,
    Outcome,
    TrainingSession,
    load_state,
    only_session,
    save_state,
)

LOG = 'log.jsonl'
T = TypeVar('T')
KEPT = 2**31 - 1
"""Bytes of freed memory that stay with the process: all that a step takes, for the next step."""
log = logging.getLogger(__name__)


class Objective(nn.Module):
    """Model and recipe as one module, so that distributed training has a single forward."""

    def __init__(self, model: nn.Module, recipe: Recipe, *, bf16: bool):
        super().__init__()
        self.model, self.recipe, self.bf16 = model, recipe, bf16

    def forward(self, batch: Mapping[str, Tensor], seed: int) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss of a batch and its parts, detached, by the recipe of the step."""
        device = next(iter(batch.values())).device
        with torch.autocast(device.type, torch.bfloat16, enabled=self.bf16):
            parts = self.recipe.losses(self.model, batch, torch.Generator().manual_seed(seed))
        return sum(parts.values()), {name: part.detach() for name, part in parts.items()}


@contextmanager
def _denormals_flushed() -> Iterator[None]:
    """Treat denormal numbers as zero: nearly vanished decays cost ten times as much as other numbers."""
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


def ahead(items: Iterator[T]) -> Generator[T, None, None]:
    """Yield items, of which a thread computes the next one meanwhile; errors are raised where their item is due."""
    end: Any = object()
    with ThreadPoolExecutor(1, 'loader') as pool:
        due = pool.submit(next, items, end)
        while (item := due.result()) is not end:
            due = pool.submit(next, items, end)
            yield item


class Trainer:
    """One session of a run.

    Args:
        recipe: what to minimise and how.
        model: trained in place; its `config` is a dataclass.
        data: map-style data set; `parts` and `names` mark one made of several, `epoch` is set on one that has it.
        collate: turns samples into tensors by name and the keys of the samples.
        folder: folder of state and log; created if missing.
        seed: seed of the order and of every random choice.
        session: duration, logging, and whether to resume.

    Raises:
        InputError: the batch does not fit data or processes, or the folder already holds a run (training); the state
            to resume is missing (resume_missing) or belongs to another run (resume_state).
    """

    def __init__(
        self,
        recipe: Recipe,
        model: nn.Module,
        data: Sized,
        collate: Callable[[Sequence], tuple],
        folder: Path,
        *,
        seed: int,
        session: TrainingSession,
    ):
        kinds = [DistributedDataParallelKwargs(find_unused_parameters=True)]
        # An explicit `cpu`: otherwise processes under torchrun on a machine without a GPU do not join each other.
        self.accelerator = Accelerator(cpu=not torch.cuda.is_available(), kwargs_handlers=kinds)
        self.recipe, self.data, self.collate, self.folder, self.seed = recipe, data, collate, Path(folder), seed
        self.session = session
        self._check()
        self.order = Order(len(data), recipe.batch, seed, self._parts)
        device = self.accelerator.device
        self.model = model.to(device).train()
        self._losses = Objective(self.model, recipe, bf16=session.bf16)
        self.objective = self.accelerator.prepare_model(self._losses)
        self.optimizer = build_optimiser(
            self.model,
            kind=recipe.optimiser,
            weight_decay=recipe.weight_decay,
            layer_decay=recipe.layer_decay,
            encoder_scale=recipe.encoder_scale,
        )
        self.average = None
        if recipe.average:
            self.average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(recipe.average))
        use_built()
        use_fused()
        # Kernels are checked here, because the check would reject them inside autocast.
        for choice in dispatch.describe(device):
            log.info('%s is served by %s (%s)', choice.op, choice.name, choice.reason)
        self.step, self.seconds = 0, 0.0
        if session.resume:
            self._resume()

    @property
    def delivered(self) -> nn.Module:
        """The model with the weights that the run delivers: the averaged ones if the recipe averages."""
        return self.model if self.average is None else self.average.module

    @_denormals_flushed()
    def run(self) -> Outcome:
        """Train until the run is complete, the session's time is up or a stop is requested, and save the state.

        Raises:
            InputError: a loss is not finite (loss_not_finite; the state before is kept), or the disk is full.
        """
        keep_freed_memory(KEPT)
        started = saved = time.monotonic()
        before, first, window, losses = self.seconds, self.step, [], {}
        batches = self._batches() if self.session.workers else ahead(self._batches())
        with closing(batches):
            while self.step < self.recipe.steps:
                window.append(self._advance(batches))
                now, last = time.monotonic(), self.seconds
                self.seconds = before + now - started
                limit = self.session.minutes
                due, end = self._agree(
                    now - saved >= 60 * self.session.save_minutes,
                    self.session.stop() or (limit is not None and now - started >= 60 * limit),
                )
                end = end or self.step == self.recipe.steps
                if end or len(window) >= self.session.log_steps:
                    losses, window = self._log(window, (now - started) / (self.step - first)), []
                if end or due:
                    self._save()
                    saved = now
                if end:
                    break
                self._reach(last, losses, window)
        self.accelerator.wait_for_everyone()
        return self._outcome(losses)

    def _outcome(self, losses: dict[str, float]) -> Outcome:
        return Outcome(self.step, self.recipe.steps, self.step * self.recipe.batch, self.seconds, losses)

    def _reach(self, last: float, losses: dict[str, float], window: list[dict[str, Tensor]]) -> None:
        """Hand out a milestone if one is due since `last` seconds of training; losses as of the last log entry."""
        minutes = self.session.milestone_minutes
        if minutes is None or not self.accelerator.is_main_process:
            return
        if self.seconds // (60 * minutes) > last // (60 * minutes):
            self.session.milestone(self._outcome(losses or _rounded(window)), self.delivered)

    def _advance(self, batches: Iterator) -> dict[str, Tensor]:
        """Do one step of the optimiser and return its losses."""
        recipe, keys, found = self.recipe, [], []
        self._losses.recipe = recipe.at(self.step, self.order.length)
        for micro in range(recipe.accumulate):
            batch, names = next(batches)
            keys += names
            batch = send_to_device(batch, self.accelerator.device, non_blocking=True)
            more = micro + 1 < recipe.accumulate
            with self.accelerator.no_sync(self.objective) if more else nullcontext():
                total, parts = self.objective(batch, self._draw_seed(micro))
                self.accelerator.backward(total / recipe.accumulate)
            found.append(parts)
        self.norm = nn.utils.clip_grad_norm_(self.model.parameters(), recipe.clip)
        if not torch.isfinite(self.norm):
            self._refuse_loss(found, keys)
        set_rate(self.optimizer.param_groups, recipe.rate(self.step))
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
            f'Step {self.step + 1} has no finite gradient ({values}) on the samples '
            f'{", ".join(keys[:64])}; inspect them or lower the learning rate, then continue with --resume '
            'from the last state, which is kept.',
        )

    def _draw_seed(self, micro: int) -> int:
        """Return the seed of one micro-batch of one process."""
        where = (self.seed, self.step, micro, self.accelerator.process_index)
        return int.from_bytes(hashlib.blake2b(repr(where).encode(), digest_size=8).digest(), 'big') >> 1

    def _batches(self) -> Generator[tuple[dict[str, Tensor], list[str]], None, None]:
        """Load this process's micro-batches; a loader serves one epoch, so that all its workers know the epoch."""
        share = {
            'rank': self.accelerator.process_index,
            'world': self.accelerator.num_processes,
            'accumulate': self.recipe.accumulate,
        }
        for epoch, steps in self.order.epochs(self.step, self.recipe.steps):
            if hasattr(self.data, 'epoch'):  # data sets that draw anew in every epoch
                self.data.epoch = epoch
            yield from DataLoader(
                self.data,
                batch_sampler=self.order.shares(steps, **share),
                collate_fn=self.collate,
                num_workers=self.session.workers,
                # The loader draws a seed in its own thread, which must not meet the draws of the model.
                generator=torch.Generator(),
            )

    def _agree(self, *decisions: bool) -> list[bool]:
        """Return the main process's decisions in every process, because their clocks differ."""
        if self.accelerator.num_processes == 1:
            return list(decisions)
        return broadcast(torch.tensor(decisions, dtype=torch.int32, device=self.accelerator.device)).bool().tolist()

    def _log(self, window: list[dict[str, Tensor]], seconds_per_step: float) -> dict[str, float]:
        """Append a log entry and report it; returns the mean losses of the window."""
        losses = _rounded(window)
        if self.accelerator.is_main_process:
            entry = LogEntry(
                step=self.step,
                steps=self.recipe.steps,
                samples=self.step * self.recipe.batch,
                lr=self.recipe.rate(self.step - 1),
                losses=losses,
                gradient_norm=round(float(self.norm), 6),
                seconds=round(self.seconds, 1),
                samples_per_second=round(self.recipe.batch / seconds_per_step, 1),
                seconds_left=round((self.recipe.steps - self.step) * seconds_per_step, 1),
            )
            with (self.folder / LOG).open('a', encoding='utf-8') as file:
                file.write(json.dumps(asdict(entry)) + '\n')
            self.session.report(self.folder.name, entry)
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
                    f'The run in {self.folder} was started with {name} {header.get(name)}, not {value}; '
                    'give the same option or start a new run in another folder.',
                )
        self.step, self.seconds = header['step'], header['seconds']
        if self.accelerator.is_main_process:
            _cut_log(self.folder / LOG, self.step)

    @property
    def _parts(self) -> tuple[int, ...]:
        """Sample counts of the data sets that this one joins (data.datasets.sources); empty for a single one."""
        parts = tuple(getattr(self.data, 'parts', ()))
        return parts if len(parts) > 1 else ()

    def _header(self) -> dict[str, Any]:
        return {
            'seed': self.seed,
            'recipe': self.recipe.STORED_NAME or type(self.recipe).__name__,
            **asdict(self.recipe),
            'data': self._parts or len(self.data),
            'processes': self.accelerator.num_processes,
            'model': asdict(self.model.config),
        }

    def _check(self) -> None:
        parts = self.recipe.accumulate * self.accelerator.num_processes
        if self.recipe.batch % parts:
            raise InputError(
                'training',
                f'A batch of {self.recipe.batch} cannot be cut into {parts} equal parts '
                '(processes times accumulate); choose a multiple.',
            )
        for which, count in enumerate(self._parts or (len(self.data),)):
            if count < self.recipe.batch:
                name = f'The source {self.data.names[which]}' if self._parts else 'The data set'
                raise InputError(
                    'training',
                    f'{name} has {count} samples, fewer than a batch of {self.recipe.batch}; '
                    'give more samples or a smaller batch.',
                )
        if (self.folder / STATE).exists() and not self.session.resume:
            raise InputError(
                'training', f'{self.folder} already holds a run; continue it with --resume or choose another folder.'
            )
        self.folder.mkdir(parents=True, exist_ok=True)


def train(
    recipe: Recipe,
    model: nn.Module,
    data: Sized,
    collate: Callable[[Sequence], tuple],
    folder: str | Path,
    *,
    seed: int = 0,
    session: TrainingSession = WHOLE_RUN,
) -> tuple[Outcome, nn.Module, bool]:
    """Train a model in place for one session.

    Args:
        recipe: what to minimise and how.
        model: trained in place; its `config` is a dataclass.
        data: map-style data set, as of Trainer.
        collate: turns samples into tensors by name and the keys of the samples.
        folder: folder of state and log; created if missing.
        seed: seed of the order and of every random choice.
        session: duration, logging, and whether to resume.

    Returns:
        The point that the run has reached; the model to deliver; whether this is the main process, which writes.

    Raises:
        InputError: as Trainer and Trainer.run; also if another process trains in the folder (training).
    """
    folder = Path(folder)
    # One process of a session holds the folder; the rank is known before the processes have joined each other.
    held = only_session(folder) if os.environ.get('RANK', '0') == '0' else nullcontext()
    with held:
        trainer = Trainer(recipe, model, data, collate, folder, seed=seed, session=session)
        outcome = trainer.run()
    return outcome, trainer.delivered, trainer.accelerator.is_main_process


def _joined(found: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Return the mean of each loss over the micro-batches in which it occurred."""
    names = dict.fromkeys(name for parts in found for name in parts)
    return {name: torch.stack([p[name].float() for p in found if name in p]).mean() for name in names}


def _rounded(window: list[dict[str, Tensor]]) -> dict[str, float]:
    return {name: round(float(value), 6) for name, value in _joined(window).items()}


def _cut_log(path: Path, step: int) -> None:
    """Drop the entries of steps that will be repeated, and a line that was only half written."""
    if not path.exists():
        return
    # A whole line ends with its newline.
    lines = [line for line in path.read_text(encoding='utf-8').splitlines(keepends=True) if line.endswith('\n')]
    with write_atomically(path) as part:
        part.write_text(''.join(line for line in lines if json.loads(line)['step'] <= step), encoding='utf-8')
