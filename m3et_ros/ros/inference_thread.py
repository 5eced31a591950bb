"""One thread that does all inference: the newest frame and the questions, in the order they came."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Lock
from typing import Any

MAX_QUESTIONS = 100
"""How many questions may wait before the next is refused."""


class InferenceThread:
    """The inference thread of a node.

    Frames wait in one slot where the newest wins; questions wait in line. A frame takes its place in the line when the
    slot becomes full, and what it finds there when its turn comes is the newest. So neither can starve the other: a
    question waits for at most one frame and the questions before it.
    """

    def __init__(self, on_frame: Callable[[Any], None], *, name: str = 'inference', max_questions: int = MAX_QUESTIONS):
        """Start the thread.

        Args:
            on_frame: called on the thread with the newest frame; must not raise.
            name: name of the thread.
            max_questions: how many questions may wait before the next is refused.
        """
        self._on_frame = on_frame
        self._max_questions = max_questions
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)
        self._lock = Lock()
        self._slot: Any = None
        self._questions = 0
        self._closed = False

    def offer(self, frame: Any) -> bool:
        """Put a frame into the slot; True when it displaced one that nobody had looked at."""
        with self._lock:
            if self._closed:
                return False
            displaced, self._slot = self._slot is not None, frame
            if not displaced:
                self._pool.submit(self._take_frame)
        return displaced

    def submit(self, job: Callable[[], Any]) -> Future | None:
        """Queue a job; its future, or None when the line is full or the worker closed."""
        with self._lock:
            if self._closed or self._questions >= self._max_questions:
                return None
            self._questions += 1
            future = self._pool.submit(job)
        future.add_done_callback(self._question_done)
        return future

    @property
    def waiting(self) -> int:
        """Number of questions in line, the one being answered included."""
        return self._questions

    def close(self) -> None:
        """Finish the job in hand, drop the rest, join the thread."""
        with self._lock:
            self._closed, self._slot = True, None
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _take_frame(self) -> None:
        with self._lock:
            frame, self._slot = self._slot, None
        if frame is not None:
            self._on_frame(frame)

    def _question_done(self, _: Future) -> None:
        with self._lock:
            self._questions -= 1
