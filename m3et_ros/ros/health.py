"""How the model node is doing: counts, rates, the last error, and what /diagnostics says of it."""

import time
import traceback

import psutil
import torch
from rclpy.lifecycle import LifecycleNode

from m3et_ros.data.errors import InputError
from m3et_ros.ops.dispatch import KernelChoice
from m3et_ros.ros.diagnostics import OK, WARN, Counters, Quantiles, RateMeter, Status
from m3et_ros.runtime.backends.prepared import Serving

WARN_EVERY_S = 10.0
MIB = 1 << 20


class Health:
    """Gathered on every thread of the node, read once a second by its diagnostics."""

    def __init__(self, node: LifecycleNode):
        self._node = node
        self._warned: dict[str, float] = {}
        self._errors_told = 0
        self.counters = Counters()
        self.arrived, self.served = RateMeter(), RateMeter()
        self.age, self.latency, self.share = Quantiles(), Quantiles(), Quantiles()
        self.last_error = ''
        self.kernels: list[KernelChoice] = []
        self.serving = Serving('none', 'no model is configured')

    def refuse(self, error: InputError) -> None:
        """Count refused input; warn of each reason at most every ten seconds."""
        self.counters.count(error.reason)
        self._warn(error.reason, str(error))

    def runtime(self, serving: Serving) -> None:
        """Take note of the runtime that serves; one that only stands in is counted, its log has warned of it."""
        if serving.fallback and serving != self.serving:
            self.counters.count('runtime_fallback')
            self.last_error = f'Runtime {serving.reason}; {serving.name} serves.'
        self.serving = serving

    def broke(self, doing: str, error: Exception) -> str:
        """Count a fault of ours, log where it happened, and say it in one sentence."""
        sentence = f'An internal error stopped {doing} ({type(error).__name__}: {error}); the node goes on.'
        self.counters.count('internal_error')
        self._node.get_logger().debug(''.join(traceback.format_exception(error)))
        self._warn('internal_error', sentence)
        return sentence

    def frame_done(self, age_s: float, latency_s: float, share: float = 1.0) -> None:
        """Results of a frame went out.

        Args:
            age_s: seconds from the stamp of its image to now.
            latency_s: seconds of preprocessing and encoding.
            share: of its image tokens that was encoded, 0..1.
        """
        self.served.tick()
        self.age.add(age_s)
        self.latency.add(latency_s)
        self.share.add(share)

    def status(self) -> Status:
        """What /diagnostics says now: WARN while the node is inactive, starved or has refused something since."""
        node, session = self._node, self._node.session
        values = {
            'state': node.state_label,
            'model_id': session.engine.model_id if session else 'none',
            'device': str(session.engine.device) if session else 'none',
            'rate_in_hz': self.arrived.hz,
            'rate_out_hz': self.served.hz,
            'frames_in': self.arrived.total,
            'frames_out': self.served.total,
            'age_s': {'p50': self.age.p50, 'p95': self.age.p95},
            'latency_s': {'p50': self.latency.p50, 'p95': self.latency.p95},
            'tokens': session.engine.tokens if session else 'none',
            'tokens_encoded': self.share.mean,
            'questions_waiting': node.worker.waiting if node.worker else 0,
            'memory_frames': len(session.memory) if session else 0,
            'dropped': self.counters.snapshot(),
            'synchroniser': node.inputs.sync.counts,
            'kernel': {choice.op: f'{choice.name} ({choice.reason})' for choice in self.kernels},
            'runtime': f'{self.serving.name} ({self.serving.reason})',
            'process_memory_mib': psutil.Process().memory_info().rss / MIB,
            'device_memory_mib': torch.cuda.memory_allocated() / MIB if torch.cuda.is_available() else 0.0,
            'last_error': self.last_error or 'none',
        }
        return Status(*self._verdict(), values)

    def _verdict(self) -> tuple[bytes, str]:
        errors = sum(self.counters.snapshot().values()) - self.counters['frame_superseded']
        fresh, self._errors_told = errors > self._errors_told, errors
        if self._node.worker is None:
            return WARN, f'The node is {self._node.state_label}; activate it to get results.'
        if fresh:
            return WARN, self.last_error or 'Input was refused; see dropped/*.'
        if self.served.hz == 0:
            return WARN, 'No image has been served in the last seconds; check the camera topics.'
        return OK, 'Running.'

    def _warn(self, reason: str, sentence: str) -> None:
        self.last_error = sentence
        now = time.monotonic()
        if now - self._warned.get(reason, -WARN_EVERY_S) >= WARN_EVERY_S:
            self._warned[reason] = now
            self._node.get_logger().warning(sentence)
