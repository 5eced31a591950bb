"""One slot between a thread that produces and a thread that takes; the newest item wins."""

from threading import Condition
from typing import Generic, TypeVar

Item = TypeVar('Item')


class Mailbox(Generic[Item]):
    """A slot for one item; items may not be None.

    A queue would hand a slow taker what is long out of date: age grows with depth x period. One slot keeps it at the
    period.
    """

    def __init__(self):
        self._changed = Condition()
        self._item: Item | None = None
        self._replaced = 0
        self._closed = False

    @property
    def replaced(self) -> int:
        """How many items nobody took before the next came."""
        with self._changed:
            return self._replaced

    @property
    def closed(self) -> bool:
        """Whether close was called."""
        with self._changed:
            return self._closed

    def put(self, item: Item) -> bool:
        """Put an item into the slot; True when it replaced one. A closed mailbox takes nothing.

        Raises:
            ValueError: item is None, which means 'nothing' to take.
        """
        if item is None:
            raise ValueError('item is None; put something that take can tell from nothing')
        with self._changed:
            if self._closed:
                return False
            full = self._item is not None
            self._replaced += full
            self._item = item
            self._changed.notify()
        return full

    def take(self, timeout: float | None = None) -> Item | None:
        """Wait for an item and empty the slot.

        Args:
            timeout: seconds; None waits until an item comes or the mailbox is closed, 0 does not wait.

        Returns:
            The item, or None when the time is over or the mailbox is closed.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._item is not None or self._closed, timeout)
            item, self._item = self._item, None
            return item

    def close(self) -> None:
        """Empty the slot and wake every waiting thread."""
        with self._changed:
            self._closed, self._item = True, None
            self._changed.notify_all()
