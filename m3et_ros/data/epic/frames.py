"""Read clips of EPIC-KITCHENS-100 videos, pictures or features, which end before an action (docs/papers.md 7.7).

Official pictures are PXX/rgb_frames/PXX_YY/frame_0000000001.jpg and so on, counted from 1. They are 50 or 60 a second,
whatever rate the video was recorded at (official_rate). Precomputed features are one file per video, PXX_YY.npy or
PXX_YY.safetensors (tensor 'features'), (frames, d) at a rate of their own. Both are read at times, never by the frame
numbers of the annotations, whose rate differs between copies; these only check the rate of the pictures.
"""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from m3et_ros.data.epic.annotations import GAP_S, Note, Segment
from m3et_ros.data.epic.class_lists import Video
from m3et_ros.data.errors import InputError
from m3et_ros.data.files import map_array
from m3et_ros.data.images.files import names_in, read_rgb

FRAME = re.compile(r'frame_(\d{10})\.jpg')
TASKS = ('recognition', 'anticipation')
FEATURES = 'features'
"""Name of the tensor in a safetensors file."""
RATE, FAST_RATE = 50.0, 60.0
"""Rates of the official pictures."""
TOLERANCE = 0.02
"""Share by which the pictures of a folder may be more than its rate and the length of the video make."""
OFF_S = 1.0
"""Seconds by which the picture at the start of a segment may differ from its time."""


def official_rate(video: Video) -> float:
    """Return the rate of the official pictures of a video, 50 or 60 a second.

    The videos were brought to one of the two before the pictures were taken from them: those recorded at 50 pictures a
    second to 50, those recorded at 29.97, 47.95, 59.94 or 90 to 60. The frame numbers of the official validation and
    test files count at these rates.
    """
    return RATE if round(video.fps) == RATE else FAST_RATE


@dataclass(frozen=True)
class Clip:
    """The moments before an action whose pictures form a clip.

    Raises:
        ValueError: a field is out of range; the message names field, value and range.
    """

    # Number of pictures.
    frames: int = 16
    # Seconds from the first to the last; the challenge suggests 5.
    length_s: float = 5.0
    # Seconds between the last picture and the start of the action.
    gap_s: float = GAP_S

    def __post_init__(self):
        if isinstance(self.frames, bool) or not isinstance(self.frames, int) or not 1 <= self.frames <= 100_000:
            raise ValueError(f'frames is {self.frames!r}; give a whole number from 1 to 100000')
        for name, low in (('length_s', 0), ('gap_s', 0)):
            if not low <= getattr(self, name) < math.inf:
                raise ValueError(f'{name} is {getattr(self, name)!r}; give a number from {low}')

    def times(self, segment: Segment) -> np.ndarray:
        """Return the moments, (frames,) float64 seconds in order; those before the video become its start."""
        last = segment.start_s - self.gap_s
        return np.maximum(
            np.linspace(last - self.length_s, last, self.frames) if self.frames > 1 else np.array([last]), 0.0
        )

    def indices(self, segment: Segment, fps: float, *, count: int | None = None) -> np.ndarray:
        """Return the indices (frames,) int64 of the newest pictures at those moments.

        Args:
            segment: the action.
            fps: pictures a second.
            count: number of pictures, at least 1; later indices are replaced by the last. None for no limit.
        """
        found = np.floor(self.times(segment) * fps + 1e-6).astype(np.int64)
        return found if count is None else np.minimum(found, count - 1)


@dataclass(frozen=True)
class ObservedClip:
    """The part of a video that a model sees of an action: the action itself, or what comes before it.

    Raises:
        ValueError: a field is out of range; the message names field, value and range.
    """

    # 'recognition', from the start of the action to its end, or 'anticipation', up to gap_s before its start.
    task: str = 'recognition'
    # Number of pictures or rows of features.
    frames: int = 16
    # Seconds that anticipation observes; the challenge suggests 5.
    length_s: float = 5.0
    # Seconds between the last moment that anticipation observes and the start of the action.
    gap_s: float = GAP_S

    def __post_init__(self):
        if self.task not in TASKS:
            raise ValueError(f'task is {self.task!r}; give one of {", ".join(TASKS)}')
        Clip(self.frames, self.length_s, self.gap_s)

    def clip(self, segment: Segment) -> tuple[Segment, Clip]:
        """Return a segment and the clip before its start that shows what is observed of an action."""
        if self.task == 'anticipation':
            return segment, Clip(self.frames, self.length_s, self.gap_s)
        return moment(segment, segment.stop_s), Clip(self.frames, segment.stop_s - segment.start_s, 0.0)


def moment(segment: Segment, time_s: float) -> Segment:
    """Return a segment without length at a time of a video, before which a clip may end; its frame is not known."""
    return replace(segment, start_s=time_s, stop_s=time_s, start_frame=None)


class FrameFolders:
    """Reads clips of the official pictures.

    Args:
        root: holds PXX/rgb_frames/PXX_YY.
        videos: lengths and recorded rates, from read_videos.
        fps: pictures a second of all videos, for pictures that were extracted in another way; None for the official
            rates, which are then checked against the number of pictures and the frame numbers of the segments.
        missing: number of pictures that a video may lack; each is replaced by the last one before it (at the start by
            the first one after it) and counted in notes. A video that lacks more is refused.

    Raises:
        ValueError: missing is negative, or fps is not above 0.
    """

    def __init__(self, root: str | Path, videos: Mapping[str, Video], *, fps: float | None = None, missing: int = 0):
        if missing < 0:
            raise ValueError(f'missing is {missing}; give 0 or more')
        if fps is not None and not 0 < fps < math.inf:
            raise ValueError(f'fps is {fps!r}; give pictures a second above 0, or None for the official rates')
        self.root, self.videos, self.fps, self.missing = Path(root), videos, fps, missing
        self._numbers: dict[str, np.ndarray] = {}
        self._gaps: dict[str, int] = {}
        self._short: set[str] = set()

    def folder(self, video: str) -> Path:
        """Return the folder of a video's pictures."""
        return self.root / video.split('_')[0] / 'rgb_frames' / video

    def clip(self, segment: Segment, clip: Clip = Clip()) -> np.ndarray:
        """Read the pictures (frames, H, W, 3) uint8, R G B, before an action.

        Raises:
            InputError: the video is not in the list of videos, its folder is missing or has too many gaps, its pictures
                are not at the official rate, or a picture cannot be read.
        """
        return np.stack([read_rgb(path) for path in self.paths(segment, clip)])

    def paths(self, segment: Segment, clip: Clip = Clip()) -> list[Path]:
        """Return the files of a clip; raises as clip."""
        numbers, folder = self._present(segment.video), self.folder(segment.video)
        rate = self.fps or self._checked_rate(segment, int(numbers[-1]))
        wanted = clip.indices(segment, rate, count=int(numbers[-1])) + 1
        # The last picture before it replaces a missing one, as on a robot.
        found = np.maximum(np.searchsorted(numbers, wanted, side='right') - 1, 0)
        return [folder / f'frame_{number:010d}.jpg' for number in numbers[found]]

    def length_s(self, segment: Segment) -> float:
        """Return the seconds for which the video of a segment has pictures; raises as clip."""
        count = int(self._present(segment.video)[-1])
        return count / (self.fps or self._checked_rate(segment, count))

    @property
    def notes(self) -> tuple[Note, ...]:
        """Missing pictures of the videos read so far."""
        gaps, found = {video: count for video, count in self._gaps.items() if count}, []
        if gaps:
            found.append(
                Note(
                    'frame_gaps',
                    sum(gaps.values()),
                    f'{sum(gaps.values())} pictures of {len(gaps)} videos (first '
                    f'{next(iter(gaps))}) are missing and replaced by the ones before them; extract these videos '
                    'again.',
                )
            )
        if self._short:
            found.append(
                Note(
                    'short_folder',
                    len(self._short),
                    f'{len(self._short)} videos (first {min(self._short)}) have fewer pictures than their length makes '
                    'at the official rate, so moments are wrong if they were extracted at another rate: give fps then, '
                    'or extract the rest.',
                )
            )
        return tuple(found)

    def _checked_rate(self, segment: Segment, count: int) -> float:
        """Return the official rate of a video; refuse it where the number of its pictures or a segment contradicts."""
        rate, length_s = _rate(segment.video, self.videos), self.videos[segment.video].duration_s
        share = count / (rate * length_s)
        if share > 1 + TOLERANCE:
            raise InputError(
                'picture_rate',
                f'{self.folder(segment.video)} holds {count} pictures of {length_s:g} s, {count / length_s:.4g} a '
                f'second, and the official ones are {rate:g} a second; give fps, the rate of yours',
            )
        frame = segment.start_frame
        if share >= 1 - TOLERANCE:
            # The file may count at another rate: the number of the pictures shows that they are the official ones.
            return rate
        if frame is not None and abs(frame / rate - segment.start_s) > OFF_S:
            raise InputError(
                'picture_rate',
                f'{segment.narration_id} starts at {segment.start_s:g} s and in picture {frame}, which are '
                f'{frame / max(segment.start_s, 1e-9):.4g} pictures a second, and the official ones of '
                f'{segment.video} are {rate:g} a second; give fps, the rate of yours',
            )
        self._short.add(segment.video)
        return rate

    def _present(self, video: str) -> np.ndarray:
        """Return the numbers of a video's pictures in order, from 1."""
        if video not in self._numbers:
            folder = self.folder(video)
            found = sorted(int(match[1]) for name in names_in(folder) if (match := FRAME.fullmatch(name)))
            if not found:
                raise InputError(
                    'data_missing',
                    f'{folder} holds no frame_0000000001.jpg; extract the official pictures of this video there',
                )
            gaps = found[-1] - len(found)
            if gaps > self.missing:
                first = next(wanted for wanted, number in enumerate(found, start=1) if wanted != number)
                raise InputError(
                    'frame_gaps',
                    f'{folder} lacks {gaps} of {found[-1]} pictures (first '
                    f'frame_{first:010d}.jpg) and {self.missing} may be missing; extract this '
                    'video again, or allow more missing pictures',
                )
            self._numbers[video], self._gaps[video] = np.array(found), gaps
        return self._numbers[video]


class FeatureFolder:
    """Reads clips of precomputed features, one file per video.

    Args:
        root: holds PXX_YY.npy or PXX_YY.safetensors.
        fps: rows a second of all videos; None for the rate of the official pictures.
        videos: from read_videos, needed where fps is None.

    Raises:
        ValueError: there is no rate, or it is not above 0.
    """

    def __init__(self, root: str | Path, *, fps: float | None = None, videos: Mapping[str, Video] | None = None):
        if (fps is None and videos is None) or (fps is not None and not 0 < fps < math.inf):
            raise ValueError(f'fps is {fps!r}; give rows a second above 0, or the list of videos')
        self.root, self.fps, self.videos = Path(root), fps, videos or {}

    def clip(self, segment: Segment, clip: Clip = Clip()) -> np.ndarray:
        """Read the features (frames, d) float32 before an action.

        Raises:
            InputError: the file is missing, damaged or no table of finite numbers, or its rate is unknown.
        """
        table = self.table(segment.video)
        fps = self.fps if self.fps is not None else _rate(segment.video, self.videos)
        found = table[clip.indices(segment, fps, count=len(table))].astype(np.float32)
        if not np.isfinite(found).all():
            raise InputError(
                'data_format',
                f'the features of {segment.video} before {segment.narration_id} are not all finite; compute them again',
            )
        return found

    def table(self, video: str) -> np.ndarray:
        """Return all features of a video, (rows, d); an .npy is memory-mapped. Raises as clip."""
        paths = [self.root / f'{video}{suffix}' for suffix in ('.npy', '.safetensors')]
        path = next((path for path in paths if path.is_file()), None)
        if path is None:
            raise InputError(
                'data_missing', f'There is no {paths[0]} and no {paths[1].name}; put the features of this video there'
            )
        try:
            table = map_array(path) if path.suffix == '.npy' else load_file(path)[FEATURES]
        except (OSError, ValueError, KeyError, SafetensorError) as error:
            raise InputError(
                'data_format',
                f'{path} cannot be read ({error!r}); give an .npy of numbers, or '
                f'safetensors with a tensor {FEATURES!r}',
            ) from error
        if table.ndim != 2 or not table.size or table.dtype.kind not in 'fiu':
            raise InputError('data_format', f'{path} holds {table.dtype} {table.shape}; give numbers (rows, d)')
        return table


def lacking(videos: Iterable[str], root: str | Path) -> Sequence[str]:
    """Return the videos whose features are not in a folder, sorted."""
    present = {Path(name).stem for name in names_in(Path(root)) if name.endswith(('.npy', '.safetensors'))}
    return sorted(set(videos) - present)


def _rate(video: str, videos: Mapping[str, Video]) -> float:
    if video not in videos:
        raise InputError(
            'data_missing',
            f'The list of videos lacks {video}, so its picture rate is '
            'unknown; give the EPIC_100_video_info.csv that has it',
        )
    return official_rate(videos[video])
