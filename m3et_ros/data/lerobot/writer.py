"""Write a LeRobot data set of version 3.0.

with LeRobotWriter('my_set', fps=30) as data:
    for frame in frames:
        data.write(EpisodeFrame(frame))
    data.end_episode()
"""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import cv2
import numpy as np

from m3et_ros.data.errors import InputError
from m3et_ros.data.images.compressed import encode_rgb
from m3et_ros.data.images.messages import depth_to_mm
from m3et_ros.data.lerobot.parquet import arrow, data_schema, write_tasks
from m3et_ros.data.lerobot.schema import (
    ACTION,
    CAMERA,
    CHUNKS_SIZE,
    DATA_FILE_MB,
    DATA_PATH,
    DEFAULTS,
    DEPTH,
    EPISODES_PATH,
    HAS_DEPTH,
    INFO,
    MAX_FPS,
    OURS,
    STAMP,
    STATE,
    STATS,
    TASKS,
    VERSION,
    VIDEO_FILE_MB,
    VIDEO_PATH,
    EpisodeFrame,
    Feature,
    fill_path,
)
from m3et_ros.data.lerobot.stats import PictureStats, vector_stats
from m3et_ros.data.lerobot.video import CODECS, VideoWriter

IMAGES = ('lossless', 'small', 'png')
"""Colours in a video without loss, in one with loss, or as single pictures in the table. Depth is always single."""
BLOCK = 32
"""Frames of a row group, which are in memory until it is written."""
MB = 2**20


class LeRobotWriter:
    """A new data set.

    Features and sizes are those of the first frame; every later one must have the same.

    Args:
        path: folder to create; it must not exist.
        fps: frames per second, a whole number from 1 to 1000.
        images: one of IMAGES.
        depth: the frames have depth; single ones may lack it.
        names: names of the values of STATE and ACTION; a vector that is not named here has numbers for names.
        robot_type: name of the robot; None for none.

    Attributes:
        path: as given.
        frames, episodes: numbers written so far; an episode counts from its end on.

    Raises:
        InputError: 'lerobot_exists', the path exists; 'lerobot_option', an argument is not one of the above;
            'needs_extra', pyarrow or PyAV is not installed.
        OSError: the folder cannot be written; so does every method that writes. Without meta/info.json, which is
            written last, the folder is no data set.
    """

    def __init__(
        self,
        path: str | Path,
        fps: int,
        *,
        images: str = 'lossless',
        depth: bool = False,
        names: Mapping[str, Sequence[str]] | None = None,
        robot_type: str | None = None,
    ):
        self.path = Path(path).expanduser()
        if images not in IMAGES:
            raise InputError('lerobot_option', f'images is {images!r}; give one of {", ".join(IMAGES)}')
        if fps != int(fps) or not 1 <= fps <= MAX_FPS:
            raise InputError('lerobot_option', f'fps is {fps}; give a whole number from 1 to {MAX_FPS}')
        if self.path.exists():
            raise InputError(
                'lerobot_exists',
                f'{self.path} exists already and data sets are never overwritten; remove it or give another path',
            )
        self._arrow = arrow()
        self._fps, self._images, self._depth, self._names = int(fps), images, depth, names or {}
        self._robot_type = robot_type
        self.frames = self.episodes = 0
        self._features: dict[str, Feature] = {}
        self._tasks: dict[str, int] = {}
        self._rows: list[dict[str, Any]] = []
        self._data = _FileNumber()
        self._films = _FileNumber()
        self._table: Any = None
        self._video: VideoWriter | None = None
        self._columns: dict[str, list[Any]] = {}
        self._begin_episode()
        self._episode_rows: list[dict[str, Any]] = []
        self._all_columns: dict[str, list[np.ndarray]] = {}
        self._all_pictures: dict[str, PictureStats] = {}
        self._ours: list[dict[str, Any]] = []
        self.path.mkdir(parents=True)

    def __enter__(self) -> 'LeRobotWriter':
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if error is None:
            self.close()
        else:
            self._abort()

    def write(self, row: EpisodeFrame) -> None:
        """Append a frame to the episode. Depth is stored in whole millimetres, 0 where unknown or beyond 65.534 m.

        Raises:
            InputError: 'lerobot_frame', it differs in size or contents from the first one.
        """
        if not self._features:
            self._features = self._features_of(row)
        self._check(row)
        position = self.frames - self._first
        values: dict[str, Any] = {
            'timestamp': position / self._fps,
            'frame_index': position,
            'episode_index': self.episodes,
            'index': self.frames,
            'task_index': self._tasks.setdefault(row.frame.instruction, len(self._tasks)),
            STAMP: row.frame.stamp_ns,
        }
        for key, vector in ((STATE, row.state), (ACTION, row.action)):
            if vector is not None:
                values[key] = vector.astype(np.float32) if vector.size > 1 else np.float32(vector[0])
        if self._depth:
            values[HAS_DEPTH] = row.frame.depth is not None
        for key, value in values.items():
            self._columns.setdefault(key, []).append(value)
        self._rows.append(values | self._pictures(row))
        self.frames += 1
        if len(self._rows) == BLOCK:
            self._write_rows()

    def end_episode(self, facts: Mapping[str, Any] | None = None) -> None:
        """End the episode; the next frame begins another one. Without frames it does nothing.

        Args:
            facts: values for JSON that are stored in OURS for this episode.
        """
        if self.frames == self._first:
            return
        self._write_rows()
        columns = {key: np.array(values).reshape(len(values), -1) for key, values in self._columns.items()}
        stats = {key: vector_stats(values) for key, values in columns.items()}
        stats |= {key: pictures.document() for key, pictures in self._pictures_stats.items()}
        for key, values in columns.items():
            self._all_columns.setdefault(key, []).append(values)
        for key, pictures in self._pictures_stats.items():
            whole = self._all_pictures.setdefault(key, _picture_stats(self._features[key]))
            whole.merge(pictures)
        used = sorted({int(number) for number in columns['task_index'][:, 0]})
        tasks = list(self._tasks)
        self._episode_rows.append(
            {
                'episode_index': self.episodes,
                'tasks': [tasks[number] for number in used],
                'length': self.frames - self._first,
                'data/chunk_index': self._data.chunk,
                'data/file_index': self._data.file,
                'dataset_from_index': self._first,
                'dataset_to_index': self.frames,
                **self._film_facts(),
                **{f'stats/{key}/{name}': value for key, one in stats.items() for name, value in one.items()},
                'meta/episodes/chunk_index': 0,
                'meta/episodes/file_index': 0,
            }
        )
        self._ours.append(dict(facts or {}))
        self.episodes += 1
        self._next_files()
        self._begin_episode()

    def close(self) -> None:
        """End the last episode and write meta/; a second call does nothing.

        Raises:
            InputError: 'lerobot_empty', there is no frame.
        """
        if (self.path / INFO).exists():
            return
        self.end_episode()
        self._close_files()
        if not self.episodes:
            raise InputError('lerobot_empty', f'{self.path} got no frames; give a recording with pictures')
        (self.path / 'meta').mkdir()
        write_tasks(self.path / TASKS, list(self._tasks))
        episodes = self.path / fill_path(EPISODES_PATH, 0, 0)
        episodes.parent.mkdir(parents=True)
        self._arrow.parquet.write_table(self._arrow.Table.from_pylist(self._episode_rows), episodes)
        stats = {key: vector_stats(np.concatenate(values)) for key, values in self._all_columns.items()}
        stats |= {key: pictures.document() for key, pictures in self._all_pictures.items()}
        self._write_json(STATS, stats)
        self._write_json(OURS, {'schema': 1, 'episodes': self._ours})
        self._write_json(INFO, self._info())

    def _begin_episode(self) -> None:
        self._first = self.frames
        self._columns = {}
        self._pictures_stats: dict[str, PictureStats] = {}

    def _features_of(self, row: EpisodeFrame) -> dict[str, Feature]:
        """Return the features of a data set whose first frame is `row`, in the order of LeRobot."""
        height, width = row.frame.rgb.shape[:2]
        axes = ['height', 'width', 'channels']
        features = {CAMERA: Feature('image', (height, width, 3), axes)}
        if self._images != 'png':
            codec = CODECS[self._images]
            facts = {
                'video.height': height,
                'video.width': width,
                'video.codec': codec.name,
                'video.pix_fmt': codec.stored,
                'video.is_depth_map': False,
                'video.fps': self._fps,
                'video.channels': 3,
                'has_audio': False,
            }
            features[CAMERA] = Feature('video', (height, width, 3), axes, facts)
        if self._depth:
            features[DEPTH] = Feature('image', (height, width, 1), axes, {'is_depth_map': True, 'depth_unit': 'mm'})
        for key, vector in ((STATE, row.state), (ACTION, row.action)):
            if vector is not None:
                own = list(self._names.get(key) or map(str, range(vector.size)))
                features[key] = Feature('float32', (vector.size,), own)
        features |= {key: Feature(dtype, (1,)) for key, dtype in DEFAULTS.items()}
        features[STAMP] = Feature('int64', (1,))
        if self._depth:
            features[HAS_DEPTH] = Feature('bool', (1,))
        return features

    def _check(self, row: EpisodeFrame) -> None:
        """Refuse a frame that the features of the first one do not describe."""
        rgb, depth = row.frame.rgb, row.frame.depth
        size = self._features[CAMERA].shape[:2]
        if rgb.shape[:2] != size:
            raise InputError(
                'lerobot_frame',
                f'the pictures change from {size[1]}x{size[0]} to {rgb.shape[1]}x{rgb.shape[0]}, and a LeRobot data '
                'set has one size; convert the parts on their own',
            )
        if depth is not None and not self._depth:
            raise ValueError('a frame has depth in a data set without; give depth=True')
        for key, vector in ((STATE, row.state), (ACTION, row.action)):
            found = 0 if vector is None else vector.size
            if found != (self._features[key].shape[0] if key in self._features else 0):
                raise InputError(
                    'lerobot_frame', f'{key} has {found} values in one frame and others before; record it evenly'
                )

    def _pictures(self, row: EpisodeFrame) -> dict[str, Any]:
        """Store the pictures of a frame, add them to the statistics, and return their columns."""
        stored: dict[str, Any] = {}
        rgb = row.frame.rgb
        self._stats_of(CAMERA).add(rgb)
        name = f'frame-{self.frames - self._first:06d}.png'
        if self._images == 'png':
            stored[CAMERA] = {'bytes': encode_rgb(rgb, kind='png')[1], 'path': name}
        else:
            if self._video is None:
                path = self.path / fill_path(VIDEO_PATH, self._films.chunk, self._films.file, CAMERA)
                path.parent.mkdir(parents=True, exist_ok=True)
                self._video = VideoWriter(path, self._images, rgb.shape[:2], self._fps)
            self._video.write(rgb)
        if self._depth:
            depth = row.frame.depth
            millimetres = np.zeros(rgb.shape[:2], np.uint16) if depth is None else depth_to_mm(depth)
            self._stats_of(DEPTH).add(millimetres[..., None])
            stored[DEPTH] = {'bytes': cv2.imencode('.png', millimetres)[1].tobytes(), 'path': name}
        return stored

    def _stats_of(self, key: str) -> PictureStats:
        return self._pictures_stats.setdefault(key, _picture_stats(self._features[key]))

    def _write_rows(self) -> None:
        if not self._rows:
            return
        schema = data_schema(self._features)
        if self._table is None:
            path = self.path / fill_path(DATA_PATH, self._data.chunk, self._data.file)
            path.parent.mkdir(parents=True, exist_ok=True)
            self._table = self._arrow.parquet.ParquetWriter(path, schema, compression='snappy')
        self._table.write_table(self._arrow.Table.from_pylist(self._rows, schema))
        self._rows = []

    def _film_facts(self) -> dict[str, Any]:
        """Return the columns of meta/episodes that say where the episode lies in its video."""
        if self._video is None:
            return {}
        end = self._video.frames
        return {
            f'videos/{CAMERA}/chunk_index': self._films.chunk,
            f'videos/{CAMERA}/file_index': self._films.file,
            f'videos/{CAMERA}/from_timestamp': (end - self.frames + self._first) / self._fps,
            f'videos/{CAMERA}/to_timestamp': end / self._fps,
        }

    def _next_files(self) -> None:
        """Begin the next file of data or video where this one is large enough; no episode is in two files."""
        if (self.path / fill_path(DATA_PATH, self._data.chunk, self._data.file)).stat().st_size >= DATA_FILE_MB * MB:
            self._table.close()
            self._table = None
            self._data.advance()
        if self._video is not None and self._video.bytes >= VIDEO_FILE_MB * MB:
            self._video.close()
            self._video = None
            self._films.advance()

    def _info(self) -> dict[str, Any]:
        return {
            'codebase_version': VERSION,
            'robot_type': self._robot_type,
            'total_episodes': self.episodes,
            'total_frames': self.frames,
            'total_tasks': len(self._tasks),
            'chunks_size': CHUNKS_SIZE,
            'data_files_size_in_mb': DATA_FILE_MB,
            'video_files_size_in_mb': VIDEO_FILE_MB,
            'fps': self._fps,
            'splits': {'train': f'0:{self.episodes}'},
            'data_path': DATA_PATH,
            'video_path': None if self._images == 'png' else VIDEO_PATH,
            'features': {key: feature.document() for key, feature in self._features.items()},
        }

    def _write_json(self, name: str, document: Mapping[str, Any]) -> None:
        (self.path / name).write_text(json.dumps(document, indent=4, ensure_ascii=False), encoding='utf-8')

    def _close_files(self) -> None:
        video, table, self._video, self._table = self._video, self._table, None, None
        try:
            if video is not None:
                video.close()
        finally:
            if table is not None:
                table.close()

    def _abort(self) -> None:
        """Close the files without meta/; the error that ended the writing has been raised already."""
        with suppress(OSError, InputError):
            self._close_files()


class _FileNumber:
    """Numbers of chunk and file of the file that is written now."""

    def __init__(self) -> None:
        self.chunk = self.file = 0

    def advance(self) -> None:
        self.chunk, self.file = divmod(self.chunk * CHUNKS_SIZE + self.file + 1, CHUNKS_SIZE)


def _picture_stats(feature: Feature) -> PictureStats:
    return PictureStats(1, 65536, 1.0) if feature.is_depth else PictureStats(3, 256, 255.0)
