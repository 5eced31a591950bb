"""Watch the streams of a camera for what has the right shape and does not fit: stamps, clocks, units, losses, sizes.

Messages are only looked at here. `causes` says in one sentence each what is wrong now, with the number and the fix;
ros/health.py logs them and shows them on /diagnostics. docs/diagnostics.md lists all of them.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from threading import Lock
from typing import NamedTuple

import numpy as np
from sensor_msgs.msg import CameraInfo

from m3et_ros.data.depth_checks import implausible, offset_words
from m3et_ros.data.frame import NANOSECONDS

CAUSES = (
    'clock_missing',
    'stamp_zero',
    'stamp_ahead',
    'stamp_old',
    'stamp_back',
    'lossy_arrival',
    'depth_unpaired',
    'depth_offset',
    'depth_unit',
    'camera_info_size',
    'camera_info_uncalibrated',
    'camera_info_missing',
    'rate_low',
)
"""Reasons that StreamWatch.causes gives, the ones that explain others first."""
WINDOW_S = 5.0
"""Seconds of the past that are judged."""
FEWEST = 8
"""Fewest messages of a stream in the window for a judgement."""
AHEAD_S, OLD_S = 0.1, 10.0
"""Seconds that a stamp may be ahead of the clock, and that an image may be old when it arrives."""
APART_S = 2.0
"""Seconds between the clocks of colour and depth from which pairs join different moments; no driver is so late."""
SHARE = 0.5
"""Share of the images that must get depth."""
ARRIVED = 0.75
"""Share of the images that must arrive."""
STEADY, TOLERANCE = 0.8, 0.2
"""Share of the gaps between stamps that are whole periods within TOLERANCE of one: only then the rest was lost."""
SERVED, SLOW_S = 0.25, 10.0
"""Share of the images that must be served, and seconds after which fewer are reported."""
BACK_S = 30.0
"""Seconds for which a jump of the stamps is reported."""


class Moment(NamedTuple):
    """Stamp of a message in ns, its arrival on the steady clock in s, and the ROS clock then in ns."""

    stamp_ns: int
    arrival_s: float
    now_ns: int


class StampedStream:
    """The last messages of one topic; not usable from several threads by itself."""

    def __init__(self):
        self.count = 0
        self.back_s = 0.0
        self.back_at_s = float('-inf')
        self._moments: deque[Moment] = deque(maxlen=512)

    def add(self, moment: Moment) -> None:
        """Note a message; a stamp that is older than the last one begins anew."""
        self.count += 1
        last = self._moments[-1] if self._moments else moment
        if 0 < moment.stamp_ns < last.stamp_ns:
            self.back_s, self.back_at_s = (last.stamp_ns - moment.stamp_ns) / NANOSECONDS, moment.arrival_s
            self._moments.clear()
        self._moments.append(moment)

    def window(self, now_s: float) -> list[Moment]:
        """Return the messages of the last WINDOW_S seconds, the oldest first."""
        return [moment for moment in self._moments if now_s - moment.arrival_s <= WINDOW_S]


@dataclass(frozen=True)
class Topics:
    """Facts of the subscriptions that the sentences name."""

    rgb: str
    depth: str
    info: str
    # Reliability of the colour and of the depth subscription.
    best_effort: tuple[bool, bool] = (False, False)
    # Path of the Fast DDS profile for large images.
    profile: str = 'config/fastdds.xml'


@dataclass(frozen=True)
class Limits:
    """Parameters of the node that the sentences name."""

    slop_s: float
    wait_s: float
    unit_m: float
    # Seconds after which a missing camera_info is reported; 0 never reports it.
    silent_s: float
    sim_time: bool


class StreamWatch:
    """Collects what arrives, on several threads, and names what does not fit."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic):
        """Start with nothing seen.

        Args:
            clock: seconds that never go back.
        """
        self._clock, self._lock = clock, Lock()
        self._rgb, self._depth = StampedStream(), StampedStream()
        self._pairs: deque[tuple[float, bool]] = deque(maxlen=512)
        self._medians: deque[float] = deque(maxlen=10)
        self._info: CameraInfo | None = None
        self._size: tuple[int, ...] = ()
        self._started = clock()
        self._slow_since: float | None = None

    def rgb_arrived(self, stamp_ns: int, now_ns: int) -> None:
        """Note a colour image: its stamp and the ROS clock in ns."""
        with self._lock:
            self._rgb.add(Moment(stamp_ns, self._clock(), now_ns))

    def depth_arrived(self, stamp_ns: int, now_ns: int) -> None:
        """Note a depth image, likewise."""
        with self._lock:
            self._depth.add(Moment(stamp_ns, self._clock(), now_ns))

    def info_arrived(self, info: CameraInfo) -> None:
        """Note intrinsics."""
        with self._lock:
            self._info = info

    def paired(self, *, with_depth: bool) -> None:
        """Note that the synchroniser has decided about a colour image."""
        with self._lock:
            self._pairs.append((self._clock(), with_depth))

    def decoded(self, size: tuple[int, ...], median_m: float | None) -> None:
        """Note the size (H, W) of a colour image and the median of its depth in metres; None without depth."""
        with self._lock:
            self._size = tuple(size[:2])
            if median_m is not None and median_m == median_m:
                self._medians.append(median_m)

    def causes(self, topics: Topics, limits: Limits, rates: tuple[float, float]) -> dict[str, str]:
        """Return what does not fit now: a sentence by reason.

        Args:
            topics: names and facts of the subscriptions.
            limits: parameters of the node.
            rates: colour images that arrive and frames that are served, per second.
        """
        with self._lock:
            now_s = self._clock()
            rgb, depth = self._rgb.window(now_s), self._depth.window(now_s)
            found: dict[str, str] = {}
            found |= _lossy(depth, topics.depth, topics, best_effort=topics.best_effort[1])
            found |= _lossy(rgb, topics.rgb, topics, best_effort=topics.best_effort[0])
            found |= self._clocks(rgb, topics, limits, now_s)
            found |= self._unpaired(rgb, depth, limits, now_s, lossy='lossy_arrival' in found)
            found |= self._units(topics, limits)
            found |= self._intrinsics(topics, limits, now_s)
            found |= self._slow(rates, now_s)
            return {reason: f'{sentence[:1].upper()}{sentence[1:]}.' for reason, sentence in found.items()}

    def _clocks(self, rgb: list[Moment], topics: Topics, limits: Limits, now_s: float) -> dict[str, str]:
        found = {}
        for stream, topic in ((self._rgb, topics.rgb), (self._depth, topics.depth)):
            if now_s - stream.back_at_s < BACK_S:
                found['stamp_back'] = (
                    f'the stamps on {topic} went back by {stream.back_s:.3g} s: a recording started over, or the clock '
                    'of the camera was set; images that waited were dropped, and reset_memory begins a new episode'
                )
        if not rgb:
            return found
        if limits.sim_time and len({moment.now_ns for moment in rgb}) == 1:
            # In the first moments /clock may not have been discovered yet.
            if now_s - rgb[0].arrival_s <= WINDOW_S / 2:
                return found
            now = f'{rgb[-1].now_ns / NANOSECONDS:.3f} s'
            return found | {
                'clock_missing': f'the parameter use_sim_time is set and the clock stands still at {now}, so no age is '
                'known: play the recording with its clock (m3et replay, ros2 bag play --clock), or set '
                'use_sim_time to false'
            }
        stamped = [moment for moment in rgb if moment.stamp_ns]
        if len(stamped) < len(rgb):
            return found | {
                'stamp_zero': f'{len(rgb) - len(stamped)} of {len(rgb)} images on {topics.rgb} have no stamp, so their '
                'age is unknown and depth cannot be told to belong to them: set header.stamp in the driver'
            }
        age_s = float(np.median([moment.now_ns - moment.stamp_ns for moment in stamped])) / NANOSECONDS
        if age_s < -AHEAD_S:
            found['stamp_ahead'] = (
                f'the images on {topics.rgb} are stamped {-age_s:.3g} s ahead of the clock of this node: synchronise '
                'the clocks of the two machines (chrony), or set use_sim_time on both nodes or on none'
            )
        elif age_s > OLD_S:
            found['stamp_old'] = (
                f'the images on {topics.rgb} are {age_s:.4g} s old when they arrive: synchronise the clocks of the two '
                'machines (chrony); for a recording set use_sim_time, or play it with --restamp'
            )
        return found

    def _unpaired(
        self, rgb: list[Moment], depth: list[Moment], limits: Limits, now_s: float, *, lossy: bool
    ) -> dict[str, str]:
        decided = [with_depth for at, with_depth in self._pairs if now_s - at <= WINDOW_S]
        stamped = [[moment for moment in stream if moment.stamp_ns] for stream in (rgb, depth)]
        if not all(len(moments) >= 2 for moments in stamped) or len(decided) < 2:
            return {}
        offset_ns, paired = _offset(*stamped), sum(decided)
        if paired >= SHARE * min(len(decided), len(depth)) or (paired and lossy):
            if abs(offset_ns) <= APART_S * NANOSECONDS:
                return {}
            return {
                'depth_offset': f'{offset_words(offset_ns)} although both arrive together, so pairs join different '
                'moments: let the driver stamp both from one clock'
            }
        sentence = f'{len(decided) - paired} of the last {len(decided)} colour images got no depth'
        nearest_ns, late_s = _nearest(*stamped)
        if abs(nearest_ns) <= limits.slop_s * NANOSECONDS and late_s > limits.wait_s:
            fix = f'depth arrives {late_s:.2g} s after colour: raise depth_wait_s, which is {limits.wait_s:g}'
        elif abs(offset_ns) < NANOSECONDS:
            least = min(1.0, 1.2 * abs(offset_ns) / NANOSECONDS)
            fix = (
                f'{offset_words(offset_ns)}: raise sync_slop_s, which is {limits.slop_s:g}, to {least:.2g}, or let the '
                'camera synchronise the two (realsense2_camera: enable_sync:=true)'
            )
        else:
            fix = (
                f'{offset_words(offset_ns)}: let the driver stamp both from one clock, or synchronise the clocks of '
                'the machines (chrony)'
            )
        return {'depth_unpaired': f'{sentence}; {fix}'}

    def _units(self, topics: Topics, limits: Limits) -> dict[str, str]:
        sentence = implausible(float(np.median(self._medians))) if self._medians else ''
        if not sentence:
            return {}
        given = f'which is {limits.unit_m:g}' if limits.unit_m else 'which is 0, as the encoding says'
        return {
            'depth_unit': f'on {topics.depth} {sentence}: set depth_unit_m, {given}, to the metres of one unit '
            '(0.001 for millimetres, 0.0001 for tenths)'
        }

    def _intrinsics(self, topics: Topics, limits: Limits, now_s: float) -> dict[str, str]:
        if self._info is None:
            waited_s = now_s - self._started
            if not self._rgb.count or not limits.silent_s or waited_s <= limits.silent_s:
                return {}
            return {
                'camera_info_missing': f'no camera_info has come on {topics.info} in {waited_s:.1f} s, so the '
                'completed depth goes out without one: remap rgb/camera_info to that of the colour camera'
            }
        size = expected_size(self._info)
        if size and self._size and size != self._size:
            return {
                'camera_info_size': f'the camera_info on {topics.info} is for {size[1]}x{size[0]} and the images are '
                f'{self._size[1]}x{self._size[0]}, so it is not passed on: remap rgb/camera_info to the one beside them'
            }
        if self._info.k[0] == 0:
            return {
                'camera_info_uncalibrated': f'the camera_info on {topics.info} has no focal length, so the camera is '
                'not calibrated: run camera_calibration, or set camera_info_url of the driver'
            }
        return {}

    def _slow(self, rates: tuple[float, float], now_s: float) -> dict[str, str]:
        rate_in, rate_out = rates
        if rate_in < 1 or rate_out >= SERVED * rate_in:
            self._slow_since = None
            return {}
        self._slow_since = now_s if self._slow_since is None else self._slow_since
        if now_s - self._slow_since < SLOW_S:
            return {}
        return {
            'rate_low': f'{rate_out:.1f} of {rate_in:.1f} images a second are served: lower the rate of the camera, or '
            'speed the model up (tokens:=adaptive, another runtime or device, a smaller model)'
        }


def expected_size(info: CameraInfo) -> tuple[int, int] | None:
    """Return height and width of the images that intrinsics are for (REP 104: region, then binning); None if unset."""
    height = (info.roi.height or info.height) // max(info.binning_y, 1)
    width = (info.roi.width or info.width) // max(info.binning_x, 1)
    return (height, width) if height and width else None


def _offset(rgb: list[Moment], depth: list[Moment]) -> float:
    """Return the stamp of depth minus that of colour in ns.

    The time of arrival shows how far the clocks are apart, up to the time that a driver takes; of the differences
    between single stamps the one nearest to that is exact.
    """
    apart = _clock_ns(depth) - _clock_ns(rgb)
    return _nearest(rgb, depth, apart)[0]


def _nearest(rgb: list[Moment], depth: list[Moment], apart_ns: float = 0.0) -> tuple[float, float]:
    """Return the medians of depth minus colour, stamp in ns and arrival in s, of the stamps nearest to `apart_ns`."""
    pairs = [(min(depth, key=lambda d, c=colour: abs(d.stamp_ns - c.stamp_ns - apart_ns)), colour) for colour in rgb]
    stamp_ns = float(np.median([d.stamp_ns - c.stamp_ns for d, c in pairs]))
    return stamp_ns, float(np.median([d.arrival_s - c.arrival_s for d, c in pairs]))


def _clock_ns(moments: Iterable[Moment]) -> float:
    """Return the median of stamp minus arrival in ns."""
    return float(np.median([moment.stamp_ns - round(moment.arrival_s * NANOSECONDS) for moment in moments]))


def _lossy(moments: list[Moment], topic: str, topics: Topics, *, best_effort: bool) -> dict[str, str]:
    """Judge by the stamps whether images were lost: whole periods are missing between those that arrived."""
    stamps = np.array(sorted({moment.stamp_ns for moment in moments if moment.stamp_ns}), np.int64)
    if len(stamps) < FEWEST:
        return {}
    gaps = np.diff(stamps).astype(float)
    period = float(np.quantile(gaps, 0.1))
    periods = gaps / period
    whole = np.abs(periods - np.rint(periods)) <= TOLERANCE
    sent = round(float(periods.sum())) + 1
    if len(stamps) >= ARRIVED * sent or whole.mean() < STEADY:
        return {}
    why = (
        'the driver sends large images without the profile that makes room for them: start the driver with '
        f'FASTRTPS_DEFAULT_PROFILES_FILE={topics.profile}'
        if best_effort
        else 'this machine does not take them in time: lower the rate or size of the images'
    )
    return {
        'lossy_arrival': f'about {len(stamps)} of {sent} images arrive on {topic}, judged by their stamps of one per '
        f'{period / 1e6:.3g} ms; {why}'
    }
