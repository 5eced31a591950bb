"""How the command speaks: sentences for people, JSON for programs, one sentence on stderr when something is wrong."""

import json
import math
import os
import sys
import traceback
from collections.abc import Iterable, Sequence
from typing import Annotated, Any

import typer

from m3et_ros.data.errors import InputError

Json = Annotated[bool, typer.Option('--json', help='Print one JSON document for a program to read.')]


class Refused(Exception):
    """What the command cannot do: one sentence that names what, why and the fix.

    Attributes:
        code: exit code; 1 unless a node that failed brought its own.
    """

    def __init__(self, message: str, code: int = 1):
        super().__init__(message)
        self.code = code


def say(text: str = '') -> None:
    """Print a line and flush it, so that a pipe sees it at once."""
    print(text, flush=True)


def note(text: str) -> None:
    """Print a line on stderr, out of the way of what a program reads."""
    print(text, file=sys.stderr, flush=True)


def emit(document: Any) -> None:
    """Print a JSON document; numbers that JSON does not know become null."""
    say(json.dumps(_plain(document), indent=2))


def table(rows: Iterable[Sequence[Any]], *, right: Sequence[int] = ()) -> str:
    """Columns of text, the first row being their heads.

    Args:
        rows: cells; each is turned into text.
        right: indices of the columns that are set flush right.
    """
    cells = [[str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells)]
    return '\n'.join(
        '  '.join(
            cell.rjust(width) if n in right else cell.ljust(width) for n, (cell, width) in enumerate(zip(row, widths))
        ).rstrip()
        for row in cells
    )


def report(error: Exception, verb: str = '') -> int:
    """Say on stderr what went wrong, in one sentence, and return the exit code.

    Whatever was not foreseen comes out as a sentence too; M3ET_TRACEBACK=1 shows where it happened.
    """
    if os.environ.get('M3ET_TRACEBACK'):
        traceback.print_exception(error)
    if isinstance(error, typer.TyperException):
        help_at = ' '.join(('m3et', *filter(None, [verb]), '--help'))
        note(f'm3et: {error.format_message().rstrip(".")} (see {help_at})')
    elif isinstance(error, (Refused, InputError)):
        note(f'm3et: {error}')
    else:
        words = ' '.join(str(error).split()) or 'no further word'
        note(f'm3et: {type(error).__name__}: {words}; run again with M3ET_TRACEBACK=1 to see where')
    return error.code if isinstance(error, Refused) else 1


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
