"""Progress with the time left: a bar on a terminal, one line per tenth elsewhere. All of it on stderr."""

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from m3et_ros.cli.output import note

Item = TypeVar('Item')
TENTHS = 10


def track(items: Iterable[Item], total: int, what: str, unit: str = 'frame') -> Iterator[Item]:
    """Yield the items and say how far along we are.

    Args:
        items: what is worked on.
        total: their number, above 0.
        what: what is being done.
        unit: what an item is called.
    """
    if sys.stderr.isatty():
        from tqdm import tqdm

        yield from tqdm(items, total=total, desc=what, unit=unit, leave=False)
        return
    start, told = time.monotonic(), 0
    for done, item in enumerate(items, start=1):
        yield item
        tenth = TENTHS * done // total
        if tenth > told:
            told, spent = tenth, time.monotonic() - start
            note(f'{what}: {100 * done // total} %, {spent * (total - done) / done:.0f} s left')


class Waiting:
    """One changing line on a terminal while something takes its time; nothing elsewhere. Cleared when left."""

    def __init__(self):
        self._terminal = sys.stderr.isatty()
        self._start = time.monotonic()

    def __enter__(self) -> 'Waiting':
        return self

    def __exit__(self, *_) -> None:
        self._write('')

    def show(self, text: str) -> None:
        """Say what is being waited for, with the seconds so far."""
        self._write(f'{text} ({time.monotonic() - self._start:.0f} s)')

    def _write(self, text: str) -> None:
        if self._terminal:
            sys.stderr.write(f'\r\x1b[K{text}')
            sys.stderr.flush()
