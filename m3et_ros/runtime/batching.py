"""Many robots, one model: what several engines ask of it at the same time is done in one batch.

Every engine has a thread of its own and asks for one step at a time, so that the oldest step waiting belongs to the
robot that has waited longest. It goes first, and with it whoever asks for the same with tensors of the same shapes: no
robot is served twice while another waits. A step of which a batch fails is tried again alone, so that bad input costs
nobody else anything.

Symbols: n steps of a batch, B samples of a step.
"""

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from threading import Condition
from typing import Any

import torch
from torch import Tensor, nn

Step = Callable[..., Any]
"""step(model, *args): trees of tensors whose first dimension is B in, such trees out."""


@dataclass(eq=False)
class _Call:
    """A step that somebody waits for."""

    step: Step
    args: tuple
    # Steps with the same key can be done together.
    key: tuple
    came_s: float = field(default_factory=time.monotonic)
    # Whether a batch was put together while it waited, so that waiting longer would bring it nothing.
    passed_over: bool = False
    done: bool = False
    result: Any = None
    error: Exception | None = None


class Batcher:
    """Does the steps of several threads together.

    Args:
        model: what steps are done with; read only.
        window_s: longest time that a step waits for others, seconds, above 0.
        most: steps of a batch, at least 2.

    Attributes:
        clients: threads that may ask; where all of them wait, nobody waits any longer.
        batches, steps: done so far.

    Raises:
        ValueError: window_s or most is out of range.
    """

    def __init__(self, model: nn.Module, *, window_s: float, most: int = 16):
        if window_s <= 0 or most < 2:
            raise ValueError(f'window_s is {window_s} and most {most}; give more than 0 and at least 2')
        self._model, self._window_s, self._most = model, window_s, most
        self._changed, self._leading = Condition(), False
        self._waiting: deque[_Call] = deque()
        self.clients = self.batches = self.steps = 0

    def do(self, step: Step, *args: Any) -> Any:
        """step(model, *args), perhaps as a part of a batch.

        Args:
            step: does the same for each sample, whatever others stand beside it.
            args: trees (dataclasses, mappings, sequences) of tensors with B first; what is no tensor must be the same
                for steps that are done together, and hashable.

        Raises:
            Exception: what the step raises.
        """
        call = _Call(step, args, (step, *_shape(args)))
        with self._changed:
            self._waiting.append(call)
            self._changed.notify_all()
            self._changed.wait_for(lambda: call.done or not self._leading)
            self._leading = self._leading or not call.done
        while not call.done:
            self._lead(call)
        if call.error is not None:
            raise call.error
        return call.result

    def _lead(self, own: _Call) -> None:
        """Do batches until the own step is among them, then let somebody else lead."""
        try:
            while not own.done:
                group = self._gathered()
                self._answer(group)
        finally:
            with self._changed:
                self._leading = False
                self._changed.notify_all()

    def _gathered(self) -> list[_Call]:
        """Wait for companions of the oldest step, at most until its window is over."""
        with self._changed:
            oldest = self._waiting[0]
            left = oldest.came_s + self._window_s - time.monotonic()
            self._changed.wait_for(
                lambda: oldest.passed_over or len(self._waiting) >= min(self._most, max(1, self.clients)),
                max(0.0, left),
            )
            group = [call for call in self._waiting if call.key == oldest.key][: self._most]
            self._waiting = deque(call for call in self._waiting if call not in group)
            for call in self._waiting:
                call.passed_over = True
        return group

    def _answer(self, group: Sequence[_Call]) -> None:
        self.batches, self.steps = self.batches + 1, self.steps + len(group)
        try:
            results = self._done(group)
        except Exception as error:
            results = [error] if len(group) == 1 else [self._alone(call) for call in group]
        with self._changed:
            for call, result in zip(group, results, strict=True):
                call.error = result if isinstance(result, Exception) else None
                call.result, call.done = result, True
            self._changed.notify_all()

    def _alone(self, call: _Call) -> Any:
        try:
            return call.step(self._model, *call.args)
        except Exception as error:
            return error

    def _done(self, group: Sequence[_Call]) -> list[Any]:
        if len(group) == 1:
            return [group[0].step(self._model, *group[0].args)]
        parts = [list(leaves(call.args)) for call in group]
        sizes = [len(own[0]) for own in parts]
        together = rebuilt(group[0].args, iter([torch.cat(same) for same in zip(*parts, strict=True)]))
        found = group[0].step(self._model, *together)
        split = [leaf.split(sizes) for leaf in leaves(found)]
        return [rebuilt(found, iter([leaf[place] for leaf in split])) for place in range(len(group))]


def leaves(tree: Any) -> Iterator[Tensor]:
    """The tensors of a tree of dataclasses, mappings and sequences, in order."""
    if isinstance(tree, Tensor):
        yield tree
    for part in _parts(tree):
        yield from leaves(part)


def rebuilt(tree: Any, tensors: Iterator[Tensor]) -> Any:
    """The same tree with other tensors, in the order of `leaves`."""
    if isinstance(tree, Tensor):
        return next(tensors)
    parts = [rebuilt(part, tensors) for part in _parts(tree)]
    if is_dataclass(tree):
        return replace(tree, **{f.name: part for f, part in zip(fields(tree), parts)})
    if isinstance(tree, Mapping):
        return dict(zip(tree, parts))
    if isinstance(tree, tuple):
        return type(tree)(*parts) if hasattr(tree, '_fields') else tuple(parts)
    return parts if isinstance(tree, list) else tree


def _parts(tree: Any) -> list[Any]:
    if is_dataclass(tree):
        return [getattr(tree, f.name) for f in fields(tree)]
    if isinstance(tree, Mapping):
        return list(tree.values())
    return list(tree) if isinstance(tree, (tuple, list)) else []


def _shape(tree: Any) -> Iterator[Any]:
    """What trees must have in common for their tensors to go into one batch."""
    if isinstance(tree, Tensor):
        yield tree.shape[1:], tree.dtype, tree.device
    elif is_dataclass(tree) or isinstance(tree, (Mapping, tuple, list)):
        yield type(tree), tuple(tree) if isinstance(tree, Mapping) else ()
        for part in _parts(tree):
            yield from _shape(part)
    else:
        yield tree
