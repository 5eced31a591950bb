"""The clock of a replay: recorded time, the steady clock that paces it, and the published stamps."""

import struct
from collections.abc import Callable
from dataclasses import dataclass

from m3et_ros.data.frame import NANOSECONDS


@dataclass(frozen=True)
class Timeline:
    """One pass through a recording."""

    # Recorded time at the beginning of the pass, in ns since the epoch.
    first_ns: int
    # Recorded seconds per second.
    rate: float
    # Steady clock at the beginning of the pass, in seconds.
    started: float
    # Wall clock at the beginning of the pass, in ns since the epoch; None publishes stamps as recorded.
    epoch_ns: int | None = None

    def __post_init__(self):
        if not self.rate > 0:
            raise ValueError(f'rate is {self.rate}; give more than 0')

    def due(self, recorded_ns: int) -> float:
        """Return the steady time in seconds at which to publish a message; from the start, so that no error adds up."""
        return self.started + (recorded_ns - self.first_ns) / NANOSECONDS / self.rate

    def recorded(self, now: float) -> int:
        """Return the recorded time in ns that corresponds to the steady time `now` in seconds."""
        return self.first_ns + round((now - self.started) * self.rate * NANOSECONDS)

    def published(self, recorded_ns: int) -> int:
        """Return the published stamp in ns of a recorded one."""
        if self.epoch_ns is None:
            return recorded_ns
        return self.epoch_ns + round((recorded_ns - self.first_ns) / self.rate)


def restamped(raw: bytes, stamp: Callable[[int], int]) -> bytes:
    """Return a message with another header stamp.

    Args:
        raw: CDR bytes of a message whose first field is a std_msgs/Header. The four bytes before the stamp name the
            encoding; bit 0 of the second is set for little endian (DDS-XTypes, XCDR1).
        stamp: maps the old stamp to the new one, both in ns since the epoch.
    """
    layout = '<iI' if raw[1] & 1 else '>iI'
    seconds, nanoseconds = struct.unpack_from(layout, raw, 4)
    return raw[:4] + struct.pack(layout, *divmod(stamp(seconds * NANOSECONDS + nanoseconds), NANOSECONDS)) + raw[12:]
