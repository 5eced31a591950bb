"""Helpers of the verbs that train: progress lines, a clean stop on a signal, and the command line for the record."""

import os
import shlex
import signal
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer

from m3et_ros.cli.output import print_status
from m3et_ros.data.extras import require

if TYPE_CHECKING:
    from m3et_ros.training.run_state import LogEntry, Report

REPORT_S = 10.0
"""Shortest time between two lines of progress, in seconds."""


def use_passive_threads() -> None:
    """Let waiting OpenMP threads sleep unless the user chose otherwise; call it before torch is imported.

    Threads that spin while they wait slow everything down as soon as another process needs the processor.
    """
    os.environ.setdefault('OMP_WAIT_POLICY', 'PASSIVE')


def prepare_training() -> None:
    """Check that training is installed, and let waiting threads sleep; call it before torch is imported.

    Raises:
        InputError: 'needs_extra', it is not.
    """
    use_passive_threads()
    require('train')


def progress_reporter(*, stages: bool = False) -> 'Report':
    """Return a report for training.run_state.TrainingSession that prints log entries as lines.

    The first and the last entry of a run are printed, and others at most every REPORT_S seconds.

    Args:
        stages: print the name of each run before its first line; for training in several stages.
    """
    last: dict[str, float] = {}

    def report(name: str, entry: 'LogEntry') -> None:
        now = time.monotonic()
        if stages and name not in last:
            print_status(f'{name}:')
        if name in last and now - last[name] < REPORT_S and entry.step < entry.steps:
            return
        last[name] = now
        losses = ', '.join(f'{loss} {value:.3f}' for loss, value in entry.losses.items())
        print_status(
            f'step {entry.step:,} of {entry.steps:,}: {losses}; {entry.samples_per_second:.0f} samples/s, '
            f'{entry.seconds_left / 60:.0f} min left'
        )

    return report


class StopRequest:
    """A function that returns True once a signal has asked for the end of the run.

    Attributes:
        code: exit code of a run that the signal has cut short, 128 + its number; 0 before.
    """

    code = 0

    def __call__(self) -> bool:
        """Return True after a signal."""
        return self.code != 0


@contextmanager
def stop_on_signal() -> Iterator[StopRequest]:
    """Yield a function that returns True once SIGINT or SIGTERM came; a second signal ends the process at once."""
    stop = StopRequest()

    def request(number: int, _frame: Any) -> None:
        stop.code = 128 + number
        signal.signal(number, before[number])
        print_status('stopping after this step; the state is saved')

    before = {number: signal.signal(number, request) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def command_line(context: typer.Context, omitted: Collection[str] = ()) -> str:
    """Return the command that was given, arguments before options, without options at their defaults.

    Args:
        context: typer context of the verb.
        omitted: names of parameters that are left out as well.
    """
    words = context.command_path.split()
    for parameter in sorted(context.command.params, key=lambda one: one.param_type_name == 'option'):
        value = context.params.get(parameter.name)
        if parameter.name in omitted or value in (None, [], ()) or value == parameter.default:
            continue
        is_option = parameter.param_type_name == 'option'
        flag = parameter.opts[0] if value is not False else parameter.secondary_opts[0]
        for item in value if isinstance(value, (list, tuple)) else [value]:
            if is_option:
                words.append(flag)
            if not isinstance(item, bool):
                words.append(str(getattr(item, 'value', item)))
    return shlex.join(words)
