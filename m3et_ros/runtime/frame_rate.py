"""The choice of the frames that update a head, so that their rate is the one it was trained with."""

EARLY = 0.1
"""A frame may come early by this share of the period; cameras are not exact."""


class FrameRate:
    """Chooses among the frames of one camera, in the order of time.

    Args:
        rate_hz: frames a second; 0 chooses all.

    Attributes:
        period_ns: time between two frames in nanoseconds; 0 chooses all.
        due_ns: stamp at which the next frame is due, in nanoseconds.
    """

    def __init__(self, rate_hz: float):
        self.period_ns = 1e9 / rate_hz if rate_hz else 0.0
        self.reset()

    def reset(self) -> None:
        """Begin anew: the next frame is due."""
        self.due_ns = 0.0

    def due(self, stamp_ns: int) -> bool:
        """Return whether a frame of this time of exposure is due."""
        return stamp_ns >= self.due_ns - EARLY * self.period_ns

    def take(self, stamp_ns: int) -> None:
        """Count a frame that was due, and set when the next one is."""
        # Counted from the time at which the frame was due, so a camera's rate need not be a multiple of the head's.
        late = stamp_ns - self.due_ns > self.period_ns
        self.due_ns = (stamp_ns if late else self.due_ns) + self.period_ns
