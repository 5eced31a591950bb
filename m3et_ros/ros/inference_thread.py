"""The thread that runs all inference of a node: the newest frame and the questions, in order of arrival."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Lock
from typing import Generic, TypeVar

FrameT = TypeVar('FrameT')
ResultT = TypeVar('ResultT')

MAX_QUESTIONS = 100
"""Number of questions that may wait; the next one is refused."""


class InferenceThread(Generic[FrameT]):
    """A slot for the newest frame and a queue of questions, served by one thread.

    A new frame replaces the one in the slot. The slot enters the queue when it is filled, and the frame that it holds
    when its turn comes is processed. So neither side starves the other: a question waits for at most one frame and the
    questions before it.
    """

    def __init__(
        self, on_frame: Callable[[FrameT], None], *, name: str = 'inference', max_questions: int = MAX_QUESTIONS
    ):
        """Start the thread.

        Args:
            on_frame: called on the thread with the newest frame; must not raise.
            name: name of the thread.
            max_questions: number of questions that may wait, the one being answered included.
        """
        self._on_frame = on_frame
        self._max_questions = max_questions
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)
        self._lock = Lock()
        self._slot: FrameT | None = None
        self._questions = 0
        self._closed = False

    def offer(self, frame: FrameT) -> bool:
        """Put a frame into the slot; `on_frame` gets it unless a newer one replaces it first.

        Returns:
            True when it replaced a frame that had not been processed.
        """
        with self._lock:
            if self._closed:
                return False
            replaced, self._slot = self._slot is not None, frame
            if not replaced:
                self._pool.submit(self._process_newest)
        return replaced

    def submit(self, job: Callable[[], ResultT]) -> Future[ResultT] | None:
        """Queue a question.

        Returns:
            Its future; None when the queue is full or the thread is closed.
        """
        with self._lock:
            if self._closed or self._questions >= self._max_questions:
                return None
            self._questions += 1
            future = self._pool.submit(job)
        future.add_done_callback(self._question_done)
        return future

    @property
    def waiting(self) -> int:
        """Number of questions in the queue, the one being answered included."""
        return self._questions

    def close(self) -> None:
        """Finish the current job, cancel the others, join the thread."""
        with self._lock:
            self._closed, self._slot = True, None
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _process_newest(self) -> None:
        with self._lock:
            frame, self._slot = self._slot, None
        if frame is not None:
            self._on_frame(frame)

    def _question_done(self, _: Future) -> None:
        with self._lock:
            self._questions -= 1
