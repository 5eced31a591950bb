"""Batches across robots: steps that several engines ask of one model at the same time are run together.

Every engine has a thread of its own and asks for one step at a time, so that the oldest waiting step belongs to the
robot that has waited longest. It goes first, together with equal steps on tensors of the same shapes; no robot is
served twice while another waits. The steps of a batch that fails are run again one by one, so that bad input affects
nobody else.

Symbols: n steps of a batch, B samples of a step.
"""

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, is_dataclass
from threading import Condition
from typing import Any

import torch
from torch import Tensor, nn

from m3et_ros.runtime.tensor_trees import leaves, parts_of, rebuilt

Step = Callable[..., Any]
"""step(model, *args): trees of tensors whose first dimension is B in, such trees out."""


@dataclass(eq=False)
class _Call:
    """A step that a thread waits for."""

    step: Step
    args: tuple
    # Steps with the same key can share a batch.
    key: tuple
    arrived_s: float = field(default_factory=time.monotonic)
    # A batch was formed while it waited; waiting longer would bring it no companions.
    passed_over: bool = False
    done: bool = False
    result: Any = None
    error: Exception | None = None


class Batcher:
    """Runs the steps of several threads together.

    Args:
        model: first argument of every step; read only.
        window_s: longest time that a step waits for others, seconds, above 0.
        most: largest number of steps in a batch, at least 2.

    Attributes:
        clients: threads that may ask; once all of them wait, a batch is formed at once.
        batches, steps: run so far.

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

    @property
    def waiting(self) -> int:
        """Return the number of steps that wait for a batch."""
        return len(self._waiting)

    def run(self, step: Step, *args: Any) -> Any:
        """Return step(model, *args), perhaps computed as a part of a batch.

        Args:
            step: treats each sample independently of the others.
            args: trees (dataclasses, mappings, sequences) of tensors with B first; other leaves must be hashable, and
                equal for steps that share a batch.

        Raises:
            Exception: whatever the step raises.
        """
        call = _Call(step, args, (step, *_signature(args)))
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
        """Run batches until the step of this thread is done, then let another thread run them."""
        try:
            while not own.done:
                self._finish(self._next_batch())
        finally:
            with self._changed:
                self._leading = False
                self._changed.notify_all()

    def _next_batch(self) -> list[_Call]:
        """Wait for companions of the oldest step, at most until its window is over, and return the batch."""
        with self._changed:
            oldest = self._waiting[0]
            left = oldest.arrived_s + self._window_s - time.monotonic()
            self._changed.wait_for(
                lambda: oldest.passed_over or len(self._waiting) >= min(self._most, max(1, self.clients)),
                max(0.0, left),
            )
            group = [call for call in self._waiting if call.key == oldest.key][: self._most]
            self._waiting = deque(call for call in self._waiting if call not in group)
            for call in self._waiting:
                call.passed_over = True
        return group

    def _finish(self, group: Sequence[_Call]) -> None:
        """Run a batch and hand out its results."""
        self.batches, self.steps = self.batches + 1, self.steps + len(group)
        try:
            results = self._run_together(group)
        except Exception as error:
            results = [error] if len(group) == 1 else [self._run_alone(call) for call in group]
        with self._changed:
            for call, result in zip(group, results, strict=True):
                call.error = result if isinstance(result, Exception) else None
                call.result, call.done = result, True
            self._changed.notify_all()

    def _run_alone(self, call: _Call) -> Any:
        """Return the result of one step, or the exception that it raised."""
        try:
            return call.step(self._model, *call.args)
        except Exception as error:
            return error

    def _run_together(self, group: Sequence[_Call]) -> list[Any]:
        if len(group) == 1:
            return [group[0].step(self._model, *group[0].args)]
        inputs = [list(leaves(call.args)) for call in group]
        sizes = [len(own[0]) for own in inputs]
        batch = rebuilt(group[0].args, iter([torch.cat(same) for same in zip(*inputs, strict=True)]))
        outputs = group[0].step(self._model, *batch)
        split = [leaf.split(sizes) for leaf in leaves(outputs)]
        return [rebuilt(outputs, iter([leaf[index] for leaf in split])) for index in range(len(group))]


def _signature(tree: Any) -> Iterator[Any]:
    """Yield what trees must have in common for their tensors to share a batch."""
    if isinstance(tree, Tensor):
        yield tree.shape[1:], tree.dtype, tree.device
    elif is_dataclass(tree) or isinstance(tree, (Mapping, tuple, list)):
        yield type(tree), tuple(tree) if isinstance(tree, Mapping) else ()
        for part in parts_of(tree):
            yield from _signature(part)
    else:
        yield tree
