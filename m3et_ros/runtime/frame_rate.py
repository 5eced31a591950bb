"""Which frames a head takes in, so that it gets them at the rate that it was trained with, whatever the camera's is."""

EARLY = 0.1
"""A frame may come early by this share of the distance between two that are taken in; cameras are not exact."""


class FrameRate:
    """Chooses among the frames of one camera, in the order of time.

    Args:
        rate_hz: frames a second; 0 takes all.

    Attributes:
        due_ns: when the next frame is due, in nanoseconds of stamps.
    """

    def __init__(self, rate_hz: float):
        self._period_ns = 1e9 / rate_hz if rate_hz else 0.0
        self.reset()

    def reset(self) -> None:
        """Begin anew: the next frame is due."""
        self.due_ns = 0.0

    def due(self, stamp_ns: int) -> bool:
        """Whether a frame of this time of exposure is to be taken in."""
        return stamp_ns >= self.due_ns - EARLY * self._period_ns

    def take(self, stamp_ns: int) -> None:
        """A frame that was due has been taken in."""
        # Counted from what was due, so that a camera's rate need be no multiple of the head's.
        late = stamp_ns - self.due_ns > self._period_ns
        self.due_ns = (stamp_ns if late else self.due_ns) + self._period_ns
