"""Read the camera frames of a bag once, and collect the problems of the recording."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from m3et_ros.data.bags.frames import frames
from m3et_ros.data.bags.reader import COMPRESSED_IMAGE, IMAGE, BagReader
from m3et_ros.data.bags.topics import CameraTopics, find_camera, why_not_registered
from m3et_ros.data.datasets.openeqa import episode_name
from m3et_ros.data.depth_checks import implausible, median_m, offset_words
from m3et_ros.data.errors import InputError
from m3et_ros.data.frame import Frame
from m3et_ros.evaluation.batches import rounded

STRIP, STRIP_HEIGHT = 4, 96
"""Number of frames of a bag that a report shows, and their height in pixels."""

MISSED = 1.75
"""Gap between two frames, in usual steps, from which frames are reported as missing."""

RGB, DEPTH = 'color/image_raw', 'aligned_depth_to_color/image_raw'
"""Topics below the prefix of a camera, as in m3et replay."""


def topics_of(reader: BagReader, camera: str | None, remaps: Mapping[str, str]) -> CameraTopics:
    """Return the topics of the camera.

    Args:
        reader: reader of the bag.
        camera: prefix of the camera's topics, such as '/camera/camera'; None finds the camera.
        remaps: topic in the bag to its name here.

    Raises:
        InputError: 'bag_topic' or 'bag_type' where there are none; the sentence lists the topics of the bag.
    """
    if camera is None and not remaps:
        return find_camera(reader)
    prefix = '/' + (camera or 'camera/camera').strip('/')
    images = {
        remaps.get(name, name): name for name, topic in reader.topics.items() if topic.type in (IMAGE, COMPRESSED_IMAGE)
    }
    rgb = images.get(f'{prefix}/{RGB}') or images.get(f'{prefix}/{RGB}/compressed')
    names = (f'{prefix}/{DEPTH}{suffix}' for suffix in ('', '/compressedDepth', '/compressed'))
    depth = next((images[name] for name in names if name in images), None)
    if rgb is None:
        has = ', '.join(f'{name} ({topic.type})' for name, topic in reader.topics.items())
        raise InputError(
            'bag_topic',
            f'{reader.path} has no colour images on {prefix}/{RGB} or {prefix}/{RGB}/'
            f'compressed; it has {has or "no topics"}: give --camera, or --remap one of them',
        )
    note = why_not_registered(reader, rgb, depth) if depth is not None else ''
    return CameraTopics(rgb, None, f'{note}; colours are used alone') if note else CameraTopics(rgb, depth)


class BagPass:
    """One pass over the frames of a bag.

    Args:
        reader: reader of the bag.
        camera: topics to read.
        every: n for only every n-th colour image.

    Attributes:
        frames: number of frames so far.
        stamps: stamps of the first and the last frame in ns.
        newest_ns: highest stamp in ns; that of the last frame unless the clock jumped back.
        strip: evenly spaced small frames, (STRIP_HEIGHT, W, 3) uint8 each.
        troubles: sentences about the recording; complete only after the last frame.
    """

    def __init__(self, reader: BagReader, camera: CameraTopics, every: int = 1):
        self.frames = 0
        self.stamps: tuple[int, int] = (0, 0)
        self.newest_ns = 0
        self.strip: list[np.ndarray] = []
        self.troubles: list[str] = []
        self._camera = camera
        self._undecoded = self._backward = self._without_depth = 0
        self._decode_error: InputError | None = None
        self._steps: list[int] = []
        self._stride = 1
        self._offsets: list[int] = []
        self._medians: list[float] = []
        self._source = frames(
            reader,
            rgb_topic=camera.rgb,
            depth_topic=camera.depth,
            every=every,
            on_damaged=self._note_undecoded,
            on_unpaired=self._offsets.append,
        )

    def _note_undecoded(self, error: InputError) -> None:
        self._undecoded += 1
        self._decode_error = error

    def __iter__(self) -> Iterator[Frame]:
        try:
            for frame in self._source:
                self._note(frame)
                yield frame
        except InputError as error:  # the bag is cut off; the frames before that were read
            self.troubles.append(f'{error}; the {self.frames} frames before that are used')
        if self._undecoded:
            self.troubles.append(
                f'{self._undecoded} frames cannot be decoded and are left out, the last because {self._decode_error}'
            )
        if self._backward:
            self.troubles.append(f'{self._backward} frames are older than the one before: the clock jumped back')
        missing, usual = self._missing()
        if missing:
            self.troubles.append(
                f'about {missing} frames are missing: one comes every {usual / 1e9:.3f} s, and the '
                f'longest gap is {max(self._steps) / 1e9:.3f} s'
            )
        if self._without_depth:
            # A few frames without depth were lost; most of them are stamped by another clock.
            most = self._offsets and self._without_depth > self.frames / 2
            why = f': {offset_words(float(np.median(self._offsets)))} (median)' if most else ''
            self.troubles.append(
                f'{self._without_depth} of {self.frames} frames have no depth within 20 ms of their colour image{why}'
            )
        known = [median for median in self._medians if median == median]
        if known and (sentence := implausible(float(np.median(known)))):
            self.troubles.append(f'{sentence}; record {self._camera.depth} in its unit')

    def _missing(self) -> tuple[int, float]:
        """Return the number of further frames that a steady camera would have sent, and its usual step in ns."""
        steps = np.array([step for step in self._steps if step > 0])
        usual = float(np.median(steps)) if steps.size else 0.0
        if not usual:
            return 0, usual
        wide = steps[steps >= MISSED * usual]
        return int((wide / usual).round().sum()) - len(wide), usual

    def _note(self, frame: Frame) -> None:
        first = last = frame.stamp_ns
        if self.frames:
            first, last = self.stamps
            self._steps.append(frame.stamp_ns - last)
        if frame.stamp_ns < last:
            self._backward += 1
        if self._camera.depth is not None and frame.depth is None:
            self._without_depth += 1
        if frame.depth is not None:
            self._medians.append(median_m(frame.depth))
        self.stamps, self.newest_ns = (first, frame.stamp_ns), max(self.newest_ns, frame.stamp_ns)
        if self.frames % self._stride == 0:
            self.strip.append(strip_picture(frame.rgb))
            if len(self.strip) == 2 * STRIP:
                self.strip, self._stride = self.strip[::2], 2 * self._stride
        self.frames += 1

    def part(self, bag: Path, answers: list[dict]) -> dict[str, Any]:
        """Return the part of a bag, ready for JSON: its frames, its troubles and the given answers."""
        first, last = self.stamps
        about_camera = [self._camera.note] if self._camera.note else []
        return {
            'bag': episode_name(bag),
            'camera': {'rgb': self._camera.rgb, 'depth': self._camera.depth},
            'frames': self.frames,
            'seconds': rounded(max(0, last - first) / 1e9),
            'first_ns': first,
            'last_ns': last,
            'spoilt_frames': self._undecoded,
            'frames_without_depth': self._without_depth,
            'longest_gap_s': rounded(max((0, *self._steps)) / 1e9),
            'troubles': [*about_camera, *self.troubles],
            'answers': answers,
        }

    def require_frames(self, bag: Path) -> None:
        """Check that the bag had a readable frame.

        Raises:
            InputError: 'bag_format' where it had none.
        """
        if not self.frames:
            reason = f': {"; ".join(self.troubles)}' if self.troubles else '; record it again'
            raise InputError('bag_format', f'{bag} has no readable frame on {self._camera.rgb}{reason}')


def small(rgb: np.ndarray, width: int, height: int = STRIP_HEIGHT) -> np.ndarray:
    """Resize an image (H, W, 3) uint8 to (height, width, 3)."""
    return cv2.resize(rgb, (width, height), interpolation=cv2.INTER_AREA)


def strip_picture(rgb: np.ndarray) -> np.ndarray:
    """Resize an image (H, W, 3) uint8 to the height of a strip, (STRIP_HEIGHT, W', 3)."""
    height, width = rgb.shape[:2]
    return small(rgb, max(1, round(width * STRIP_HEIGHT / height)))


def jpeg(rgb: np.ndarray, quality: int) -> bytes:
    """Encode an image (H, W, 3) uint8 as JPEG."""
    bgr = cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR)
    return cv2.imencode('.jpg', bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()
