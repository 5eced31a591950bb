"""The progress callback of long work: it hands items on and reports how far along they are."""

from collections.abc import Callable, Iterable
from typing import Any

Progress = Callable[[Iterable[Any], int, str, str], Iterable[Any]]
"""Takes the items, their total, what is being done and the unit of an item; returns the items."""


def no_progress(items: Iterable[Any], _total: int, _what: str, _unit: str) -> Iterable[Any]:
    """Hand the items on without a report."""
    return items
