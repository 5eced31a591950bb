"""Signs of life from a node to the process that supervises it, over a pipe that it inherits.

A process that hangs keeps its place in DDS, so other processes cannot see that it hangs. The node writes a byte each
time its executor comes round and its other threads make progress. cli/supervision.py reads them and starts a node that
is silent again.
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

PIPE_VARIABLE = 'M3ET_HEARTBEAT_PIPE'
"""Environment variable with the file descriptor of the pipe; unset where nobody supervises the node."""
RESTARTED_VARIABLE = 'M3ET_RESTARTED'
"""Environment variable with a sentence that says why the node was started again; unset after the first start."""
ALIVE, LONG_WORK, SERVES = b'.', b'l', b's'
"""Bytes on the pipe: the node answers; its executor starts work that may take minutes, such as loading a model; it has
started as it should."""
PERIOD_S = 0.5


class Heartbeat:
    """The writing end of the pipe.

    Args:
        pipe: file descriptor; None writes nothing.
        clock: seconds that never go back.
    """

    def __init__(self, pipe: int | None, *, clock: Callable[[], float] = time.monotonic):
        self._pipe, self._clock, self._last = pipe, clock, float('-inf')
        if pipe is not None:
            os.set_blocking(pipe, False)

    def beat(self, sign: bytes = ALIVE) -> None:
        """Write a sign; ALIVE at most once in PERIOD_S. A supervisor that is gone or does not read is ignored."""
        now = self._clock()
        if self._pipe is None or (sign == ALIVE and now - self._last < PERIOD_S):
            return
        self._last = now
        try:
            os.write(self._pipe, sign)
        except BlockingIOError:
            pass
        except OSError:
            self._pipe = None

    @contextmanager
    def long_work(self) -> Iterator[None]:
        """Announce work on the executor's thread that may take minutes; the signs of life stop for the block."""
        self.beat(LONG_WORK)
        try:
            yield
        finally:
            self._last = float('-inf')
            self.beat()


def _inherited() -> Heartbeat:
    """Return the heartbeat of this process; its own children do not inherit it."""
    pipe = os.environ.pop(PIPE_VARIABLE, '')
    if pipe:
        os.set_inheritable(int(pipe), False)
    return Heartbeat(int(pipe) if pipe else None)


HEARTBEAT = _inherited()
"""The heartbeat of this process."""
RESTARTED = os.environ.pop(RESTARTED_VARIABLE, '')
"""Sentence that says why this process was started again by its supervisor; '' after the first start."""
