"""Trees of tensors: dataclasses, mappings and sequences, nested in any way, with tensors as leaves."""

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any

from torch import Tensor


def leaves(tree: Any) -> Iterator[Tensor]:
    """Yield the tensors of a tree in order; other leaves are skipped."""
    if isinstance(tree, Tensor):
        yield tree
    for part in parts_of(tree):
        yield from leaves(part)


def rebuilt(tree: Any, tensors: Iterator[Tensor]) -> Any:
    """Return a tree of the same structure with other tensors, given in the order of `leaves`."""
    if isinstance(tree, Tensor):
        return next(tensors)
    parts = [rebuilt(part, tensors) for part in parts_of(tree)]
    if is_dataclass(tree) and not isinstance(tree, type):
        return replace(tree, **{f.name: part for f, part in zip(fields(tree), parts, strict=True)})
    if isinstance(tree, Mapping):
        return dict(zip(tree, parts, strict=True))
    if isinstance(tree, tuple):
        return type(tree)(*parts) if hasattr(tree, '_fields') else tuple(parts)
    return parts if isinstance(tree, list) else tree


def parts_of(tree: Any) -> list[Any]:
    """Return the children of a node: field values, mapping values or elements; none for a leaf."""
    if is_dataclass(tree):
        return [getattr(tree, f.name) for f in fields(tree)]
    if isinstance(tree, Mapping):
        return list(tree.values())
    return list(tree) if isinstance(tree, (tuple, list)) else []
