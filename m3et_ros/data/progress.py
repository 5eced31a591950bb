"""The progress callback of long work: it passes items on and reports the progress."""

from collections.abc import Callable, Iterable
from typing import Any

Progress = Callable[[Iterable[Any], int, str, str], Iterable[Any]]
"""Takes the items, their number, a description of the work and the unit of one item; returns the items."""


def no_progress(items: Iterable[Any], _total: int, _what: str, _unit: str) -> Iterable[Any]:
    """Return the items without a report."""
    return items
