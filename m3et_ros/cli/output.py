"""Output of the command: text for people, JSON for programs, and one sentence on stderr when something is wrong."""

import json
import math
import os
import re
import sys
import traceback
from collections.abc import Iterable, Sequence
from typing import Any

import typer

from m3et_ros.data.errors import InputError

USAGE = 2
"""Exit code of wrong usage, as of other commands."""
PARSER_WORDS = {
    r'Input should be a valid integer\b.*': 'give a whole number',
    r'Input should be a valid number\b.*': 'give a number',
    r'Input should be ': 'give what is ',
}
"""Patterns of the parser's messages, and plain words for them."""


class Refused(Exception):  # noqa: N818 - the command refuses; most of these are wrong usage, not errors
    """The command cannot do what was asked; the message says what, why and how to fix it.

    Attributes:
        code: exit code; 1, or the exit code of a node that failed.
    """

    def __init__(self, message: str, code: int = 1):
        super().__init__(message)
        self.code = code


def usage_sentence(message: str) -> str:
    """Return what the parser says about a command line as people say it, without a full stop; '' for nothing."""
    text = message.replace('Value error, ', '')
    for found, said in PARSER_WORDS.items():
        text = re.sub(found, said, text)
    if 'unexpected extra argument' in text:
        text += '; put a text of several words in quotes, as in m3et ask "What is on the table?"'
    return text.rstrip('. ')


def print_line(text: str = '') -> None:
    """Print a line on stdout and flush it, so that a pipe receives it at once."""
    print(text, flush=True)


def print_status(text: str) -> None:
    """Print a line on stderr, apart from the output that a program reads."""
    print(text, file=sys.stderr, flush=True)


def print_json(document: Any) -> None:
    """Print a JSON document; NaN and infinities become null."""
    print_line(json.dumps(_json_values(document), indent=2))


def format_table(rows: Iterable[Sequence[Any]], *, right: Sequence[int] = ()) -> str:
    """Format rows as aligned columns of text.

    Args:
        rows: cells of any type; the first row is the header.
        right: indices of the columns that are aligned to the right.

    Returns:
        The table, one line per row.
    """
    cells = [[str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = []
    for row in cells:
        columns = enumerate(zip(row, widths, strict=True))
        lines.append(
            '  '.join(cell.rjust(width) if n in right else cell.ljust(width) for n, (cell, width) in columns).rstrip()
        )
    return '\n'.join(lines)


def report_error(error: Exception, verb: str = '') -> int:
    """Print an error as one sentence on stderr.

    Errors that were not foreseen become one sentence too; with M3ET_TRACEBACK=1 their traceback is printed as well.

    Args:
        error: the exception that ended the command.
        verb: verb of the command, for the hint at its --help.

    Returns:
        The exit code: USAGE for wrong usage, else 1, or that of a node that failed.
    """
    if os.environ.get('M3ET_TRACEBACK'):
        traceback.print_exception(error)
    if isinstance(error, typer.TyperException):
        context = getattr(error, 'ctx', None)
        asked = context.command_path if context is not None else f'm3et {verb}'.rstrip()
        # Without arguments a group of verbs has printed its help instead.
        if message := usage_sentence(error.format_message()):
            print_status(f'm3et: {message} (see {asked} --help)')
        return USAGE
    if isinstance(error, (Refused, InputError)):
        print_status(f'm3et: {error}')
    else:
        message = ' '.join(str(error).split()) or 'no message'
        print_status(f'm3et: {type(error).__name__}: {message}; run again with M3ET_TRACEBACK=1 to see where')
    return error.code if isinstance(error, Refused) else 1


def _json_values(value: Any) -> Any:
    """Convert values that JSON lacks: keys become text, tuples become lists, and non-finite floats become None."""
    if isinstance(value, dict):
        return {str(key): _json_values(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_json_values(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
