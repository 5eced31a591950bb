"""Pair colour with depth by stamp: bounded in time and memory, without rclpy and without callbacks.

The synchroniser of message_filters calls the user under its lock and does not report what it drops. This one returns a
pair to its caller, waits for a bounded time, stores a bounded number of images and counts every one it drops.
"""

import time
from collections import Counter, deque
from collections.abc import Callable
from threading import Lock
from typing import Any, NamedTuple

from m3et_ros.data.depth_checks import ALIGN, check_frame_id
from m3et_ros.data.errors import InputError
from m3et_ros.data.frame import NANOSECONDS, check_aligned

STALLS = ('leave_out', 'wait', 'reuse')


class Pair(NamedTuple):
    """A colour image and the depth image that belongs to it."""

    # Stamp of the colour image in nanoseconds.
    stamp_ns: int
    # Argument of add_rgb.
    rgb: Any
    # Argument of add_depth; None when colour passes alone.
    depth: Any = None
    # Stamp of the depth image in nanoseconds; None without one.
    depth_stamp_ns: int | None = None
    # Reason why a depth image was left out; None if it was not.
    error: InputError | None = None


class _Waiting(NamedTuple):
    stamp_ns: int
    image: Any
    arrival_s: float


class Synchroniser:
    """Pairs the nearest stamps within slop_s; of several finished pairs the newest wins.

    Colour passes alone and at once until the first depth image arrives, and again after depth has stalled. The policy
    decides about the colour image that detects the stall: 'leave_out' lets it pass alone, 'reuse' pairs it with the
    last depth image of any age, 'wait' holds it until its depth arrives or a newer pair supersedes it.

    `counts` has the reasons for dropped images and other events: rgb_superseded (a newer colour image went first),
    rgb_duplicate and depth_duplicate (same stamp again), depth_unmatched (no colour image within slop), depth_stalled
    (no depth came for a waiting colour image), depth_reused, depth_size and depth_frame (refused), stamp_back (time
    went back, all waiting images dropped) and stamp_zero (images without a stamp; they are accepted and match each
    other).
    """

    def __init__(
        self,
        *,
        slop_s: float = 0.02,
        depth_wait_s: float = 0.1,
        stall: str = 'leave_out',
        queue: int = 8,
        clock: Callable[[], float] = time.monotonic,
    ):
        """Start empty.

        Args:
            slop_s: largest difference of the stamps of a pair in seconds, at least 0; 0 pairs equal stamps.
            depth_wait_s: longest wait of a colour image for its depth in seconds on `clock`, at least 0.
            stall: one of STALLS.
            queue: number of images of each kind that may wait, at least 1.
            clock: seconds that never go back.

        Raises:
            ValueError: an argument is out of range.
        """
        if stall not in STALLS:
            raise ValueError(f'stall is {stall!r}; give one of {", ".join(STALLS)}')
        if slop_s < 0 or depth_wait_s < 0 or queue < 1:
            raise ValueError(f'slop_s {slop_s}, depth_wait_s {depth_wait_s}, queue {queue}; give at least 0, 0 and 1')
        self._slop_ns = round(slop_s * NANOSECONDS)
        self._depth_wait_s = depth_wait_s
        self._stall = stall
        self._queue = queue
        self._clock = clock
        self._lock = Lock()
        self._counts: Counter[str] = Counter()
        self._any_depth = False
        self._reset()

    @property
    def counts(self) -> dict[str, int]:
        """Number of events by reason; reasons that have not occurred are left out."""
        with self._lock:
            return {reason: count for reason, count in self._counts.items() if count}

    @property
    def any_depth(self) -> bool:
        """True once depth has come, so that a colour image without any has lost it."""
        return self._any_depth

    @property
    def waiting(self) -> tuple[int, int]:
        """Number of colour and of depth images that wait, each at most `queue`; the last depth is stored besides."""
        with self._lock:
            return len(self._rgbs), len(self._depths)

    def add_rgb(self, stamp_ns: int, rgb: Any) -> Pair | None:
        """Add a colour image: an array (H, W, 3), or anything that the caller decodes later.

        Returns:
            The newest finished pair, if this image finished one.
        """
        with self._lock:
            if self._admit('rgb', stamp_ns):
                if len(self._rgbs) == self._queue:
                    self._rgbs.popleft()
                    self._counts['rgb_superseded'] += 1
                self._rgbs.append(_Waiting(stamp_ns, rgb, self._clock()))
            return self._take_newest()

    def add_depth(self, stamp_ns: int, depth: Any) -> Pair | None:
        """Add a depth image: an array (H, W), or anything that the caller decodes later.

        Returns:
            The newest finished pair, if this image finished one.
        """
        with self._lock:
            if self._admit('depth', stamp_ns):
                if len(self._depths) == self._queue:
                    self._depths.popleft()
                    self._counts['depth_unmatched'] += 1
                if self._last_depth is not None:
                    self._period_ns = stamp_ns - self._last_depth.stamp_ns
                self._last_depth = _Waiting(stamp_ns, depth, self._clock())
                self._depths.append(self._last_depth)
                self._any_depth, self._stalled = True, False
            return self._take_newest()

    def poll(self) -> Pair | None:
        """Return the colour image that has waited long enough for its depth, if any.

        Call it 20 times a second while one waits.
        """
        with self._lock:
            return self._take_newest()

    def _reset(self) -> None:
        self._rgbs: deque[_Waiting] = deque()
        self._depths: deque[_Waiting] = deque()
        self._last_stamp: dict[str, int] = {'rgb': 0, 'depth': 0}
        self._last_depth: _Waiting | None = None
        self._period_ns = 0
        self._stalled = False

    def _admit(self, kind: str, stamp_ns: int) -> bool:
        """Return False for a duplicate; count stamps that are missing, repeated or gone back."""
        last = self._last_stamp[kind]
        if stamp_ns == 0:
            self._counts['stamp_zero'] += 1
        elif stamp_ns == last:
            self._counts[f'{kind}_duplicate'] += 1
            return False
        elif stamp_ns < last:
            self._counts['stamp_back'] += 1
            self._counts['rgb_superseded'] += len(self._rgbs)
            self._counts['depth_unmatched'] += len(self._depths)
            # The other stream will go back too; forgetting its last stamp keeps that from being counted twice.
            self._reset()
        self._last_stamp[kind] = stamp_ns or self._last_stamp[kind]
        return True

    def _take_newest(self) -> Pair | None:
        """Take the newest colour image whose pair is decided; it supersedes those before it."""
        for index in range(len(self._rgbs) - 1, -1, -1):
            pair = self._decide(self._rgbs[index])
            if pair is not None:
                for _ in range(index + 1):
                    self._rgbs.popleft()
                self._counts['rgb_superseded'] += index
                return pair
        return None

    def _decide(self, rgb: _Waiting) -> Pair | None:
        """Return the pair of a colour image; None while it has to wait."""
        # The newest first, so that of images without a stamp the newest wins.
        nearest = min(reversed(self._depths), key=lambda d: abs(d.stamp_ns - rgb.stamp_ns), default=None)
        overdue = self._stalled or self._clock() - rgb.arrival_s >= self._depth_wait_s
        if nearest is not None and abs(nearest.stamp_ns - rgb.stamp_ns) <= self._slop_ns:
            # Stamps only grow, by about one period at a time: a later depth image may be nearer or cannot be.
            lag = rgb.stamp_ns - nearest.stamp_ns
            if overdue or lag <= 0 or nearest is not self._depths[-1] or 2 * lag <= self._period_ns:
                while self._depths.popleft() is not nearest:
                    self._counts['depth_unmatched'] += 1
                return self._joined(rgb, nearest)
        if not self._any_depth:
            return Pair(rgb.stamp_ns, rgb.image)
        if not overdue or self._stall == 'wait':
            return None
        self._stalled = True
        self._counts['depth_stalled'] += 1
        if self._stall == 'reuse' and self._last_depth is not None:
            self._counts['depth_reused'] += 1
            return self._joined(rgb, self._last_depth)
        return Pair(rgb.stamp_ns, rgb.image)

    def _joined(self, rgb: _Waiting, depth: _Waiting) -> Pair:
        try:
            require_same_size(rgb.image, depth.image)
            require_same_frame(rgb.image, depth.image)
        except InputError as error:
            self._counts[error.reason] += 1
            return Pair(rgb.stamp_ns, rgb.image, error=error)
        return Pair(rgb.stamp_ns, rgb.image, depth.image, depth.stamp_ns)


def require_same_size(rgb: Any, depth: Any) -> None:
    """Refuse depth that is not registered to colour.

    Args:
        rgb: array (H, W, 3) or message with height and width; anything without a size is accepted.
        depth: array (H, W) or message with height and width; likewise.

    Raises:
        InputError: depth_size.
    """
    sizes = _size(rgb), _size(depth)
    if None not in sizes:
        check_aligned(*sizes, ALIGN)


def require_same_frame(rgb: Any, depth: Any) -> None:
    """Refuse depth that is in another frame than colour.

    Args:
        rgb: message with a header; anything without one is accepted.
        depth: likewise.

    Raises:
        InputError: depth_frame.
    """
    if hasattr(rgb, 'header') and hasattr(depth, 'header'):
        check_frame_id(rgb.header.frame_id, depth.header.frame_id)


def _size(image: Any) -> tuple[int, int] | None:
    if hasattr(image, 'shape'):
        return tuple(image.shape[:2])
    return (image.height, image.width) if hasattr(image, 'height') else None
