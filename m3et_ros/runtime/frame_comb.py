"""NEW FILE."""

from collections.abc import Iterator
from typing import Generic, TypeVar

# MERGED from m3et_ros/runtime/memory
Item = TypeVar('Item')


class FrameComb(Generic[Item]):
    """An evenly spaced sample of everything remembered, never more than `capacity` items, the newest always among them.

    Raises:
        ValueError: capacity is below 2.
    """

    def __init__(self, capacity: int = 8):
        if capacity < 2:
            raise ValueError(f'capacity is {capacity}; give 2 or more, so that the episode has a beginning and an end')
        self.capacity = capacity
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self.seen = 0
        self._stride = 1
        self._comb: list[Item] = []
        self._newest: Item | None = None

    def remember(self, item: Item) -> None:
        """Take in the next item of the episode."""
        if self.seen % self._stride == 0:
            self._comb.append(item)
        # One place is kept for the newest, which may stand between two teeth of the comb.
        if len(self._comb) == self.capacity:
            self._comb = self._comb[::2]
            self._stride *= 2
        self._newest = item
        self.seen += 1

    def __iter__(self) -> Iterator[Item]:
        """Oldest first."""
        yield from self._comb
        if self._newest is not None and (not self._comb or self._comb[-1] is not self._newest):
            yield self._newest

    def __len__(self) -> int:
        return sum(1 for _ in self)
