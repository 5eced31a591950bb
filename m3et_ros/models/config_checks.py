"""Checks of config fields, with one sentence each that names field, value and what to give."""

from collections.abc import Mapping, Sequence
from typing import Any


def check_whole(config: Any, ranges: Mapping[str, tuple[int, int]]) -> None:
    """Refuse, by ValueError, a field that is no whole number in its range (both ends included)."""
    for name, (low, high) in ranges.items():
        value = getattr(config, name)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise ValueError(f'{name} is {value!r}; give a whole number from {low} to {high}')


def check_number(config: Any, ranges: Mapping[str, tuple[float, float]]) -> None:
    """Refuse, by ValueError, a field that is no number in its range (both ends included; NaN never is)."""
    for name, (low, high) in ranges.items():
        value = getattr(config, name)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
            raise ValueError(f'{name} is {value!r}; give a number from {low:g} to {high:g}')


def check_choice(config: Any, choices: Mapping[str, Sequence[str]]) -> None:
    """Refuse, by ValueError, a field that is none of its choices."""
    for name, allowed in choices.items():
        if getattr(config, name) not in allowed:
            raise ValueError(f'{name} is {getattr(config, name)!r}; give one of {", ".join(allowed)}')


def check_switch(config: Any, *names: str) -> None:
    """Refuse, by ValueError, a field that is not true or false."""
    for name in names:
        if not isinstance(getattr(config, name), bool):
            raise ValueError(f'{name} is {getattr(config, name)!r}; give true or false')


def check_divides(config: Any, name: str, number: int, of: str, *, value: int | None = None) -> None:
    """Refuse, by ValueError, a field that does not divide `number`, which is called `of`; `value` stands in for it."""
    value = getattr(config, name) if value is None else value
    if number % value:
        raise ValueError(f'{name} is {value}; give a divisor of {of} = {number}')
