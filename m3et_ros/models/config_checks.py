"""Checks of config fields. Each raises a ValueError that names the field, its value and the allowed values."""

from collections.abc import Mapping, Sequence
from typing import Any


def check_whole(config: Any, ranges: Mapping[str, tuple[int, int]]) -> None:
    """Refuse a field that is not a whole number in its range, both ends included."""
    for name, (low, high) in ranges.items():
        value = getattr(config, name)
        if not _is_whole(value) or not low <= value <= high:
            raise ValueError(f'{name} is {value!r}; give a whole number from {low} to {high}')


def check_number(config: Any, ranges: Mapping[str, tuple[float, float]]) -> None:
    """Refuse a field that is not a number in its range, both ends included; NaN never is."""
    for name, (low, high) in ranges.items():
        value = getattr(config, name)
        if not _is_number(value) or not low <= value <= high:
            raise ValueError(f'{name} is {value!r}; give a number from {low:g} to {high:g}')


def check_above(config: Any, ranges: Mapping[str, tuple[float, float]]) -> None:
    """Refuse a field that is not a number in its range, the lower end excluded."""
    for name, (low, high) in ranges.items():
        value = getattr(config, name)
        if not _is_number(value) or not low < value <= high:
            raise ValueError(f'{name} is {value!r}; give a number above {low:g} and at most {high:g}')


def check_share(config: Any, *names: str) -> None:
    """Refuse a field that is not a number from 0 to less than 1."""
    for name in names:
        value = getattr(config, name)
        if not _is_number(value) or not 0 <= value < 1:
            raise ValueError(f'{name} is {value!r}; give a number from 0 to less than 1')


def check_choice(config: Any, choices: Mapping[str, Sequence[str]]) -> None:
    """Refuse a field that is not one of its choices."""
    for name, allowed in choices.items():
        if getattr(config, name) not in allowed:
            raise ValueError(f'{name} is {getattr(config, name)!r}; give one of {", ".join(allowed)}')


def check_switch(config: Any, *names: str) -> None:
    """Refuse a field that is not true or false."""
    for name in names:
        if not isinstance(getattr(config, name), bool):
            raise ValueError(f'{name} is {getattr(config, name)!r}; give true or false')


def check_texts(config: Any, *names: str) -> None:
    """Refuse a field that is not a tuple of texts."""
    for name in names:
        value = getattr(config, name)
        if not isinstance(value, tuple) or not all(isinstance(item, str) for item in value):
            raise ValueError(f'{name} is {value!r}; give a tuple of texts')


def check_whole_items(config: Any, ranges: Mapping[str, tuple[int, int]]) -> None:
    """Refuse a field that is not a tuple of whole numbers in its range, both ends included."""
    for name, (low, high) in ranges.items():
        value = getattr(config, name)
        if not _are_whole(value, low, high):
            raise ValueError(f'{name} is {value!r}; give a tuple of whole numbers from {low} to {high}')


def check_whole_rows(config: Any, ranges: Mapping[str, tuple[int, int]]) -> None:
    """Refuse a field that is not a tuple of tuples of whole numbers in its range, both ends included."""
    for name, (low, high) in ranges.items():
        value = getattr(config, name)
        if not isinstance(value, tuple) or not all(_are_whole(row, low, high) for row in value):
            raise ValueError(f'{name} is {value!r}; give a tuple of tuples of whole numbers from {low} to {high}')


def check_divides(config: Any, name: str, number: int, of: str, *, value: int | None = None) -> None:
    """Refuse a field that does not divide `number`, which the sentence calls `of`; `value` replaces the field's."""
    value = getattr(config, name) if value is None else value
    if number % value:
        raise ValueError(f'{name} is {value}; give a divisor of {of} = {number}')


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _are_whole(values: Any, low: int, high: int) -> bool:
    return isinstance(values, tuple) and all(_is_whole(value) and low <= value <= high for value in values)
