"""Counters, rates, quantiles and the status of a node on /diagnostics; diagnostic_updater is not on PyPI."""

import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.clock import Clock, ClockType
from rclpy.node import Node

OK, WARN, ERROR = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR


class Counters:
    """Counts by reason; usable from any thread."""

    def __init__(self):
        self._lock = Lock()
        self._counts: Counter[str] = Counter()

    def count(self, reason: str, times: int = 1) -> int:
        """Add to the count of a reason and return the new total."""
        with self._lock:
            self._counts[reason] += times
            return self._counts[reason]

    def __getitem__(self, reason: str) -> int:
        with self._lock:
            return self._counts[reason]

    def snapshot(self) -> dict[str, int]:
        """Return the totals by reason, in alphabetical order."""
        with self._lock:
            return dict(sorted(self._counts.items()))


class RateMeter:
    """Events per second over the last window; usable from any thread."""

    def __init__(self, window_s: float = 5.0, *, clock: Callable[[], float] = time.monotonic):
        """Start empty.

        Args:
            window_s: length of the window in seconds, above 0.
            clock: seconds that never go back.

        Raises:
            ValueError: window_s is not above 0.
        """
        if not window_s > 0:
            raise ValueError(f'window_s is {window_s}; give seconds above 0')
        self._window_s = window_s
        self._clock = clock
        self._lock = Lock()
        self._start = clock()
        self._total = 0
        # At most 1,000 stamps: beyond that many per window the rate comes from the newest thousand.
        self._times: deque[float] = deque(maxlen=1000)

    def tick(self) -> None:
        """Count an event that happens now."""
        with self._lock:
            self._times.append(self._clock())
            self._total += 1

    @property
    def total(self) -> int:
        """Number of events since the start."""
        with self._lock:
            return self._total

    @property
    def hz(self) -> float:
        """Events per second; over the time since the start while that is shorter than the window."""
        with self._lock:
            now = self._clock()
            full = len(self._times) == self._times.maxlen
            while self._times and now - self._times[0] > self._window_s:
                self._times.popleft()
                full = False
            since = self._times[0] if full else max(now - self._window_s, self._start)
            return len(self._times) / (now - since) if now > since else 0.0


class Quantiles:
    """Quantiles and mean of the last values; usable from any thread."""

    def __init__(self, size: int = 300):
        """Start empty.

        Args:
            size: number of values that are stored, at least 1.
        """
        self._lock = Lock()
        self._values: deque[float] = deque(maxlen=size)

    def add(self, value: float) -> None:
        """Store a value and drop the oldest beyond the size."""
        with self._lock:
            self._values.append(value)

    def quantile(self, share: float) -> float:
        """Return the smallest value that at least this share (0..1) of all does not exceed; NaN without values."""
        with self._lock:
            values = sorted(self._values)
        if not values:
            return float('nan')
        return values[min(max(-int(-share * len(values) // 1) - 1, 0), len(values) - 1)]

    @property
    def mean(self) -> float:
        """Mean of the stored values; NaN without values."""
        with self._lock:
            return sum(self._values) / len(self._values) if self._values else float('nan')

    @property
    def p50(self) -> float:
        """Median."""
        return self.quantile(0.5)

    @property
    def p95(self) -> float:
        """95th percentile."""
        return self.quantile(0.95)


@dataclass(frozen=True)
class Status:
    """Status that a node publishes once a second."""

    # One of OK, WARN and ERROR.
    level: bytes = OK
    # One sentence: what, why and, if something is wrong, the fix.
    message: str = 'Running.'
    # Figures shown beside it; floats are rounded, mappings become one line per key.
    values: Mapping[str, Any] = field(default_factory=dict)


class Diagnostics:
    """Publishes a node's Status on /diagnostics, once a second on the steady clock.

    The steady clock goes on when use_sim_time is set and nobody publishes /clock; the status is needed most then.
    """

    def __init__(self, node: Node, source: Callable[[], Status], *, hardware_id: str = '', period_s: float = 1.0):
        """Start publishing.

        Args:
            node: node that publishes; its full name is the name of the status.
            source: called once per period on the executor thread. If it raises, the error itself is published.
            hardware_id: hardware that the status is about, for example the device of the model.
            period_s: seconds between two messages, above 0.
        """
        self.hardware_id = hardware_id
        self._node = node
        self._source = source
        self._publisher = node.create_publisher(DiagnosticArray, '/diagnostics', 10)
        self._timer = node.create_timer(period_s, self.publish, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def publish(self) -> None:
        """Publish the status now."""
        try:
            status = self._source()
        except Exception as error:  # a failing figure must neither silence the node nor stop it
            self._node.get_logger().error(f'Diagnostics failed: {error!r}', throttle_duration_sec=60.0)
            status = Status(ERROR, f'Diagnostics failed: {error!r}; please report it.')
        message = DiagnosticArray()
        message.header.stamp = self._node.get_clock().now().to_msg()
        message.status = [
            DiagnosticStatus(
                level=status.level,
                name=self._node.get_fully_qualified_name(),
                message=status.message,
                hardware_id=self.hardware_id,
                values=key_values(status.values),
            )
        ]
        self._publisher.publish(message)

    def close(self) -> None:
        """Stop publishing."""
        self._node.destroy_timer(self._timer)
        self._node.destroy_publisher(self._publisher)


def key_values(values: Mapping[str, Any], prefix: str = '') -> list[KeyValue]:
    """Return key-value pairs for a status; floats get four significant digits, nested mappings keys 'outer/inner'."""
    pairs = []
    for key, value in values.items():
        if isinstance(value, Mapping):
            pairs += key_values(value, f'{prefix}{key}/')
        else:
            text = f'{value:.4g}' if isinstance(value, float) else str(value)
            pairs.append(KeyValue(key=f'{prefix}{key}', value=text))
    return pairs
