"""What the commands that train have in common: progress, an end when asked, and the command as the card tells it."""

import shlex
import signal
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any

import typer

from m3et_ros.cli.output import note

QUIET = 10.0
"""Seconds between lines of progress, at least."""


def teller() -> Callable[[dict], None]:
    """Say now and then how far along the run is."""
    last = -QUIET

    def tell(entry: dict) -> None:
        nonlocal last
        if time.monotonic() - last < QUIET and entry['step'] < entry['steps']:
            return
        last = time.monotonic()
        losses = ', '.join(f'{name} {value:.3f}' for name, value in entry['losses'].items())
        note(
            f'step {entry["step"]:,} of {entry["steps"]:,}: {losses}; {entry["samples_per_second"]:.0f} samples/s, '
            f'{entry["seconds_left"] / 60:.0f} min left'
        )

    return tell


@contextmanager
def asked_to_stop() -> Iterator[Callable[[], bool]]:
    """Ctrl-C or SIGTERM once ends the run after the step, its state saved; twice ends it at once."""
    asked = False

    def ask(number: int, _frame: Any) -> None:
        nonlocal asked
        asked = True
        signal.signal(number, before[number])
        note('stopping after this step; the state is saved')

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def command_line(context: typer.Context, untold: Collection[str] = ()) -> str:
    """The command that was given, its arguments first; defaults, and options named in `untold`, are left out."""
    words = context.command_path.split()
    for parameter in sorted(context.command.params, key=lambda one: one.param_type_name == 'option'):
        value = context.params.get(parameter.name)
        if parameter.name in untold or value in (None, [], ()) or value == parameter.default:
            continue
        named = parameter.param_type_name == 'option'
        flag = parameter.opts[0] if value is not False else parameter.secondary_opts[0]
        for item in value if isinstance(value, (list, tuple)) else [value]:
            said = [] if isinstance(item, bool) else [str(getattr(item, 'value', item))]
            words += [flag, *said] if named else said
    return shlex.join(words)
