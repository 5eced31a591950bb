"""Progress on stderr: a bar on a terminal, one line for every tenth elsewhere."""

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from m3et_ros.cli.output import print_status

Item = TypeVar('Item')
TENTHS = 10


def track(items: Iterable[Item], total: int, what: str, unit: str = 'frame') -> Iterator[Item]:
    """Yield the items and report progress with the time left.

    Args:
        items: anything to iterate over.
        total: number of items, above 0.
        what: description of the work.
        unit: name of one item.
    """
    if sys.stderr.isatty():
        from tqdm import tqdm

        yield from tqdm(items, total=total, desc=what, unit=unit, leave=False)
        return
    start, reported = time.monotonic(), 0
    for done, item in enumerate(items, start=1):
        yield item
        tenth = TENTHS * done // total
        if tenth > reported:
            reported, spent = tenth, time.monotonic() - start
            print_status(f'{what}: {100 * done // total} %, {spent * (total - done) / done:.0f} s left')


class Waiting:
    """A context that shows one changing line on a terminal, and nothing elsewhere; the line is cleared at the end."""

    def __init__(self):
        self._terminal = sys.stderr.isatty()
        self._start = time.monotonic()

    def __enter__(self) -> 'Waiting':
        return self

    def __exit__(self, *_) -> None:
        self._write('')

    def show(self, text: str) -> None:
        """Show a text with the seconds since the start."""
        self._write(f'{text} ({time.monotonic() - self._start:.0f} s)')

    def _write(self, text: str) -> None:
        if self._terminal:
            sys.stderr.write(f'\r\x1b[K{text}')
            sys.stderr.flush()
