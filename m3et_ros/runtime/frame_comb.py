"""An evenly spaced sample of an episode's frames, updated online, and the memory made of it.

M3ET's own embodied question answering reads F frames sampled uniformly from the episode (docs/papers.md 2.5). The
sample is a comb: every stride-th frame is stored; when the comb is full, every second frame is dropped and the stride
doubles. An hour of frames therefore costs what a minute costs.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Generic, TypeVar

from m3et_ros.data.errors import InputError
from m3et_ros.runtime.results import Ranked
from m3et_ros.runtime.view import View

Item = TypeVar('Item')


class FrameComb(Generic[Item]):
    """An evenly spaced sample of all items added so far: at most `capacity` items, always with the newest one.

    Attributes:
        count: items added so far.

    Raises:
        ValueError: capacity is below 2.
    """

    def __init__(self, capacity: int = 8):
        if capacity < 2:
            raise ValueError(f'capacity is {capacity}; give 2 or more, so that the episode has a beginning and an end')
        self.capacity = capacity
        self.reset()

    def reset(self) -> None:
        """Drop all items."""
        self.count = 0
        self._stride = 1
        self._sampled: list[Item] = []
        self._newest: Item | None = None

    def add(self, item: Item) -> None:
        """Add the next item of the episode."""
        if self.count % self._stride == 0:
            self._sampled.append(item)
        # One place is reserved for the newest item, which may lie between two sampled ones.
        if len(self._sampled) == self.capacity:
            self._sampled = self._sampled[::2]
            self._stride *= 2
        self._newest = item
        self.count += 1

    def __iter__(self) -> Iterator[Item]:
        """Yield the sampled items, oldest first."""
        yield from self._sampled
        if self._newest is not None and (not self._sampled or self._sampled[-1] is not self._newest):
            yield self._newest

    def __len__(self) -> int:
        return sum(1 for _ in self)


class FrameMemory:
    """The Memory of models without an episode head: a comb of views, from which M3ET answers.

    Args:
        capacity: largest number of stored views, at least 2.
        model_id: id of the model, named in refusals.
    """

    def __init__(self, capacity: int, model_id: str):
        self._views: FrameComb[View] = FrameComb(capacity)
        self._model_id = model_id

    @property
    def frames(self) -> int:
        """Return the number of stored views."""
        return len(self._views)

    @property
    def first_ns(self) -> int:
        """Return the stamp of the oldest stored view in nanoseconds; 0 without any."""
        views = list(self._views)
        return views[0].frame.stamp_ns if views else 0

    @property
    def last_ns(self) -> int:
        """Return the stamp of the newest stored view in nanoseconds; 0 without any."""
        views = list(self._views)
        return views[-1].frame.stamp_ns if views else 0

    @property
    def bytes(self) -> int:
        """Return the size of the stored views: input tensors, colours and depth."""
        tensors = sum(t.numel() * t.element_size() for view in self._views for t in view.inputs.values())
        images = (image for view in self._views for image in (view.frame.rgb, view.frame.depth))
        return tensors + sum(image.nbytes for image in images if image is not None)

    def due(self, stamp_ns: int) -> bool:
        """Return True: every frame may enter the sample."""
        return True

    def observe(self, view: View) -> bool:
        """Store the next view, without its encodings; returns True."""
        self._views.add(view.without_encodings())
        return True

    def views(self, newest: View) -> list[View]:
        """Return the stored views, oldest first."""
        return list(self._views)

    def answer(self, question: str, top_k: int) -> tuple[Ranked, ...] | None:
        """Return None: M3ET answers from the views."""
        return None

    def reset(self) -> None:
        """Begin a new episode."""
        self._views.reset()

    def save(self, path: Path) -> None:
        """Refuse, as stored frames are not written to disk.

        Raises:
            InputError: always.
        """
        raise self._refusal()

    def restore(self, path: Path) -> None:
        """Refuse, as stored frames are not written to disk.

        Raises:
            InputError: always.
        """
        raise self._refusal()

    def _refusal(self) -> InputError:
        return InputError(
            'memory_none',
            f'{self._model_id} has no memory that could be saved, only frames; load a model that has one, such as '
            'kitchen.',
        )
