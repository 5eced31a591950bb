"""The thread that runs all inference of a node: the newest frame and the questions, which share its time by a quota.

A written answer is a generator with a step for every token, so frames and other questions run between two tokens.
"""

import time
from collections import OrderedDict, deque
from collections.abc import Callable, Generator, Hashable
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass
from threading import Condition, Thread
from typing import Any, Generic, TypeVar

FrameT = TypeVar('FrameT')
ResultT = TypeVar('ResultT')
Steps = Generator[object, None, ResultT]
"""A question: the values that it yields are ignored, the value that it returns is the result."""

MAX_QUESTIONS = 100
"""Number of questions that may wait; of more, the newest of the client that has most of them is refused."""
QUESTION_SHARE = 0.12
"""Largest share of the time, 0..1, during which frames may wait for questions."""
MAX_FRAMES = 32
"""Largest number of frames that are processed before the step whose turn it is, even if the share is used up."""
NO_CAMERA_S = 1.0
"""Seconds without a frame after which nothing limits the questions."""


@dataclass
class _Question:
    """A question in the queue of its client."""

    future: Future
    steps: Steps
    # Seconds that its last step took; infinite before the first one.
    step_s: float = float('inf')


class GaveWay(Exception):  # noqa: N818 - a full queue is no error of this package
    """The result of a question that had to make room for the question of another client."""


class InferenceThread(Generic[FrameT]):
    """A slot for the newest frame and a queue of questions for each client, served by one thread.

    A new frame replaces the one in the slot. A question has one step or, if its answer is written, one for each token.
    The clients take turns, one step each; a client's questions are answered one after the other. The thread adds up the
    time that a frame has waited in the slot while a step ran. While this exceeds `share` of the time that has passed,
    frames come first, so questions cost at most that share of the frames. What fits between two frames costs nothing: a
    further step of an answer is not held back if the last one would end before the next frame is due.

    The step whose turn it is waits for at most MAX_FRAMES frames; with n clients asking, a client that has no other
    question waiting thus waits for at most n * MAX_FRAMES frames and n - 1 steps until each step of its own.
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
        # Seconds between the last two frames.
        self._period = 0.0
        self._urgent: deque[tuple[Future, Callable[[], Any]]] = deque()
        # Clients in the order of their turns; none of the queues is empty.
        self._queues: OrderedDict[Hashable, deque[_Question]] = OrderedDict()
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
            now = self._clock()
            self._period, self._last_offer = now - self._last_offer, now
            if not replaced:
                self._slot_since = self._last_offer
            self._changed.notify()
        return replaced

    def submit(self, job: Callable[[], ResultT], *, client: Hashable = '') -> Future[ResultT] | None:
        """Queue a question of one step: submit_steps of a job that is called on the thread."""
        return self.submit_steps(in_one_step(job), client=client)

    def submit_steps(self, steps: Steps[ResultT], *, client: Hashable = '') -> Future[ResultT] | None:
        """Queue a question.

        When too many wait, the newest question of the client with most of them gets the exception GaveWay.

        Args:
            steps: runs on the thread from one `yield` to the next, with frames and steps of other clients between.
            client: the clients take turns.

        Returns:
            Its future; None when there is no room for it or the thread is closed. A question that is still being
            answered when the thread is closed gets the exception CancelledError.
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
            self._queues.setdefault(client, deque()).append(_Question(future, steps))
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
        """Finish the current frame, job or step, cancel all questions, join the thread."""
        with self._changed:
            self._closed, self._slot = True, None
            left = [future for future, _ in self._urgent]
            left += [question.future for queue in self._queues.values() for question in queue]
            self._urgent.clear()
            self._queues.clear()
            self._questions = 0
            self._changed.notify()
        for future in left:
            _cancel(future)
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
        if not (self._queues and self._overdrawn) or self._frames_since_question >= MAX_FRAMES:
            return None
        camera_stands = now - self._last_offer >= NO_CAMERA_S
        step_s = next(iter(self._queues.values()))[0].step_s
        fits = self._slot is None and now + step_s <= self._last_offer + self._period
        if camera_stands or fits:
            return None
        return min(self._overdrawn / self._share, NO_CAMERA_S)

    def _take_question(self) -> Callable[[], None]:
        client, queue = next(iter(self._queues.items()))
        question = queue.popleft()
        if queue:
            self._queues.move_to_end(client)
        else:
            del self._queues[client]
        self._frames_since_question = 0
        return lambda: self._run_step(client, question)

    def _run_step(self, client: Hashable, question: _Question) -> None:
        start, future = self._clock(), question.future
        if future.running() or future.set_running_or_notify_cancel():
            try:
                next(question.steps)
            except StopIteration as end:
                self._question_done()
                future.set_result(end.value)
            except BaseException as error:
                self._question_done()
                future.set_exception(error)
            else:
                question.step_s = self._clock() - start
                self._put_back(client, question)
        else:
            self._question_done()
        with self._changed:
            if self._slot is not None:
                self._overdrawn += self._clock() - max(start, self._slot_since)

    def _put_back(self, client: Hashable, question: _Question) -> None:
        """Let a question with further steps be the next one of its client."""
        with self._changed:
            closed = self._closed
            if not closed:
                self._queues.setdefault(client, deque()).appendleft(question)
        if closed:
            _cancel(question.future)

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
        return self._queues[longest].pop().future


def in_one_step(job: Callable[[], ResultT]) -> Steps[ResultT]:
    """Return the steps of a question that is answered at once by calling `job`."""
    yield from ()
    return job()


def _complete(future: Future, job: Callable[[], Any]) -> None:
    """Run a job for its future unless that was cancelled."""
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = job()
    except BaseException as error:
        future.set_exception(error)
    else:
        future.set_result(result)


def _cancel(future: Future) -> None:
    """Cancel a future, also one of a question of which some steps have run."""
    if not future.cancel():
        future.set_exception(CancelledError())
