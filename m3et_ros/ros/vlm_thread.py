"""The vision-language model of a node: its thread and queue, the frames it answers about, and its figures.

The inference thread hands over frames and never waits: the model runs in a process of its own, at a lower priority than
perception, and the thread here waits for its answers.
"""

from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
from threading import Event, Lock
from typing import Any

from m3et_ros.data.errors import InputError
from m3et_ros.data.frame import Frame
from m3et_ros.ros.diagnostics import Quantiles
from m3et_ros.ros.inference_thread import InferenceThread, ResultT, Steps
from m3et_ros.runtime.frame_comb import FrameComb
from m3et_ros.runtime.results import Reply
from m3et_ros.runtime.vlm.model import VisionLanguageModel
from m3et_ros.runtime.vlm.process import VlmProcess

MAX_WAITING = 16
"""Number of questions that may wait; one takes seconds, so a longer queue would only hide that."""
SLOW_S = 60.0
"""Seconds after which an answer that is not finished is reported."""
NOTES = ('answers', 'cancelled', 'stopped', 'left_to_m3et', 'handed_on')
"""Events that are counted: answers of the model, questions that ended without one, and the choices of the router."""
MIB = 1 << 20


class VlmThread:
    """Answers questions about the frames of one camera, one after the other; clients take turns.

    Attributes:
        model_id: id of the model, for answers.
    """

    def __init__(self, model: VlmProcess | VisionLanguageModel, *, memory_frames: int):
        """Take a model; `start` lets it answer.

        Args:
            model: the model; `close` ends it.
            memory_frames: largest number of frames for a question about the episode, at least 2.
        """
        self.model_id = model.model_id
        self._model = model
        self._lock, self._stopped = Lock(), Event()
        self._episode: FrameComb[Frame] = FrameComb(memory_frames)
        self._newest: Frame | None = None
        self._queue: InferenceThread | None = None
        self._notes: Counter[str] = Counter(dict.fromkeys(NOTES, 0))
        self._tokens, self._busy_s = 0, 0.0
        self._latency = Quantiles()

    # Frames, from the inference thread

    def observe(self, frame: Frame, *, remember: bool = True) -> None:
        """Take the next frame of the camera.

        Args:
            frame: the frame.
            remember: False stores this frame alone.
        """
        with self._lock:
            if not remember:
                self._episode.reset()
            self._episode.add(frame)
            self._newest = frame

    def reset(self) -> None:
        """Begin a new episode."""
        with self._lock:
            self._episode.reset()
            self._newest = None

    def frames(self, scope: str, camera: str) -> list[Frame]:
        """Return the frames that a question rests on, oldest first.

        Args:
            scope: 'frame' for the newest one, 'episode' for some of all so far, spread evenly, with the newest.
            camera: the source of the images in words, for the refusal.

        Raises:
            InputError: no_frame.
        """
        with self._lock:
            newest, episode = self._newest, list(self._episode)
        if newest is None:
            raise InputError('no_frame', f'No image has arrived yet; check {camera} or send an image along.')
        return episode if scope == 'episode' else [newest]

    # Thread

    def start(self) -> None:
        """Start the thread."""
        self._stopped.clear()
        self._queue = InferenceThread(lambda _: None, name='vlm', max_questions=MAX_WAITING, share=1.0)

    def stop(self) -> None:
        """End the present answer and cancel those that wait; forget the newest frame."""
        queue, self._queue = self._queue, None
        if queue is None:
            return
        self._stopped.set()
        queue.close()
        with self._lock:
            self._newest = None  # out of date after a pause

    def close(self) -> None:
        """Stop, and end the model."""
        self.stop()
        self._model.close()

    def submit(self, steps: Steps[ResultT], client: Hashable) -> Future[ResultT] | None:
        """Queue a question; None when there is no room for it, or the thread is stopped."""
        queue = self._queue
        return None if queue is None else queue.submit_steps(steps, client=client)

    def answer(
        self,
        question: str,
        frames: Sequence[Frame],
        *,
        scope: str,
        max_tokens: int,
        on_text: Callable[[str], None],
        cancelled: Callable[[], bool],
    ) -> Reply:
        """Answer a question about frames; on the thread.

        Args:
            question: checked text.
            frames: what it is about, oldest first.
            scope: 'frame' or 'episode', as reported in the reply.
            max_tokens: longest answer in tokens.
            on_text: called with the text so far whenever it has grown.
            cancelled: True ends the answer.

        Raises:
            CancelledError: `cancelled` returned True, or the thread is stopped.
            InputError: model_memory, vlm_ended.
        """
        given = self._model.answer(
            question,
            [frame.rgb for frame in frames],
            max_tokens=max_tokens,
            on_text=on_text,
            cancelled=lambda: self._stopped.is_set() or cancelled(),
        )
        self.note('answers')
        self._tokens += len(given.tokens)
        self._busy_s += given.latency_s
        self._latency.add(given.latency_s)
        return given.reply(question, frames, scope)

    # Diagnostics

    def note(self, what: str) -> None:
        """Count one of NOTES."""
        with self._lock:
            self._notes[what] += 1

    @property
    def slow(self) -> str:
        """A sentence while the present answer has taken more than SLOW_S seconds; else ''."""
        queue = self._queue
        busy_s = 0.0 if queue is None else queue.busy_s
        if busy_s <= SLOW_S:
            return ''
        return (
            f'{self.model_id} has been answering one question for {busy_s:.0f} s; lower max_sentence_tokens, or give a '
            'smaller model, more answerer_threads or another answerer_device.'
        )

    def values(self) -> dict[str, Any]:
        """Return the figures for /diagnostics; times in seconds."""
        queue = self._queue
        return {
            'model_id': self.model_id,
            'device': str(self._model.device),
            'dtype': str(self._model.dtype).removeprefix('torch.'),
            'weights_mib': self._model.weight_bytes / MIB,
            'process_memory_mib': self._model.memory_bytes / MIB,
            **self._notes,
            'waiting': 0 if queue is None else queue.waiting,
            'latency_s': {'p50': self._latency.p50, 'p95': self._latency.p95},
            'tokens_per_s': self._tokens / self._busy_s if self._busy_s else 0.0,
        }
