"""The thread that runs all inference of a node: the newest frame and the questions, which share its time by a quota."""

import time
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from threading import Condition, Thread
from typing import Any, Generic, TypeVar

FrameT = TypeVar('FrameT')
ResultT = TypeVar('ResultT')

MAX_QUESTIONS = 100
"""Number of questions that may wait; of more, the newest of the client that has most of them is refused."""
QUESTION_SHARE = 0.12
"""Largest share of the time, 0..1, during which frames may wait for questions."""
MAX_FRAMES = 32
"""Largest number of frames that are processed before the question whose turn it is, even if the share is used up."""
NO_CAMERA_S = 1.0
"""Seconds without a frame after which nothing limits the questions."""


class GaveWay(Exception):  # noqa: N818 - a full queue is no error of this package
    """The result of a question that had to make room for the question of another client."""


class InferenceThread(Generic[FrameT]):
    """A slot for the newest frame and a queue of questions for each client, served by one thread.

    A new frame replaces the one in the slot. The clients take turns, one question each. The thread adds up the time
    that a frame has waited in the slot while a question was answered. While this exceeds `share` of the time that has
    passed, frames come first, so questions cost at most that share of the frames. A question that fits between two
    frames costs nothing and is never held back.

    The question whose turn it is waits for at most MAX_FRAMES frames; with n clients asking, a client that has no other
    question waiting thus waits for at most n * MAX_FRAMES frames and n - 1 questions.
    """

    def __init__(
        self,
        on_frame: Callable[[FrameT], None],
        *,
        name: str = 'inference',
        max_questions: int = MAX_QUESTIONS,
        share: float = QUESTION_SHARE,
        clock: Callable[[], float] = time.monotonic,
    ):
        """Start the thread.

        Args:
            on_frame: called on the thread with the newest frame; must not raise.
            name: name of the thread.
            max_questions: number of questions that may wait, the one being answered included.
            share: largest share of the time during which frames may wait for questions, above 0, at most 1.
            clock: seconds that never go back.
        """
        self._on_frame = on_frame
        self._max_questions = max_questions
        self._share, self._clock = share, clock
        self._changed = Condition()
        self._slot: FrameT | None = None
        self._slot_since = self._last_offer = float('-inf')
        self._urgent: deque[tuple[Future, Callable[[], Any]]] = deque()
        # Clients in the order of their turns; none of the queues is empty.
        self._queues: OrderedDict[Hashable, deque[tuple[Future, Callable[[], Any]]]] = OrderedDict()
        self._questions = 0
        # Seconds that frames have waited for questions beyond the share, at the time `_counted`.
        self._overdrawn, self._counted = 0.0, clock()
        self._frames_since_question = 0
        self._busy_since: float | None = None
        self._closed = False
        # A daemon, so that a call that hangs in a driver cannot keep the process from ending.
        self._thread = Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def offer(self, frame: FrameT) -> bool:
        """Put a frame into the slot; `on_frame` gets it unless a newer one replaces it first.

        Returns:
            True when it replaced a frame that had not been processed.
        """
        with self._changed:
            if self._closed:
                return False
            replaced, self._slot = self._slot is not None, frame
            self._last_offer = self._clock()
            if not replaced:
                self._slot_since = self._last_offer
            self._changed.notify()
        return replaced

    def submit(self, job: Callable[[], ResultT], *, client: Hashable = '') -> Future[ResultT] | None:
        """Queue a question.

        When too many wait, the newest question of the client with most of them gets the exception GaveWay.

        Args:
            job: called on the thread.
            client: the clients take turns.

        Returns:
            Its future; None when there is no room for it or the thread is closed.
        """
        future: Future[ResultT] = Future()
        with self._changed:
            if self._closed:
                return None
            removed = None
            if self._questions >= self._max_questions:
                removed = self._make_room(client)
                if removed is None:
                    return None
            self._questions += 1
            self._queues.setdefault(client, deque()).append((future, job))
            self._changed.notify()
        # Callbacks run outside the lock.
        if removed is not None and removed.set_running_or_notify_cancel():
            removed.set_exception(GaveWay())
        return future

    def submit_urgent(self, job: Callable[[], ResultT]) -> Future[ResultT] | None:
        """Queue a job that runs before the next frame and before all questions, outside of their quota.

        Returns:
            Its future; None when the thread is closed.
        """
        future: Future[ResultT] = Future()
        with self._changed:
            if self._closed:
                return None
            self._urgent.append((future, job))
            self._changed.notify()
        return future

    @property
    def waiting(self) -> int:
        """Number of questions in the queue, the one being answered included."""
        return self._questions

    @property
    def busy_s(self) -> float:
        """Seconds that the present frame or job has taken so far; 0 while the thread waits for work."""
        since = self._busy_since
        return 0.0 if since is None else self._clock() - since

    def close(self) -> None:
        """Finish the current job, cancel the others, join the thread."""
        with self._changed:
            self._closed, self._slot = True, None
            left = [future for future, _ in self._urgent]
            left += [future for queue in self._queues.values() for future, _ in queue]
            self._urgent.clear()
            self._queues.clear()
            self._questions = 0
            self._changed.notify()
        for future in left:
            future.cancel()
        self._thread.join()

    # On the thread

    def _run(self) -> None:
        while True:
            with self._changed:
                while not (self._closed or (work := self._next())):
                    self._changed.wait(self._until_a_question())
                if self._closed:
                    return
                self._busy_since = self._clock()
            work()
            self._busy_since = None

    def _next(self) -> Callable[[], None] | None:
        """Take the next piece of work; None while there is none."""
        if self._urgent:
            future, job = self._urgent.popleft()
            return lambda: _complete(future, job)
        # After a question comes a frame, if there is one.
        frame_first = self._slot is not None and not self._frames_since_question
        if self._queues and not frame_first and self._until_a_question() is None:
            return self._take_question()
        if self._slot is not None:
            frame, self._slot = self._slot, None
            self._frames_since_question += 1
            return lambda: self._on_frame(frame)
        return None

    def _until_a_question(self) -> float | None:
        """Return the seconds until a question may be served; None without a question, or if one may be served now."""
        now = self._clock()
        self._overdrawn = max(0.0, self._overdrawn - self._share * (now - self._counted))
        self._counted = now
        camera_stands = now - self._last_offer >= NO_CAMERA_S
        if not (self._queues and self._overdrawn) or camera_stands or self._frames_since_question >= MAX_FRAMES:
            return None
        return min(self._overdrawn / self._share, NO_CAMERA_S)

    def _take_question(self) -> Callable[[], None]:
        client, queue = next(iter(self._queues.items()))
        future, job = queue.popleft()
        if queue:
            self._queues.move_to_end(client)
        else:
            del self._queues[client]
        self._frames_since_question = 0
        return lambda: self._answer(future, job)

    def _answer(self, future: Future, job: Callable[[], Any]) -> None:
        start = self._clock()
        _complete(future, job, self._question_done)
        with self._changed:
            if self._slot is not None:
                self._overdrawn += self._clock() - max(start, self._slot_since)

    def _question_done(self) -> None:
        with self._changed:
            if not self._closed:
                self._questions -= 1

    def _make_room(self, client: Hashable) -> Future | None:
        """Take the newest question out of the longest queue if that is longer than the queue of `client` would be."""
        if not self._queues:
            return None
        longest = max(self._queues, key=lambda one: len(self._queues[one]))
        if len(self._queues[longest]) <= len(self._queues.get(client, ())) + 1:
            return None
        self._questions -= 1
        return self._queues[longest].pop()[0]


def _complete(future: Future, job: Callable[[], Any], done: Callable[[], None] = lambda: None) -> None:
    """Run a job for its future unless that was cancelled; `done` is called before the result is set."""
    if not future.set_running_or_notify_cancel():
        done()
        return
    try:
        result = job()
    except BaseException as error:
        done()
        future.set_exception(error)
    else:
        done()
        future.set_result(result)
