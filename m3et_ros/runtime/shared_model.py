"""Models for engines: one for each engine, or one for all engines of a process that use the same weights."""

from collections.abc import Callable, Hashable
from dataclasses import replace
from threading import Lock
from typing import Any, TypeVar
from weakref import WeakKeyDictionary, WeakValueDictionary

import torch

from m3et_ros.data.checkpoints.m3et import Checkpoint
from m3et_ros.runtime.backends.background import BackgroundBuild
from m3et_ros.runtime.batching import Batcher
from m3et_ros.runtime.open_model import open_checkpoint

BuiltT = TypeVar('BuiltT')


class SharedModel:
    """One model for several engines.

    It stays on an accelerator while one of them asks for that, and in bfloat16 while one of them asks for that.

    Attributes:
        batcher: runs steps of several engines together; None = each engine runs its own.
    """

    def __init__(self, checkpoint: Checkpoint, *, window_s: float, most: int):
        self.model = checkpoint.model
        self.batcher = Batcher(self.model, window_s=window_s, most=most) if window_s > 0 else None
        self._requests: WeakKeyDictionary[Any, tuple[torch.device, torch.dtype]] = WeakKeyDictionary()
        self._lock, self._building = Lock(), Lock()
        self._graphs: dict[Hashable, Any] = {}

    def move(self, engine: Any, device: torch.device, dtype: torch.dtype) -> torch.device:
        """Move the model to where an engine asks for it, unless others need it elsewhere; returns its device.

        Args:
            engine: the engine that asks; it is removed once it no longer exists.
            device: where it asks for the model; idle engines ask for the CPU.
            dtype: data type of the weights.
        """
        with self._lock:
            self._requests[engine] = device, dtype
            devices, dtypes = zip(*self._requests.values(), strict=True)
            target = next((other for other in devices if other.type != 'cpu'), device)
            self.model.to(device=target, dtype=next((other for other in dtypes if other != torch.float32), dtype))
            if self.batcher is not None:
                self.batcher.clients = len(devices)
        return target

    def graphs(self, setting: Hashable, build: Callable[[], BuiltT]) -> BuiltT:
        """Return what `build` returned to the first engine that asked with this setting; the others wait for it.

        Args:
            setting: tells graphs of this model apart: runtime, precision and so on.
            build: builds graphs of the model, or prepares their build.

        Raises:
            Exception: whatever `build` raises; nothing is stored then.
        """
        with self._building:
            if setting not in self._graphs:
                self._graphs[setting] = build()
            return self._graphs[setting]

    def leave(self, engine: Any) -> None:
        """Count an engine no longer; with the last one the graphs go, too, and the making of them ends."""
        with self._lock:
            self._requests.pop(engine, None)
            left = len(self._requests)
            if self.batcher is not None:
                self.batcher.clients = left
        if not left:
            with self._building:
                for built in self._graphs.values():
                    if isinstance(built, BackgroundBuild):
                        built.close()
                self._graphs.clear()


class Models:
    """Opens models, a fresh one each time."""

    def open(self, name: str, *, seed: int = 0) -> tuple[Checkpoint, SharedModel | None]:
        """Open a checkpoint; returns it, and the SharedModel that holds its model where engines share it.

        Args:
            name: as open_model.open_checkpoint takes it.
            seed: seed of random weights.

        Raises:
            InputError: it cannot be opened.
        """
        return open_checkpoint(name, seed=seed), None


class SharedModels(Models):
    """Opens models; checkpoints of the same weights share one model, but not their heads.

    Args:
        window_s: longest time that a step waits to share a batch with others, seconds; 0 batches nothing.
        most: largest number of steps in a batch, at least 2.
    """

    def __init__(self, *, window_s: float = 0.0, most: int = 16):
        self._window_s, self._most = window_s, most
        self._known: WeakValueDictionary[str, SharedModel] = WeakValueDictionary()
        self._lock = Lock()

    def open(self, name: str, *, seed: int = 0) -> tuple[Checkpoint, SharedModel | None]:
        """Open a checkpoint as Models.open does."""
        checkpoint = open_checkpoint(name, seed=seed)
        with self._lock:  # robots load their models on threads of their own
            shared = self._known.get(checkpoint.model_id)
            if shared is None:
                shared = SharedModel(checkpoint, window_s=self._window_s, most=self._most)
                self._known[checkpoint.model_id] = shared
        return replace(checkpoint, model=shared.model), shared
