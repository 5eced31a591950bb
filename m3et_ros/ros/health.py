"""Health of the model node: counters, rates, the last error, and the status that goes out on /diagnostics."""

import time
import traceback
from collections.abc import Callable, Mapping

import psutil
import torch
from rclpy.impl.rcutils_logger import RcutilsLogger

from m3et_ros.data.errors import InputError
from m3et_ros.ops.dispatch import KernelChoice
from m3et_ros.ros.diagnostics import ERROR, OK, WARN, Counters, Quantiles, RateMeter, Status
from m3et_ros.ros.heartbeat import RESTARTED
from m3et_ros.ros.inference_thread import InferenceThread
from m3et_ros.ros.logs import error_sentence
from m3et_ros.ros.vlm_thread import VlmThread
from m3et_ros.runtime.backends.prepared import Serving
from m3et_ros.runtime.session import Session

WARN_EVERY_S = 10.0
"""Shortest time between two warnings for the same reason."""
CAUSE_EVERY_S = 60.0
"""Shortest time between two warnings about the same cause while it lasts or comes back."""
RESTART_WARN_S = 60.0
"""Seconds for which the status warns that a supervisor has started the node again."""
IDLE = (
    'Idle: nobody subscribes to a result or asks, and the parameter memory is off, so images are received and none is '
    'encoded.'
)
"""Message of the status of a node whose results nobody needs."""
MIB = 1 << 20


class Health:
    """Health of one node; written from all of its threads, read once a second for /diagnostics."""

    def __init__(self, logger: RcutilsLogger, *, clock: Callable[[], float] = time.monotonic):
        """Start with nothing counted.

        Args:
            logger: logger of the node, for warnings.
            clock: seconds that never go back.
        """
        self._logger, self._clock = logger, clock
        self._warned: dict[str, float] = {}
        self._reported = 0
        self.counters = Counters()
        # Served frames that had no measured depth.
        self.without_depth = 0
        # Frames of the camera that were encoded, for results, for the memory or for a question.
        self.encoded = 0
        # Frames that nobody needed when they arrived.
        self.unneeded = 0
        # True while frames arrive that nobody needs.
        self.idle = False
        self.arrived, self.served = RateMeter(clock=clock), RateMeter(clock=clock)
        self.age, self.latency, self.share = Quantiles(), Quantiles(), Quantiles()
        self.last_error = ''
        # Sentence by reason for what does not fit now, such as clocks that disagree.
        self.causes: dict[str, str] = {}
        # Reason why the last transition failed; '' after one that succeeded.
        self.failure = ''
        # Sentence about other nodes of this name; '' for none.
        self.twin = ''
        self._started = clock()
        self.kernels: list[KernelChoice] = []
        self.serving = Serving('none', 'no model is configured')

    def refuse(self, error: InputError) -> None:
        """Count refused input and warn, at most every WARN_EVERY_S seconds for each reason."""
        self.counters.count(error.reason)
        self._warn(error.reason, str(error))

    def internal_error(self, activity: str, error: Exception) -> str:
        """Count a fault of this package and log it; the traceback goes to the debug log.

        Args:
            activity: completes the sentence 'An internal error stopped ...'.
            error: the exception.

        Returns:
            The sentence that was logged.
        """
        sentence = error_sentence(activity, error)
        self.counters.count('internal_error')
        self._logger.debug(''.join(traceback.format_exception(error)))
        self._warn('internal_error', sentence)
        return sentence

    def set_twin(self, sentence: str) -> None:
        """Record that another node has the same name, and warn; '' when there is none any more."""
        self.twin = sentence
        if sentence:
            self.counters.count('twin_node')
            self._warn('twin_node', sentence)

    def set_cause(self, reason: str, sentence: str, *, logged: bool = False) -> None:
        """Record what does not fit, and warn at most every CAUSE_EVERY_S seconds; '' when it is over.

        Args:
            reason: word under which docs/diagnostics.md explains it.
            sentence: what, the number, and the fix.
            logged: the caller has logged it.
        """
        causes = {name: text for name, text in self.causes.items() if name != reason}
        # A new dictionary: other threads read the old one meanwhile.
        self.causes = causes | {reason: sentence} if sentence else causes
        if sentence and logged:
            self.last_error = sentence
        elif sentence:
            self._warn(reason, sentence, CAUSE_EVERY_S)

    def set_runtime(self, serving: Serving) -> None:
        """Record the runtime that serves; a fallback is counted; the code that chose it has already warned."""
        if serving.fallback and serving != self.serving:
            self.counters.count('runtime_fallback')
            self.last_error = f'Runtime {serving.reason}; {serving.name} serves.'
        self.serving = serving

    def frame_done(self, age_s: float, latency_s: float, share: float = 1.0, *, depth: bool = True) -> None:
        """Record a frame whose results have been published.

        Args:
            age_s: seconds from the stamp of the image to now; NaN where one of them is unknown.
            latency_s: seconds of preprocessing and encoding.
            share: share of the image tokens that was encoded, 0..1.
            depth: the frame had measured depth.
        """
        self.served.tick()
        if age_s == age_s:
            self.age.add(age_s)
        self.latency.add(latency_s)
        self.share.add(share)
        self.without_depth += not depth

    def status(
        self,
        state: str,
        session: Session | None,
        inference: InferenceThread | None,
        synchroniser: Mapping[str, int],
        vlm: VlmThread | None = None,
    ) -> Status:
        """Return the status for /diagnostics.

        Its level is ERROR after a transition that failed. It is WARN while the node is inactive, has a twin, has a
        cause that does not fit or serves no frame though it is not idle, for a minute after a restart, and once after
        each new error.

        Args:
            state: lifecycle state of the node, such as 'active'.
            session: model and episode; None before configuration.
            inference: the inference thread; None while the node is inactive.
            synchroniser: frames that the synchroniser dropped, by reason.
            vlm: the vision-language model beside it; None for none.
        """
        values = {
            'state': state,
            'idle': 'yes' if self.idle else 'no',
            'model_id': session.engine.model_id if session else 'none',
            'device': str(session.engine.device) if session else 'none',
            'rate_in_hz': self.arrived.hz,
            'rate_out_hz': self.served.hz,
            'frames_in': self.arrived.total,
            'frames_out': self.served.total,
            'frames_encoded': self.encoded,
            'frames_unneeded': self.unneeded,
            'frames_without_depth': self.without_depth,
            'age_s': {'p50': self.age.p50, 'p95': self.age.p95},
            'latency_s': {'p50': self.latency.p50, 'p95': self.latency.p95},
            'tokens': session.engine.tokens if session else 'none',
            'tokens_encoded': self.share.mean,
            'domain': session.domain.described if session else 'none',
            'depth_fill': session.engine.depth_completion.described if session else 'none',
            'questions_waiting': inference.waiting if inference else 0,
            'memory_frames': session.memory.frames if session else 0,
            'dropped': self.counters.snapshot(),
            'synchroniser': synchroniser,
            'kernel': {choice.op: f'{choice.name} ({choice.reason})' for choice in self.kernels},
            'runtime': f'{self.serving.name} ({self.serving.reason})',
            'process_memory_mib': psutil.Process().memory_info().rss / MIB,
            'device_memory_mib': torch.cuda.memory_allocated() / MIB if torch.cuda.is_available() else 0.0,
            'causes': self.causes,
            'last_error': self.last_error or 'none',
            'started_again': RESTARTED or 'no',
        }
        if vlm is not None:
            values['answerer'] = vlm.values()
        return Status(*self._verdict(state, session, active=inference is not None), values)

    def _verdict(self, state: str, session: Session | None, *, active: bool) -> tuple[bytes, str]:
        """Return the level of the status and its message."""
        # A superseded frame is not an error: with a camera faster than the model most frames are.
        errors = sum(self.counters.snapshot().values()) - self.counters['frame_superseded']
        new_errors, self._reported = errors > self._reported, errors
        if not active and self.failure:
            return ERROR, self.failure
        if not active:
            return WARN, f'The node is {state}; activate it to get results.'
        if new_errors:
            return WARN, self.last_error or 'Input was refused; see dropped/*.'
        if self.twin:
            return WARN, self.twin
        if self.causes:
            more = f' ({len(self.causes)} causes; see causes/*)' if len(self.causes) > 1 else ''
            return WARN, f'{next(iter(self.causes.values()))}{more}'
        if RESTARTED and self._clock() - self._started < RESTART_WARN_S:
            return WARN, f'The node was started again: {RESTARTED}.'
        if self.idle and self.arrived.hz > 0:
            return OK, IDLE
        if session is not None and session.domain.unlike:
            return WARN, f'The frames are unlike those of training ({session.domain.described}).'
        if self.served.hz == 0:
            return WARN, 'No image has been served in the last seconds; check the camera topics.'
        return OK, 'Running.'

    def _warn(self, reason: str, sentence: str, every_s: float = WARN_EVERY_S) -> None:
        self.last_error = sentence
        now = self._clock()
        if now - self._warned.get(reason, -every_s) >= every_s:
            self._warned[reason] = now
            self._logger.warning(sentence)
