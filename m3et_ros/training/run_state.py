"""Stop, resume and report: the session of a run, its log entries, and the state on disk that the next session resumes.

The state is one safetensors file. Weights, optimiser moments and averaged weights are tensors; step, seed, recipe and
model config are JSON in the file's metadata. It holds no state of random generators, because everything random is drawn
from (seed, step, process). The file is written beside the old one and then replaces it, so a killed run loses no state.
"""

import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from m3et_ros.data.errors import InputError
from m3et_ros.data.files import write_atomically
from m3et_ros.training.optim import CombinedOptimizer

STATE = 'state.safetensors'
LOCK = 'lock'
FORMAT = 1
MOMENTS = ({'step', 'exp_avg', 'exp_avg_sq'}, {'momentum_buffer'})
"""Per-parameter state of AdamW and of Muon."""


class Interrupted(Exception):  # noqa: N818 - a session that ends early is no error
    """The session ended before the run did: its time is up or a stop was requested. The state is saved."""


@dataclass(frozen=True)
class LogEntry:
    """One line of a run's log."""

    # Steps done since the start of the run, and steps of the whole run.
    step: int
    steps: int
    # Samples used so far.
    samples: int
    # Learning rate of the last step.
    lr: float
    # Mean of each loss since the entry before.
    losses: dict[str, float]
    # Norm of the last gradient before clipping.
    gradient_norm: float
    # Seconds of training, earlier sessions included.
    seconds: float
    samples_per_second: float
    # Estimated seconds to the end of the run.
    seconds_left: float


@dataclass(frozen=True)
class Outcome:
    """The point a run has reached at the end of a session."""

    # Steps done since the start of the run, and steps of the whole run.
    step: int
    steps: int
    # Samples used.
    samples: int
    # Seconds of training, earlier sessions included.
    seconds: float
    # Mean of each loss, as in the last log entry.
    losses: dict[str, float]

    @property
    def finished(self) -> bool:
        """True if the run is complete."""
        return self.step == self.steps


Report = Callable[[str, LogEntry], None]
"""Called in the main process with the name of the run's folder and each new log entry."""


def no_report(_name: str, _entry: LogEntry) -> None:
    """Ignore log entries."""


Milestone = Callable[[Outcome, nn.Module], None]
"""Called in the main process with the point a run has reached and the model with the weights it would deliver now."""


def no_milestone(_outcome: Outcome, _model: nn.Module) -> None:
    """Write no milestone."""


def never() -> bool:
    """Never ask to stop."""
    return False


@dataclass(frozen=True)
class TrainingSession:
    """Options of one session of a run; the session that resumes the run may have others."""

    # Stop after this many minutes, state saved; None trains to the end.
    minutes: float | None = None
    # Minutes between states.
    save_minutes: float = 10.0
    # Minutes of training between milestones, earlier sessions counted; None for none.
    milestone_minutes: float | None = None
    # Steps between log entries.
    log_steps: int = 20
    # Processes that load samples; 0 = a thread loads those of the next step.
    workers: int = 0
    # Matrix products in bfloat16; scans, losses and weights stay float32.
    bf16: bool = False
    # Resume from the state in the folder.
    resume: bool = False
    # Receives every log entry.
    report: Report = no_report
    # Receives every milestone.
    milestone: Milestone = no_milestone
    # Called after each step in the main process; True ends the session there, state saved.
    stop: Callable[[], bool] = never

    def of_stage(self, folder: Path) -> 'TrainingSession':
        """Return this session for one stage of a run: it resumes the stage only if its folder holds a state."""
        return replace(self, resume=self.resume and (folder / STATE).exists())


WHOLE_RUN = TrainingSession()
"""Train to the end without a report."""


class StageSessions:
    """Split one session among the stages of a run: they share its minutes, which count from the first stage on."""

    def __init__(self, session: TrainingSession):
        self._session = session
        self._started: float | None = None

    def of_stage(self, folder: Path) -> TrainingSession:
        """Return the session of the stage in `folder`.

        Raises:
            Interrupted: no time is left.
        """
        now = time.monotonic()
        if self._started is None:
            self._started = now
        session = self._session.of_stage(folder)
        if session.minutes is None:
            return session
        left = session.minutes - (now - self._started) / 60
        if left <= 0:
            raise Interrupted
        return replace(session, minutes=left)


@contextmanager
def only_session(folder: Path) -> Iterator[None]:
    """Hold the folder of a run for one session, and remove files that a killed session has half written.

    The lock is a process's own: it ends with the process, however that ends, and loading processes do not inherit it.

    Raises:
        InputError: another process trains in the folder (training).
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK).open('a+', encoding='utf-8') as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.seek(0)
            raise InputError(
                'training',
                f'Process {file.read().strip()} trains in {folder}; wait for its end or choose another folder.',
            ) from error
        file.truncate(0)
        file.write(f'{os.getpid()}\n')
        file.flush()
        for part in folder.glob(f'{STATE}.*.part'):
            part.unlink()
        yield


def save_state(
    folder: Path,
    *,
    model: nn.Module,
    optimizer: CombinedOptimizer,
    average: nn.Module | None,
    header: Mapping[str, Any],
) -> None:
    """Write the state of a run in place of the one before.

    Args:
        folder: existing folder of the run.
        model: the model being trained.
        optimizer: optimiser over its parameters.
        average: averaged weights of the same model, or None.
        header: values that JSON can hold.

    Raises:
        InputError: the file cannot be written (disk_full); the state before it is kept.
    """
    tensors = {f'model.{name}': tensor for name, tensor in model.state_dict().items()}
    if average is not None:
        tensors |= {f'average.{name}': tensor for name, tensor in average.state_dict().items()}
    tensors |= dict(_moments(model, optimizer))
    try:
        with write_atomically(folder / STATE) as part:
            save_file(
                {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()},
                part,
                metadata={'state': json.dumps({'format': FORMAT, **header})},
            )
            with part.open('rb') as file:
                os.fsync(file.fileno())
    except (OSError, SafetensorError) as error:
        raise InputError(
            'disk_full',
            f'The state of the run cannot be written to {folder} ({error}); free some space and '
            'continue with --resume from the state before.',
        ) from error


def read_header(folder: Path) -> dict[str, Any]:
    """Read the header of a stored state.

    Raises:
        InputError: there is no state (resume_missing), or it is damaged or of another version (resume_state).
    """
    path = folder / STATE
    if not path.is_file():
        raise InputError('resume_missing', f'There is no {STATE} in {folder}; omit --resume to start a new run.')
    try:
        with safe_open(path, framework='pt') as file:
            header = json.loads((file.metadata() or {})['state'])
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise InputError(
            'resume_state', f'{path} is not the state of a run ({error}); start a new run in another folder.'
        ) from error
    if header.get('format') != FORMAT:
        raise InputError(
            'resume_state',
            f'{path} has format {header.get("format")} and this version reads {FORMAT}; '
            'resume with the version that wrote it.',
        )
    return header


def load_state(
    folder: Path, *, model: nn.Module, optimizer: CombinedOptimizer, average: nn.Module | None
) -> dict[str, Any]:
    """Load a stored state into model, optimiser and average and return its header.

    Raises:
        InputError: as read_header; also resume_state if the tensors belong to another model.
    """
    header = read_header(folder)
    stored = load_file(folder / STATE)
    try:
        model.load_state_dict(_part(stored, 'model.'))
        if average is not None:
            average.load_state_dict(_part(stored, 'average.'))
        _load_moments(model, optimizer, _part(stored, 'moments.'))
    except (RuntimeError, KeyError) as error:
        first = str(error).splitlines()[0]
        raise InputError(
            'resume_state', f'{folder / STATE} holds another model ({first}); give the options that started the run.'
        ) from error
    return header


def _moments(model: nn.Module, optimizer: CombinedOptimizer) -> Iterator[tuple[str, Tensor]]:
    for name, parameter in model.named_parameters():
        # A parameter that never had a gradient has no moments.
        for part in optimizer.parts:
            yield from ((f'moments.{key}.{name}', value) for key, value in part.state.get(parameter, {}).items())


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _load_moments(model: nn.Module, optimizer: CombinedOptimizer, moments: Mapping[str, Tensor]) -> None:
    by_parameter: dict[str, dict[str, Tensor]] = {}
    for full, value in moments.items():
        key, _, name = full.partition('.')
        by_parameter.setdefault(name, {})[key] = value
    part_of = {
        parameter: part for part in optimizer.parts for group in part.param_groups for parameter in group['params']
    }
    for name, parameter in model.named_parameters():
        values = by_parameter.get(name, {})
        if values and set(values) not in MOMENTS:
            raise KeyError(f'moments of {name}')
        if values:
            part_of[parameter].state[parameter] = {
                key: value.to(parameter.device, torch.float32 if key == 'step' else parameter.dtype)
                for key, value in values.items()
            }
