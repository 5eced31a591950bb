"""Output of the command: text for people, JSON for programs, and one sentence on stderr when something is wrong."""

import json
import logging
import math
import os
import re
import sys
import traceback
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import typer

from m3et_ros.data.errors import InputError, printable

SCHEMA = 1
"""Number of the form of all JSON documents; it rises when a key is renamed, removed or gets another meaning."""
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


def check_text(arguments: Iterable[str]) -> None:
    """Refuse an argument that is no text, which typer and ROS cannot pass on.

    Args:
        arguments: the words of a command line; bytes that are not UTF-8 are surrogates in them, as Python reads them.

    Raises:
        Refused: with the exit code of wrong usage.
    """
    for argument in arguments:
        if any('\ud800' <= c <= '\udfff' for c in argument):
            raise Refused(
                f'The argument {os.fsencode(argument)!r} is not UTF-8; type it in UTF-8, or rename the file.', USAGE
            )


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
    print(visible(text), flush=True)


def print_status(text: str) -> None:
    """Print a line on stderr, apart from the output that a program reads."""
    print(visible(text), file=sys.stderr, flush=True)


def visible(text: str) -> str:
    """Return a text whose control characters are escapes, except line breaks and tabs.

    Words of data sets, names of files and answers of nodes could otherwise command the terminal, and what is not UTF-8
    in a name could not be printed at all.
    """
    return '\t'.join('\n'.join(map(printable, part.split('\n'))) for part in text.split('\t'))


class VisibleFormatter(logging.Formatter):
    """A formatter of log lines whose control characters are escapes."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record."""
        return visible(super().format(record))


def print_json(document: Mapping[str, Any]) -> None:
    """Print a JSON document with the number of its schema; NaN and infinities become null."""
    print_line(json_text(document, indent=2))


def json_text(document: Mapping[str, Any], *, indent: int | None = None) -> str:
    """Return a JSON document with the number of its schema; NaN and infinities become null."""
    return json.dumps({'schema': SCHEMA} | _json_values(document), indent=indent)


def format_table(rows: Iterable[Sequence[Any]], *, right: Sequence[int] = ()) -> str:
    """Format rows as aligned columns of text.

    Args:
        rows: cells of any type; the first row is the header.
        right: indices of the columns that are aligned to the right.

    Returns:
        The table, one line per row.
    """
    cells = [[printable(str(cell)) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = []
    for row in cells:
        columns = enumerate(zip(row, widths, strict=True))
        lines.append(
            '  '.join(cell.rjust(width) if n in right else cell.ljust(width) for n, (cell, width) in columns).rstrip()
        )
    return '\n'.join(lines)


def print_table(rows: Iterable[Sequence[Any]], *, right: Sequence[int] = ()) -> None:
    """Print rows as a table: fitted to the width of a terminal, with a bold header; plain text elsewhere.

    Args:
        rows: cells of any type; the first row is the header.
        right: indices of the columns that are aligned to the right.
    """
    if not sys.stdout.isatty():
        print_line(format_table(rows, right=right))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    header, *others = ([Text(printable(str(cell))) for cell in row] for row in rows)
    table = Table(box=None, header_style='bold', pad_edge=False)
    for n, title in enumerate(header):
        table.add_column(title, justify='right' if n in right else 'left', overflow='fold')
    for row in others:
        table.add_row(*row)
    Console(highlight=False).print(table)


def report_error(error: Exception, verb: str = '', *, as_json: bool = False) -> int:
    """Print an error as one sentence on stderr, and as JSON on stdout for a program.

    Errors that were not foreseen become one sentence too; with M3ET_TRACEBACK=1 their traceback is printed as well.

    Args:
        error: the exception that ended the command.
        verb: verb of the command, for the hint at its --help.
        as_json: print {"schema": ..., "error": {"reason": ..., "message": ..., "exit_code": ...}} too.

    Returns:
        The exit code: USAGE for wrong usage, else 1, or that of a node that failed.
    """
    if os.environ.get('M3ET_TRACEBACK'):
        traceback.print_exception(error)
    reason, sentence, code = _told(error, verb)
    if sentence:
        print_status(f'm3et: {sentence}')
    if as_json:
        print_json({'error': {'reason': reason, 'message': sentence, 'exit_code': code}})
    return code


def _told(error: Exception, verb: str) -> tuple[str, str, int]:
    """Return the reason in a word, the sentence and the exit code of an error."""
    if isinstance(error, typer.TyperException):
        context = getattr(error, 'ctx', None)
        asked = context.command_path if context is not None else f'm3et {verb}'.rstrip()
        # Without arguments a group of verbs has printed its help instead.
        message = usage_sentence(error.format_message())
        return 'usage', message and f'{message} (see {asked} --help)', USAGE
    if isinstance(error, Refused):
        return 'refused', str(error), error.code
    if isinstance(error, InputError):
        return error.reason, str(error), 1
    message = ' '.join(str(error).split()) or 'no message'
    where = 'run again with M3ET_TRACEBACK=1 to see where'
    return 'internal_error', f'{type(error).__name__}: {message}; {where}', 1


def _json_values(value: Any) -> Any:
    """Convert values that JSON lacks: keys become text, tuples become lists, and non-finite floats become None."""
    if isinstance(value, dict):
        return {str(key): _json_values(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_json_values(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
