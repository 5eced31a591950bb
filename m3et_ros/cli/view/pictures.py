"""Messages of a robot as pictures that a browser shows: JPEG for colour and depth, PNG for class ids."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np

from m3et_ros.data.errors import InputError
from m3et_ros.data.frame import NANOSECONDS
from m3et_ros.data.images.compressed import depth_from_compressed, encode_rgb, rgb_from_compressed
from m3et_ros.data.images.messages import depth_from_msg, rgb_from_msg
from m3et_ros.data.images.sizes import JPEG, check_claimed
from m3et_ros.ros.convert import stamp_ns
from m3et_ros.ros.logs import error_sentence

QUALITY = 80
"""Quality of JPEG, 1 to 100."""
UNKNOWN_GREY = 24
"""Grey of pixels without depth, the level 0."""
DARKEST, BRIGHTEST = 1, 254
"""Levels of the farthest and the nearest depth."""
OUTLINE = (255, 255, 255)
"""Colour of outlines, the level 255."""
PALETTE = cv2.applyColorMap(np.arange(256, dtype=np.uint8).reshape(256, 1), cv2.COLORMAP_VIRIDIS)
PALETTE[0], PALETTE[255] = UNKNOWN_GREY, OUTLINE
SMALLEST_HOLE = np.ones((3, 3), np.uint8)
"""Filled places that do not hold this shape get no outline."""
ENDS = (2, 98)
"""Percentiles of the depth at the ends of the colour scale."""
SAMPLED = 8
"""One pixel in so many of each axis decides about the scale."""
STEADY = 0.9
"""Weight of the old scale beside that of a new picture."""
CLASS_GREY = 'mono8'
MASK_PNG = [cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_NONE]
"""Filters help photographs; without them a mask takes a quarter of the time."""
DEPTH_WIDTH = 0.75
"""Surfaces lose nothing to fewer pixels, and the page shows them smaller."""
PLAIN: dict[str, np.dtype[Any]] = {'16UC1': np.dtype('<u2'), '32FC1': np.dtype('<f4')}
"""Depth that is used as it is stored."""
NOT_MM = 65535
"""Millimetres that mean unknown depth, besides 0."""


@dataclass(frozen=True)
class PagePicture:
    """A picture as a browser decodes it.

    Attributes:
        kind: 'colour', 'depth' or 'mask'.
        stamp_ns: stamp of the camera's image in ns.
        size: width and height of the camera's image in pixels; the picture may be smaller.
        data: JPEG or PNG.
        facts: figures that belong to it, for JSON.
    """

    kind: str
    stamp_ns: int
    size: tuple[int, int]
    data: bytes
    facts: dict[str, Any] = field(default_factory=dict)


def colour_picture(message: Any, width: int) -> PagePicture:
    """Encode a colour image as JPEG; a JPEG of the camera passes as it is.

    Args:
        message: sensor_msgs/Image or CompressedImage.
        width: largest width of the picture in pixels.

    Raises:
        InputError: as `rgb_from_msg` and `rgb_from_compressed`.
    """
    stamp = stamp_ns(message.header.stamp)
    if hasattr(message, 'format'):
        data = bytes(memoryview(message.data))
        if data.startswith(JPEG) and not message.format.startswith('bayer') and (size := check_claimed(data, 'colour')):
            return PagePicture('colour', stamp, size, data)
        rgb = rgb_from_compressed(message)
    else:
        rgb = rgb_from_msg(message)
    height, full = rgb.shape[:2]
    _, data = encode_rgb(_fitted(rgb, width, cv2.INTER_AREA), quality=QUALITY)
    return PagePicture('colour', stamp, (full, height), data)


def mask_picture(message: Any, width: int) -> PagePicture:
    """Encode class ids as a grey PNG, so that a browser reads them back exactly.

    Args:
        message: sensor_msgs/Image in mono8.
        width: largest width of the picture in pixels.

    Raises:
        InputError: 'unknown_encoding', or as `rgb_from_msg`.
    """
    if message.encoding != CLASS_GREY:
        raise InputError(
            'unknown_encoding', f'the mask has encoding {message.encoding[:40]!r}; publish class ids as {CLASS_GREY}'
        )
    ids = rgb_from_msg(message)[..., 0]
    size = (ids.shape[1], ids.shape[0])
    done, png = cv2.imencode('.png', _fitted(ids, width, cv2.INTER_NEAREST), MASK_PNG)
    if not done:
        raise InputError('data_type', f'a mask of {size[0]}x{size[1]} pixels cannot be encoded as PNG')
    return PagePicture('mask', stamp_ns(message.header.stamp), size, png.tobytes())


def depth_of(message: Any) -> np.ndarray:
    """Return the metres (H, W) float32 of an Image or CompressedImage, NaN unknown.

    Raises:
        InputError: as `depth_from_msg` and `depth_from_compressed`.
    """
    return depth_from_compressed(message) if hasattr(message, 'format') else depth_from_msg(message)


class DepthPainter:
    """Paints completed depth: near is bright, unknown is dark, filled places have an outline.

    The ends of the colour scale follow the scene slowly, so that colours do not flicker.

    Args:
        width: largest width of the other pictures in pixels; depth has no more than DEPTH_WIDTH of it.
    """

    def __init__(self, width: int):
        self._width = round(DEPTH_WIDTH * width)
        self._ends: np.ndarray | None = None
        # The newest depth (h, w) in metres.
        self._newest: np.ndarray | None = None

    def paint(self, completed: Any, measured: Any | None) -> PagePicture:
        """Paint a depth image.

        Args:
            completed: sensor_msgs/Image of ~/depth/image.
            measured: the camera's depth of the same stamp; None where it is not known, which leaves out the outline.

        Raises:
            InputError: as `depth_of`.
        """
        depth = _stored(completed)
        if depth.dtype != np.float32:
            depth = depth_of(completed)
        size = (depth.shape[1], depth.shape[0])
        depth = _fitted(depth, self._width, cv2.INTER_NEAREST)
        self._newest = depth
        known = _known(depth)
        near, far = self._scale(depth)
        # Bright is near, as in most viewers.
        step = np.float32((BRIGHTEST - DARKEST) / (far - near))
        with np.errstate(invalid='ignore'):
            levels = np.clip((far - depth) * step + DARKEST, DARKEST, BRIGHTEST).astype(np.uint8)
        levels &= known
        facts: dict[str, Any] = {'near': round(near, 3), 'far': round(far, 3)}
        if measured is not None:
            given = _known(_fitted(_stored(measured), self._width, cv2.INTER_NEAREST))
            if given.shape == known.shape:
                filled = cv2.bitwise_and(known, cv2.bitwise_not(given))
                facts['filled'] = round(cv2.countNonZero(filled) / filled.size, 4)
                places = cv2.morphologyEx(filled, cv2.MORPH_OPEN, SMALLEST_HOLE)
                outline = cv2.bitwise_and(places, cv2.bitwise_not(cv2.erode(places, SMALLEST_HOLE)))
                cv2.bitwise_or(levels, outline, dst=levels)
        painted = cv2.applyColorMap(levels, PALETTE)
        done, jpeg = cv2.imencode('.jpg', painted, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
        if not done:
            raise InputError('data_type', f'depth of {size[0]}x{size[1]} pixels cannot be encoded as JPEG')
        return PagePicture('depth', stamp_ns(completed.header.stamp), size, jpeg.tobytes(), facts)

    def metres_at(self, u: float, v: float) -> float | None:
        """Return the depth of the newest picture in metres; None where it is unknown.

        Args:
            u: place from the left, 0 to 1.
            v: place from the top, 0 to 1.
        """
        if self._newest is None or not (0 <= u < 1 and 0 <= v < 1):
            return None
        depth = self._newest
        metres = float(depth[int(v * depth.shape[0]), int(u * depth.shape[1])])
        return metres if np.isfinite(metres) and metres > 0 else None

    def _scale(self, depth: np.ndarray) -> tuple[float, float]:
        sampled = depth[::SAMPLED, ::SAMPLED]
        known = sampled[np.isfinite(sampled)]
        if len(known):
            ends = np.percentile(known, ENDS)
            self._ends = ends if self._ends is None else STEADY * self._ends + (1 - STEADY) * ends
        near, far = (0.0, 1.0) if self._ends is None else map(float, self._ends)
        return near, max(far, near + 0.01)


class Pace:
    """Chooses at most `rate` images a second by their stamps, evenly where they come evenly.

    Colour, depth and masks of one camera have the same stamps, so the same moments are chosen of each. Images without
    a stamp are chosen by the clock.

    Args:
        rate: images per second, above 0.
        clock: nanoseconds that never go back.
    """

    def __init__(self, rate: float, clock: Callable[[], int] = time.monotonic_ns):
        self._period, self._clock = round(NANOSECONDS / rate), clock
        self._due = 0

    def due(self, stamp_ns: int) -> bool:
        """Return True if an image of this stamp is chosen; a stamp that went back begins anew."""
        now = stamp_ns or self._clock()
        # Half a period of patience: a camera at exactly this rate must not lose every other image to its jitter.
        early = self._due - now
        if self._period / 2 < early <= 2 * self._period:
            return False
        self._due = max(self._due, now) + self._period if early <= self._period / 2 else now + self._period
        return True


class NewestWorker:
    """A thread that does the newest piece of work of each name; an older one that still waits is dropped.

    Args:
        failed: receives the name and the sentence of work that raised.
    """

    def __init__(self, failed: Callable[[str, str], None]):
        self._failed = failed
        self._waiting: dict[str, Callable[[], None]] = {}
        self._changed = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name='pictures', daemon=True)
        self._thread.start()

    def submit(self, name: str, work: Callable[[], None]) -> bool:
        """Queue a piece of work; return True if it replaced one that had not begun."""
        with self._changed:
            replaced = self._waiting.pop(name, None) is not None
            self._waiting[name] = work
            self._changed.notify()
        return replaced

    def close(self) -> None:
        """End the thread after the piece of work that it does; what waits is dropped."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closing or self._waiting)
                if self._closing:
                    return
                name = next(iter(self._waiting))
                work = self._waiting.pop(name)
            try:
                work()
            except InputError as error:
                self._failed(name, str(error))
            except Exception as error:  # a fault with one picture must not end the others
                self._failed(name, error_sentence(name, error))


def _fitted(pixels: np.ndarray, width: int, interpolation: int) -> np.ndarray:
    """Shrink (H, W) or (H, W, 3) to at most `width` columns."""
    height, full = pixels.shape[:2]
    if full <= width:
        return pixels
    return cv2.resize(pixels, (width, max(1, round(height * width / full))), interpolation=interpolation)


def _stored(message: Any) -> np.ndarray:
    """Return depth as it is stored, in mm or m, without a copy; metres where a message packs it otherwise."""
    kind = PLAIN.get(getattr(message, 'encoding', ''))
    if kind is None or message.is_bigendian or message.step != message.width * kind.itemsize:
        return depth_of(message)
    data = memoryview(message.data)
    if not message.width * message.height or data.nbytes != message.step * message.height:
        return depth_of(message)
    return np.frombuffer(data, kind).reshape(message.height, message.width)


def _known(depth: np.ndarray) -> np.ndarray:
    """Return 255 where depth (H, W), stored in mm or m, is known and 0 elsewhere."""
    if depth.dtype == np.uint16:
        return cv2.inRange(depth, 1, NOT_MM - 1)
    return cv2.inRange(depth, float(np.finfo(np.float32).tiny), float(np.finfo(np.float32).max))
