"""Colour images of a webcam, a video or a folder of pictures, each with the time at which it is due.

OpenCV reads webcams (V4L2) and videos (FFmpeg). A video keeps its own clock: the timestamps of its container, which
need not be evenly apart. None of the three knows depth or intrinsics, so none is made up.
"""

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import cv2
import numpy as np

from m3et_ros.data.errors import InputError
from m3et_ros.data.files import check_regular, read_regular
from m3et_ros.data.images.compressed import rgb_from_compressed
from m3et_ros.data.images.files import MAX_BYTES, list_pictures
from m3et_ros.data.images.messages import check_pixels
from m3et_ros.data.images.orientation import orientation, upright

WHOLE = 0.9
"""Share of the images that its container claims, below which a video counts as cut short; claims may be estimates."""
FASTEST_HZ = 1000.0
"""Largest rate of a container that is believed."""


class Shot(NamedTuple):
    """A colour image and the time at which it is due."""

    # (H, W, 3) uint8, R G B, upright.
    rgb: np.ndarray
    # Seconds after the first image of the clip; None for an image of now.
    time_s: float | None


class VideoFile:
    """A video file, in the time of its container and upright as its rotation says.

    Attributes:
        name: path, for sentences.
        problems: one sentence for each thing that was wrong so far.
        period_s: seconds between the last two images that were read.
    """

    live = False

    def __init__(self, path: Path):
        """Open a video and read its first image.

        Args:
            path: the file.

        Raises:
            InputError: 'data_missing', 'not_a_file', 'clip', it is missing or cannot be read; 'clip_empty', it has
                no image; 'too_large'.
        """
        self.name = str(path)
        self.problems: list[str] = []
        _check_there(path, 'a video file such as clip.mp4')
        check_regular(path, 'give a video file such as clip.mp4')
        # An absolute path: FFmpeg takes other names for protocols. FFMPEG: others take 'frame1.jpg' for a sequence.
        self._capture = _opened(str(path.resolve()), cv2.CAP_FFMPEG)
        if not self._capture.isOpened():
            raise InputError(
                'clip',
                f'{path} cannot be read as a video: it holds no images, is cut off or damaged, or is of a format that '
                'FFmpeg does not know here; convert it, such as with ffmpeg -i FILE clip.mp4',
            )
        # Phones store how they were held beside the pixels.
        self._capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 1)
        rate_hz = self._capture.get(cv2.CAP_PROP_FPS)
        self.period_s = 1 / rate_hz if 0 < rate_hz <= FASTEST_HZ else 1 / 30
        self._claimed = self._capture.get(cv2.CAP_PROP_FRAME_COUNT)
        self._first = self._read()
        if self._first is None:
            self.close()
            raise InputError('clip_empty', f'{path} is a video without a single image that can be read; give another')
        check_pixels(self._first.shape[1], self._first.shape[0], f'video {path}:')

    def shots(self) -> Iterator[Shot]:
        """Yield the images once, in order; times only grow."""
        image, at_s, due_s, count = self._first, self._at_s(), 0.0, 0
        while image is not None:
            yield Shot(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), due_s)
            count += 1
            image = self._read()
            if (step_s := self._at_s() - at_s) > 0:
                self.period_s = step_s
            elif image is not None:
                self._note(f'{self.name} has timestamps that do not grow, so images follow each other evenly there')
            at_s, due_s = self._at_s(), due_s + self.period_s
        if count < WHOLE * self._claimed:
            self._note(f'{self.name} ends after {count} of about {self._claimed:.0f} images: it is cut off or damaged')

    def close(self) -> None:
        """Close the file."""
        self._capture.release()

    def _read(self) -> np.ndarray | None:
        good, image = self._capture.read()
        return image if good else None

    def _at_s(self) -> float:
        """Return the timestamp of the image that was read last, in seconds."""
        return self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000

    def _note(self, sentence: str) -> None:
        if sentence not in self.problems:
            self.problems.append(sentence)


class Pictures:
    """The pictures of a folder at a constant rate, in the order of their names, upright as their EXIF tag says.

    Times of files say when they were copied, and clocks of cameras are often wrong: neither is used.

    Attributes:
        name: path, for sentences.
        problems: one sentence for each picture that could not be read.
        period_s: seconds between two pictures.
    """

    live = False

    def __init__(self, folder: Path, rate_hz: float):
        """List the pictures.

        Args:
            folder: holds JPEG or PNG files; 'frame10.png' comes after 'frame9.png'.
            rate_hz: pictures a second, above 0.

        Raises:
            InputError: 'data_missing', there is no such folder; 'clip_empty', it has no picture.
        """
        self.name, self.period_s = str(folder), 1 / rate_hz
        self.problems: list[str] = []
        _check_there(folder, 'a folder of pictures')
        self._paths = sorted((folder / name for name in list_pictures(folder)), key=_natural)
        if not self._paths:
            raise InputError(
                'clip_empty', f'{folder} has no picture (.jpg, .jpeg or .png); give a folder that has some'
            )

    def shots(self) -> Iterator[Shot]:
        """Yield the pictures once; one that cannot be read leaves its place empty."""
        for number, path in enumerate(self._paths):
            try:
                rgb = read_upright(path)
            except (InputError, OSError) as error:
                self.problems.append(f'{path} is left out: {error}')
            else:
                yield Shot(rgb, number * self.period_s)

    def close(self) -> None:
        """Do nothing: each picture is closed when it has been read."""


class Webcam:
    """A webcam at its own rate.

    Attributes:
        name: device, for sentences.
        problems: always empty; what goes wrong ends the webcam.
        period_s: seconds between two images as the driver claims; not used to pace.
    """

    live = True

    def __init__(self, device: str):
        """Open a webcam.

        Args:
            device: number, such as '0' for /dev/video0, or path of the device.

        Raises:
            InputError: 'webcam', there is no such device, it cannot be opened or gives no images.
        """
        self.name = f'/dev/video{device}' if device.isdigit() else device
        self.problems: list[str] = []
        if sys.platform == 'linux':
            _check_device(self.name)
            self._capture = _opened(self.name, cv2.CAP_V4L2)
        else:
            self._capture = _opened(int(device) if device.isdigit() else device, cv2.CAP_ANY)
        if not self._capture.isOpened():
            raise InputError(
                'webcam',
                f'{self.name} cannot be opened as a webcam: another program uses it (fuser -v {self.name} names it), '
                'or it is no camera; close that program, or give another --webcam',
            )
        # The driver queues images; the newest one is wanted.
        self._capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
        rate_hz = self._capture.get(cv2.CAP_PROP_FPS)
        self.period_s = 1 / rate_hz if 0 < rate_hz <= FASTEST_HZ else 1 / 30

    def shots(self) -> Iterator[Shot]:
        """Yield images without end, each when the camera has taken it.

        Raises:
            InputError: 'webcam', the camera gives no images any more.
        """
        while True:
            good, image = self._capture.read()
            if not good:
                raise InputError(
                    'webcam',
                    f'{self.name} gives no images: it was unplugged, or another program uses it '
                    f'(fuser -v {self.name} names it); plug it in again, or close that program',
                )
            yield Shot(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), None)

    def close(self) -> None:
        """Give the device back."""
        self._capture.release()


Source = VideoFile | Pictures | Webcam


def open_source(*, webcam: str = '', video: str = '', pictures: str = '', rate_hz: float = 1.0) -> Source:
    """Open the one source that is given.

    Args:
        webcam: number or path of a device.
        video: path of a video.
        pictures: path of a folder.
        rate_hz: pictures a second, above 0.

    Raises:
        InputError: 'source', not exactly one is given; and those of the three classes.
    """
    if sum(map(bool, (webcam, video, pictures))) != 1:
        raise InputError('source', 'Give one source: a webcam, a video or a folder of pictures.')
    if webcam:
        return Webcam(webcam)
    return VideoFile(Path(video)) if video else Pictures(Path(pictures), rate_hz)


def read_upright(path: Path) -> np.ndarray:
    """Read colours (H, W, 3) uint8, R G B, of a JPEG or PNG, turned as its EXIF orientation says.

    Raises:
        InputError: it is damaged or of another kind.
        OSError: it is missing or may not be read.
    """
    data = read_regular(path, 'give a picture', most=MAX_BYTES)
    return upright(rgb_from_compressed(SimpleNamespace(data=data, format=path.name)), orientation(data))


def _natural(path: Path) -> list[tuple[int, int, str]]:
    """Return a key by which numbers in names are sorted as numbers."""
    parts = re.findall(r'\d+|\D+', path.name)
    return [(0, int(part), part) if part.isdecimal() else (1, 0, part) for part in parts]


def _check_there(path: Path, what: str) -> None:
    # Path.exists raises where the system refuses a name, for example as too long.
    if not os.path.exists(path):
        raise InputError('data_missing', f'{path} does not exist; give {what}')


def _check_device(device: str) -> None:
    """Refuse what is no device of this user; OpenCV says no more than that it cannot open it."""
    if not os.path.exists(device):
        present = ', '.join(sorted(str(path) for path in Path('/dev').glob('video*')))
        raise InputError(
            'webcam',
            f'{device} does not exist; '
            + (
                f'this machine has {present}: give one of them'
                if present
                else 'this machine has no webcam: plug one in'
            ),
        )
    if not os.access(device, os.R_OK | os.W_OK):
        raise InputError(
            'webcam',
            f'{device} may not be opened by this user; join its group, such as with sudo usermod -aG video $USER',
        )


def _opened(source: str | int, backend: int) -> cv2.VideoCapture:
    """Open a capture without lines of OpenCV and FFmpeg on stderr: the sentences of this file say what is wrong."""
    os.environ.setdefault('OPENCV_FFMPEG_LOGLEVEL', '-8')
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    return cv2.VideoCapture(source, backend)
