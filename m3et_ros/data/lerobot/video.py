"""Videos of LeRobot data sets: frame k of a file is shown at k / fps seconds.

PyAV is imported where it is needed; it belongs to the extra [lerobot].
"""

import os
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from m3et_ros.data.errors import InputError
from m3et_ros.data.files import check_regular
from m3et_ros.data.images.messages import check_pixels

FIX = 'fetch or write the data set again'


@dataclass(frozen=True)
class VideoCodec:
    """One way to store colours in a video."""

    # Encoder of FFmpeg, and the name that LeRobot gives to the codec.
    encoder: str
    name: str
    # Pixel format that is encoded, and that is found in the file.
    encoded: str
    stored: str
    # Options of the encoder. A key frame at every second frame, as LeRobot sets it, makes any frame quick to reach.
    options: Mapping[str, str]
    # Both sides must be even.
    even: bool = False


CODECS = {
    'lossless': VideoCodec(
        'libx264rgb', 'h264', 'rgb24', 'gbrp', {'qp': '0', 'preset': 'veryfast', 'tune': 'zerolatency', 'g': '2'}
    ),
    'small': VideoCodec('libsvtav1', 'av1', 'yuv420p', 'yuv420p', {'crf': '30', 'preset': '12', 'g': '2'}, even=True),
}
"""H.264 of R G B without loss, and AV1 with the loss of LeRobot's own default."""


class VideoWriter:
    """A new mp4 file.

    Args:
        path: file to create; its folder must exist.
        codec: one of CODECS.
        size: height and width in pixels.
        fps: frames per second, a whole number.

    Attributes:
        frames, bytes: number of frames written, and of their encoded bytes so far.

    Raises:
        InputError: 'needs_extra' without PyAV; 'lerobot_video', an encoder is missing or does not take this size.
        OSError: the file cannot be written; so do the methods.
    """

    def __init__(self, path: Path, codec: str, size: tuple[int, int], fps: int):
        self._av, facts = av(), CODECS[codec]
        height, width = size
        if facts.even and (height % 2 or width % 2):
            raise InputError(
                'lerobot_video',
                f'pictures of {width}x{height} cannot become a {codec} video, which shares colours between two '
                'neighbours; store them lossless or as png',
            )
        os.environ.setdefault('SVT_LOG', '1')  # the AV1 encoder greets on stderr otherwise
        self.path, self.frames, self.bytes = path, 0, 0
        self._fps, self._shape = fps, (height, width, 3)
        with self._errors():
            self._file: Any = self._av.open(str(path), 'w', format='mp4')
            self._stream = self._file.add_stream(facts.encoder, rate=fps, options=dict(facts.options))
            self._stream.height, self._stream.width, self._stream.pix_fmt = height, width, facts.encoded
            self._stream.codec_context.time_base = Fraction(1, fps)

    def __enter__(self) -> 'VideoWriter':
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.close()

    def write(self, rgb: np.ndarray) -> None:
        """Append colours (H, W, 3) uint8, R G B.

        Raises:
            ValueError: they have another size.
        """
        if rgb.shape != self._shape:
            raise ValueError(f'rgb is {rgb.shape} in a video of {self._shape}; give one size')
        frame = self._av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format='rgb24')
        frame.pts, frame.time_base = self.frames, Fraction(1, self._fps)
        with self._errors():
            packets = self._stream.encode(frame)
            self._file.mux(packets)
        self.bytes += sum(packet.size for packet in packets)
        self.frames += 1

    def close(self) -> None:
        """Write the index; a second call does nothing."""
        file, self._file = self._file, None
        if file is None:
            return
        with self._errors():
            try:
                if self.frames:
                    file.mux(self._stream.encode(None))
            finally:
                file.close()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Pass an OSError of the disk on; what else FFmpeg raises is an InputError."""
        try:
            yield
        except OSError:
            raise
        except (self._av.error.FFmpegError, ValueError) as error:
            raise InputError(
                'lerobot_video', f'{self.path} cannot be encoded ({error}); store the pictures as png'
            ) from error


def read_video(
    path: Path, start_s: float, count: int, fps: float, size: tuple[int, int]
) -> Generator[np.ndarray, None, None]:
    """Yield consecutive frames of a video as (H, W, 3) uint8, R G B.

    Args:
        path: the mp4 file.
        start_s: time of the first of them in seconds.
        count: number of frames.
        fps: frames per second of the data set; frame k must lie within half a period of start_s + k / fps.
        size: height and width that the data set gives.

    Raises:
        InputError: 'needs_extra' without PyAV; 'lerobot_missing', there is no such file; 'lerobot_video', it is
            damaged, has another size, or lacks one of the frames; 'too_large'.
    """
    module = av()
    check_regular(path, FIX)
    if not path.exists():
        raise InputError('lerobot_missing', f'there is no file {path}, which meta/ speaks of; {FIX}')
    found = 0
    try:
        with module.open(str(path), 'r', format='mp4') as file:
            if not file.streams.video:
                raise InputError('lerobot_video', f'{path} has no pictures; {FIX}')
            stream = file.streams.video[0]
            check_pixels(stream.width, stream.height, str(path))
            _check_size(path, (stream.height, stream.width), size)
            if start_s:
                file.seek(round(start_s / stream.time_base), stream=stream)
            for frame in file.decode(stream):
                if found == count:
                    return
                late = (frame.time - start_s) * fps - found
                if late < -0.5:
                    continue
                if late > 0.5:
                    break
                _check_size(path, (frame.height, frame.width), size)
                yield frame.to_ndarray(format='rgb24')
                found += 1
    except InputError:
        raise
    # Streams without a known codec lack attributes, and times that are absent are None.
    except (module.error.FFmpegError, OSError, ValueError, TypeError, AttributeError, ArithmeticError) as error:
        raise InputError('lerobot_video', f'{path} is damaged ({type(error).__name__}: {error}); {FIX}') from error
    if found < count:
        raise InputError(
            'lerobot_video',
            f'{path} has no frame at {start_s + found / fps:.3f} s, but its table has {count} frames from '
            f'{start_s:.3f} s on; {FIX}',
        )


def av() -> Any:
    """Return the module av.

    Raises:
        InputError: 'needs_extra', it is not installed.
    """
    try:
        import av
    except ImportError as error:
        raise InputError(
            'needs_extra',
            "videos of LeRobot data sets need PyAV, which is not installed; run pip install 'm3et_ros[lerobot]'",
        ) from error
    return av


def _check_size(path: Path, found: tuple[int, int], size: tuple[int, int]) -> None:
    if found != size:
        raise InputError(
            'lerobot_video', f'{path} is {found[1]}x{found[0]} and meta/info.json gives {size[1]}x{size[0]}; {FIX}'
        )
