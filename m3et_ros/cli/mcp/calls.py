"""Calls of agents: blocking work on threads, a limited number at once, ended when its caller leaves."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from m3et_ros.cli.output import Refused
from m3et_ros.ros.diagnostics import Counters

MOST_CALLS = 16
"""Calls at once; each of them waits on a thread of its own."""
WATCH_S = 0.1
"""Seconds between two looks at whether the caller is still there."""

ResultT = TypeVar('ResultT')


class Busy(Refused):
    """Too many calls are under way."""


class Calls:
    """Runs blocking work for callers of an event loop, and counts what happens to it.

    Attributes:
        counters: 'calls', 'cancelled' (the caller left before the end), 'busy', and what others count.
    """

    def __init__(self, most: int = MOST_CALLS):
        """Begin without calls; `most` is the largest number at once."""
        self._closed = False
        self.counters = Counters()
        self._most = most
        self._pool = ThreadPoolExecutor(most, 'call')
        self._under_way: set[threading.Event] = set()

    async def run(
        self, work: Callable[[threading.Event], ResultT], left: Callable[[], Awaitable[bool]] | None = None
    ) -> ResultT:
        """Run work on a thread and return its result.

        Args:
            work: receives an event that is set when nobody waits for its result any more, and ends soon then.
            left: tells whether the caller has left; None where a cancellation of this coroutine says so.

        Raises:
            Busy: the largest number of calls is under way.
        """
        if self._closed:
            raise Busy('The server is stopping; call again when it runs.')
        if len(self._under_way) >= self._most:
            self.counters.count('busy')
            raise Busy(f'{self._most} calls are under way, which is the limit; call again when one has ended.')
        self.counters.count('calls')
        stopped = threading.Event()
        self._under_way.add(stopped)
        done = asyncio.get_running_loop().run_in_executor(self._pool, work, stopped)
        done.add_done_callback(lambda ended: self._end(ended, stopped))
        # The work may clear the event while it cancels a question, so the event does not say that it was set.
        gone = False
        try:
            while not (await asyncio.wait({done}, timeout=WATCH_S if left else None))[0]:
                if left is not None and not gone and await left():
                    gone = True
                    self.counters.count('cancelled')
                    stopped.set()
        except asyncio.CancelledError:
            if not gone:
                self.counters.count('cancelled')
                stopped.set()
            raise
        return done.result()

    def close(self) -> None:
        """End the calls that are under way, wait for their threads, and refuse others."""
        self._closed = True
        for stopped in list(self._under_way):
            stopped.set()
        self._pool.shutdown(cancel_futures=True)

    def _end(self, ended: 'asyncio.Future[ResultT]', stopped: threading.Event) -> None:
        self._under_way.discard(stopped)
        # Read, because nobody else reads the error of a call whose caller has left.
        if not ended.cancelled():
            ended.exception()
