"""Layout of a LeRobot data set of version 3.0: the files of its folder, meta/info.json and the features.

Source: lerobot 0.4.4 (datasets/utils.py and lerobot_dataset.py) and its page on LeRobotDataset v3.0. Rows of all
episodes lie in parquet files one after the other, frames of all episodes in one video after the other, and
meta/episodes says where an episode begins. Symbols: H height, W width, in pixels.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from m3et_ros.data.errors import InputError
from m3et_ros.data.files import parse_json, read_regular
from m3et_ros.data.frame import Frame
from m3et_ros.data.images.messages import check_pixels

VERSION = 'v3.0'
INFO = 'meta/info.json'
STATS = 'meta/stats.json'
TASKS = 'meta/tasks.parquet'
EPISODES = 'meta/episodes'
CHUNK = 'chunk-{chunk_index:03d}/file-{file_index:03d}'
EPISODES_PATH = f'{EPISODES}/{CHUNK}.parquet'
DATA_PATH = f'data/{CHUNK}.parquet'
VIDEO_PATH = f'videos/{{video_key}}/{CHUNK}.mp4'
OURS = 'meta/m3et.json'
"""Our addition to a data set, which LeRobot ignores: what a recording has and LeRobot has no place for."""

CHUNKS_SIZE, DATA_FILE_MB, VIDEO_FILE_MB = 1000, 100, 200
"""LeRobot's defaults: files of a chunk, and megabytes from which the next file is begun."""

CAMERA = 'observation.images.camera'
DEPTH = 'observation.depth.camera'
"""Depth is no 'image' by its name: LeRobot's aggregation asks three channels of everything that is."""
STATE = 'observation.state'
ACTION = 'action'
STAMP = 'ros.stamp_ns'
"""Column of exact stamps, ns since the epoch. Its name keeps it from policies: these take what begins with
'observation' or 'action'."""
HAS_DEPTH = 'ros.has_depth'
"""Column that is False for frames whose depth did not come; their picture of depth is 0 everywhere."""

DEFAULTS = {'timestamp': 'float32', 'frame_index': 'int64', 'episode_index': 'int64', 'index': 'int64'} | {
    'task_index': 'int64'
}
"""Columns that every data set has, with their types."""

PICTURES = ('image', 'video')
NUMBERS = ('float32', 'float64', 'int32', 'int64')
KEYS = re.compile(r'[^/\\\x00-\x1f]{1,200}')
PLACEHOLDER = re.compile(r'\{(chunk_index|file_index|video_key)(?::0([1-9])d)?\}')
MAX_JSON = 2**26
"""Largest JSON file in bytes."""
MAX_FPS = 1000
MAX_NUMBERS = 10_000
"""Largest number of values of a state or an action."""
UPGRADE = 'python -m lerobot.datasets.v30.convert_dataset_v21_to_v30 --repo-id=OWNER/NAME'


@dataclass(frozen=True)
class Feature:
    """One column or video of a data set."""

    # Type as LeRobot names it: 'video', 'image', or that of a number.
    dtype: str
    # (H, W, C) or (C, H, W) of pictures, (N,) of vectors; (1,) is a single value.
    shape: tuple[int, ...]
    # Names of the values or axes, as the file has them; None for none.
    names: Any = None
    # Further facts, such as the codec of a video.
    info: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_picture(self) -> bool:
        """True for pictures, stored singly or in a video."""
        return self.dtype in PICTURES

    @property
    def is_depth(self) -> bool:
        """True for depth maps, by LeRobot's flag; read_info sets it for single channels whose name speaks of depth."""
        return self.is_picture and bool(self.info.get('is_depth_map') or self.info.get('video.is_depth_map'))

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of pictures."""
        first = self.shape[0] in (1, 3) and self.shape[-1] not in (1, 3)
        return self.shape[1:] if first else self.shape[:2]  # type: ignore[return-value]

    @property
    def value_names(self) -> tuple[str, ...]:
        """Names of the values of a vector; () where the file gives others than one for each."""
        names = self.names
        if isinstance(names, dict) and len(names) == 1:  # {'motors': [...]} of data sets that began as version 1
            (names,) = names.values()
        if isinstance(names, dict):  # {'delta_x': 0, ...}
            names = list(names)
        fits = isinstance(names, list) and len(names) == self.shape[0] and all(isinstance(one, str) for one in names)
        return tuple(names) if fits else ()

    def document(self) -> dict[str, Any]:
        """Return the entry of info.json."""
        entry = {'dtype': self.dtype, 'shape': list(self.shape), 'names': self.names}
        return entry | ({'info': dict(self.info)} if self.info else {})


@dataclass(frozen=True)
class EpisodeFrame:
    """One row of a data set: the picture with its task as the instruction, and what the robot did."""

    # Colours, depth where there is any, stamp, and the task as instruction.
    frame: Frame
    # Position of the robot (N,) float32; None where the data set has none.
    state: np.ndarray | None = None
    # Command that followed the picture (M,) float32; None where the data set has none.
    action: np.ndarray | None = None


@dataclass(frozen=True)
class Info:
    """The checked contents of meta/info.json."""

    # Frames per second; timestamps are multiples of 1 / fps.
    fps: float
    # Number of episodes, at least 1, and of frames in all.
    episodes: int
    frames: int
    # Columns and videos by name.
    features: Mapping[str, Feature]
    # Forms of the paths, relative to the folder; video is None without videos.
    data_path: str = DATA_PATH
    video_path: str | None = None


def read_info(root: Path) -> Info:
    """Read and check meta/info.json of a data set.

    Args:
        root: folder of the data set.

    Raises:
        InputError: 'lerobot_missing', there is no data set; 'lerobot_version', it is of another version;
            'lerobot_empty', it has no episodes; 'lerobot_info', the file is damaged or asks for what is not allowed.
    """
    path = root / INFO
    try:
        data = read_regular(path, 'give the folder of a LeRobot data set', most=MAX_JSON)
    except OSError as error:
        raise InputError(
            'lerobot_missing',
            f'{root} is no LeRobot data set: {INFO} cannot be read ({error.strerror}); give the folder that holds '
            'meta/, data/ and videos/',
        ) from error
    try:
        document = parse_json(data)
        _check_version(root, document['codebase_version'])
        episodes, frames = _count(document, 'total_episodes'), _count(document, 'total_frames')
        if not episodes or not frames:
            raise InputError('lerobot_empty', f'{root} has no episodes; record some, or give another data set')
        fps = document['fps']
        if isinstance(fps, bool) or not isinstance(fps, (int, float)) or not 0 < fps <= MAX_FPS:
            raise ValueError(f'fps is {fps!r}, not a number from 0 to {MAX_FPS}')
        features = {key: _feature(key, entry) for key, entry in document['features'].items()}
        for key, dtype in DEFAULTS.items():
            if key not in features or features[key].dtype != dtype:
                raise ValueError(f'the feature {key} of type {dtype} is missing')
        data_path, video_path = document['data_path'], document.get('video_path')
        for form in filter(None, (data_path, video_path)):
            fill_path(form, 0, 0, 'key')
    except InputError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        why = f'{error} is missing' if isinstance(error, KeyError) else str(error) or type(error).__name__
        raise InputError('lerobot_info', f'{path} cannot be used: {why}; write the data set again') from error
    return Info(fps, episodes, frames, features, data_path, video_path)


def fill_path(form: str, chunk: int, file: int, key: str = '') -> PurePosixPath:
    """Fill the form of a path, such as DATA_PATH, with numbers of chunk and file and the key of a video.

    Braces are read by our own rule: those of str.format reach attributes, and may ask for gigabytes.

    Raises:
        ValueError: the form has other braces, or the path is not inside the data set.
    """
    if not isinstance(form, str) or len(form) > 500:
        raise ValueError('a path is no text')
    values = {'chunk_index': chunk, 'file_index': file}
    filled = PLACEHOLDER.sub(lambda one: key if one[1] == 'video_key' else f'{values[one[1]]:0{one[2] or 1}d}', form)
    path = PurePosixPath(filled)
    if re.search(r'[{}\\\x00]', filled) or path.is_absolute() or '..' in path.parts:
        raise ValueError(f'the path {form!r} leads out of the data set or has unknown parts')
    return path


def _check_version(root: Path, version: Any) -> None:
    found = re.fullmatch(r'v?(\d+)\.(\d+)', version) if isinstance(version, str) else None
    if found is None:
        raise ValueError(f'codebase_version is {version!r}')
    if int(found[1]) < 3:
        raise InputError(
            'lerobot_version',
            f"{root} is a LeRobot data set of version {version} and {VERSION} is read; upgrade it with LeRobot's own "
            f'script: {UPGRADE}',
        )
    if int(found[1]) > 3:
        raise InputError(
            'lerobot_version', f'{root} is a LeRobot data set of version {version} and {VERSION} is read; update m3et'
        )


def _count(document: Mapping[str, Any], key: str) -> int:
    value = document[key]
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f'{key} is {value!r}')
    return value


def _feature(key: str, entry: Any) -> Feature:
    if not KEYS.fullmatch(key) or key in ('.', '..'):
        raise ValueError(f'a feature has the name {key!r}')
    shape = tuple(entry['shape'])
    if not shape or not all(isinstance(side, int) and not isinstance(side, bool) and side > 0 for side in shape):
        raise ValueError(f'the shape of {key} is {entry["shape"]!r}')
    info = dict(entry.get('info') or {})
    if 'depth' in key.lower() and 1 in (shape[0], shape[-1]):
        info = {'is_depth_map': True} | info
    feature = Feature(str(entry['dtype']), shape, entry.get('names'), info)
    if feature.is_picture:
        if len(shape) != 3:
            raise ValueError(f'{key} is a picture of shape {list(shape)}')
        check_pixels(*feature.size[::-1], key)
    return feature
