"""Where engines get their models: each its own, or one for all engines of a process that ask for the same weights."""

from dataclasses import replace
from threading import Lock
from typing import Any
from weakref import WeakKeyDictionary, WeakValueDictionary

import torch

from m3et_ros.data.checkpoints.m3et import Checkpoint
from m3et_ros.runtime.batching import Batcher
from m3et_ros.runtime.open_model import open_checkpoint


class Shared:
    """One model for several engines.

    It stands on an accelerator as long as one of them is there, and in bfloat16 as long as one of them wants it so.

    Attributes:
        batcher: does steps of several engines together; None = each engine does its own.
    """

    def __init__(self, checkpoint: Checkpoint, *, window_s: float, most: int):
        self.model = checkpoint.model
        self.batcher = Batcher(self.model, window_s=window_s, most=most) if window_s > 0 else None
        self._wishes: WeakKeyDictionary[Any, tuple[torch.device, torch.dtype]] = WeakKeyDictionary()
        self._lock = Lock()

    def place(self, user: Any, device: torch.device, dtype: torch.dtype) -> torch.device:
        """Let the model stand where an engine wants it, unless others have it elsewhere; says where it stands.

        Args:
            user: the engine; forgotten when it is gone.
            device: where it wants the model; the CPU is where it is wanted by engines that rest.
            dtype: in what precision.
        """
        with self._lock:
            self._wishes[user] = device, dtype
            places, kinds = zip(*self._wishes.values())
            target = next((place for place in places if place.type != 'cpu'), device)
            self.model.to(device=target, dtype=next((kind for kind in kinds if kind != torch.float32), dtype))
            if self.batcher is not None:
                self.batcher.clients = len(places)
        return target


class Models:
    """Opens models, a fresh one each time."""

    def open(self, name: str, *, seed: int = 0) -> tuple[Checkpoint, Shared | None]:
        """The checkpoint of a name, and with whom its model is shared, if with anybody.

        Raises:
            InputError: it cannot be opened.
        """
        return open_checkpoint(name, seed=seed), None


class SharedModels(Models):
    """Opens models; those of the same weights are one, their heads are not.

    Args:
        window_s: longest time that a step waits for others to be done with it in one batch, seconds; 0 batches nothing.
        most: steps of a batch, at least 2.
    """

    def __init__(self, *, window_s: float = 0.0, most: int = 16):
        self._window_s, self._most = window_s, most
        self._known: WeakValueDictionary[str, Shared] = WeakValueDictionary()

    def open(self, name: str, *, seed: int = 0) -> tuple[Checkpoint, Shared | None]:
        """See Models.open."""
        checkpoint = open_checkpoint(name, seed=seed)
        shared = self._known.get(checkpoint.model_id)
        if shared is None:
            shared = self._known[checkpoint.model_id] = Shared(checkpoint, window_s=self._window_s, most=self._most)
        return replace(checkpoint, model=shared.model), shared
