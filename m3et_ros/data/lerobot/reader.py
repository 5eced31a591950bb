"""Read a LeRobot data set of version 3.0, its own or that of others, frame by frame in the order of its episodes.

data = LeRobotReader('my_set')
for episode in data.episodes:
    for row in data.frames(episode):
        print(row.frame.instruction, row.frame.rgb.shape)
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from m3et_ros.data.bags.writer import OPTICAL_FRAME
from m3et_ros.data.errors import InputError
from m3et_ros.data.files import parse_json, read_regular
from m3et_ros.data.frame import NANOSECONDS, Frame
from m3et_ros.data.images.compressed import depth_from_compressed, rgb_from_compressed
from m3et_ros.data.lerobot.parquet import FIX, MAX_ROWS, column_kind, column_names, open_table, read_columns
from m3et_ros.data.lerobot.robot_topics import TYPES
from m3et_ros.data.lerobot.schema import (
    ACTION,
    CHUNK,
    EPISODES,
    HAS_DEPTH,
    MAX_JSON,
    MAX_NUMBERS,
    NUMBERS,
    OURS,
    STAMP,
    STATE,
    TASKS,
    EpisodeFrame,
    Feature,
    fill_path,
    read_info,
)
from m3et_ros.data.lerobot.video import read_video

START_NS = 1_700_000_000 * NANOSECONDS
"""Stamp of the first frame of an episode whose data set has no stamps, as recordings of the simulated kitchen begin."""
BLOCK = 16
"""Rows that are unpacked at a time."""
TOPIC = re.compile(r'(/[A-Za-z_][A-Za-z0-9_]*){1,20}')
"""Names that ROS 2 gives to topics."""


@dataclass(frozen=True)
class StoredEpisode:
    """One episode and its place in the files."""

    # Number of the episode, from 0.
    index: int
    # Number of frames, at least 1.
    length: int
    # File of its rows, and the row of the data set at which it begins.
    data: Path
    first: int
    # Video of its colours and the second at which it begins; None where colours are in the table.
    video: Path | None = None
    start_s: float = 0.0
    # Facts of our own writer: 'frame_id' and 'K' of the camera, and 'topics', by feature the name and type of the topic
    # that it came from; {} in data sets of others.
    facts: Mapping[str, Any] = field(default_factory=dict)


class LeRobotReader:
    """A data set, opened for reading.

    Args:
        root: folder of the data set.
        camera: name of the feature with colours; None for the only one there is.

    Attributes:
        root: as given.
        info: contents of meta/info.json.
        camera, depth: names of the features with colours and with depth; depth is None where there is none to be read.
        state, action: the features of the robot; None where there are none of numbers.
        tasks: tasks by their number.
        episodes: all episodes in their order.
        notes: sentences on what is left out.

    Raises:
        InputError: as read_info; 'lerobot_camera', there is no such camera, or several could be meant; 'lerobot_data',
            a file of meta/ is damaged or does not fit the others; 'lerobot_missing', it is not there; 'needs_extra'.
    """

    def __init__(self, root: str | Path, camera: str | None = None):
        self.root = Path(root).expanduser()
        self.info = read_info(self.root)
        self.notes: list[str] = []
        self.camera = self._find_camera(camera)
        self.depth = self._find_depth()
        self.state, self.action = (self._vector(key) for key in (STATE, ACTION))
        self._note_rest()
        self.tasks = self._read_tasks()
        self.episodes = self._read_episodes()

    def frames(self, episode: StoredEpisode) -> Iterator[EpisodeFrame]:
        """Yield the frames of an episode in their order.

        Stamps are those of our own writer; a data set of others has them from START_NS on, 1 / fps apart.

        Raises:
            InputError: 'lerobot_data' or 'lerobot_video', a file is damaged or lacks a frame; 'lerobot_missing'; the
                refusals of the image decoder.
        """
        colours = self.info.features[self.camera]
        video = None
        if episode.video is not None:
            video = read_video(episode.video, episode.start_s, episode.length, self.info.fps, colours.size)
        for number, row in enumerate(self._rows(episode)):
            if (row['episode_index'], row['frame_index']) != (episode.index, number):
                raise InputError(
                    'lerobot_data',
                    f'{episode.data} has frame {row["frame_index"]} of episode {row["episode_index"]} where frame '
                    f'{number} of episode {episode.index} should be; {FIX}',
                )
            rgb = next(video) if video is not None else self._picture(episode, row[self.camera], colours, number)
            yield self._frame(episode, row, rgb, number)
        if video is not None:
            video.close()

    def _frame(self, episode: StoredEpisode, row: dict[str, Any], rgb: np.ndarray, number: int) -> EpisodeFrame:
        facts, depth = episode.facts, None
        if self.depth is not None and row.get(HAS_DEPTH, True):
            depth = self._picture(episode, row[self.depth], self.info.features[self.depth], number)
        if row['task_index'] not in self.tasks:
            raise InputError('lerobot_data', f'{self.root / TASKS} has no task {row["task_index"]}; {FIX}')
        stamp = row[STAMP] if STAMP in row else START_NS + round(number * NANOSECONDS / self.info.fps)
        frame = Frame(
            rgb,
            depth,
            stamp,
            instruction=self.tasks[row['task_index']],
            frame_id=facts.get('frame_id', OPTICAL_FRAME),
            K=facts.get('K'),
        )
        return EpisodeFrame(
            frame,
            *(
                None if feature is None else np.atleast_1d(np.array(row[key], np.float32))
                for key, feature in ((STATE, self.state), (ACTION, self.action))
            ),
        )

    def _rows(self, episode: StoredEpisode) -> Iterator[dict[str, Any]]:
        """Yield the rows of an episode from its file."""
        features = self.info.features
        wanted = ['frame_index', 'episode_index', 'task_index']
        wanted += [key for key, one in ((STATE, self.state), (ACTION, self.action)) if one is not None]
        wanted += [key for key in (STAMP, HAS_DEPTH) if key in features]
        wanted += [key for key in (self.camera, self.depth) if key and features[key].dtype == 'image']
        columns = {key: column_kind(features[key]) for key in wanted}
        found = 0
        with open_table(episode.data, columns) as file:
            for batch in _batches(file, list(columns), episode):
                for row in batch:
                    yield row
                    found += 1
        if found < episode.length:
            raise InputError(
                'lerobot_data',
                f'{episode.data} has {found} of the {episode.length} frames of episode {episode.index}; {FIX}',
            )

    def _picture(self, episode: StoredEpisode, cell: Any, feature: Feature, number: int) -> np.ndarray:
        """Decode a picture of the table: colours uint8 or, for depth, metres float32."""
        data = cell and cell['bytes']
        where = f'frame {number} of episode {episode.index} in {episode.data}'
        if not data:
            raise InputError('lerobot_data', f'{where} has no picture in the table; embed the pictures, or {FIX}')
        try:
            message = SimpleNamespace(data=data, format='16UC1; compressedDepth png' if feature.is_depth else 'png')
            picture = depth_from_compressed(message) if feature.is_depth else rgb_from_compressed(message)
        except InputError as error:
            raise InputError('lerobot_data', f'{where} cannot be decoded: {error}') from error
        if picture.shape[:2] != feature.size:
            raise InputError('lerobot_data', f'{where} is {picture.shape[:2]} instead of {feature.size}; {FIX}')
        return picture

    def _find_camera(self, camera: str | None) -> str:
        pictures = {key: one for key, one in self.info.features.items() if one.is_picture and not one.is_depth}
        if camera is not None and camera in pictures:
            return camera
        if camera is None and len(pictures) == 1:
            return next(iter(pictures))
        found = ', '.join(pictures) or 'none'
        if camera is not None:
            raise InputError('lerobot_camera', f'{self.root} has no camera {camera}; its cameras are {found}')
        raise InputError('lerobot_camera', f'{self.root} has not one camera but {found}; name one of its cameras')

    def _find_depth(self) -> str | None:
        """Return the depth that belongs to the camera: the only one of its size, or the one of its name."""
        size = self.info.features[self.camera].size
        maps = {key: one for key, one in self.info.features.items() if one.is_depth}
        films = [key for key, one in maps.items() if one.dtype == 'video']
        if films:
            self.notes.append(f'{", ".join(films)} of {self.root} is depth in a video, which is not read.')
        name = self.camera.rpartition('.')[2]
        fitting = [key for key, one in maps.items() if one.dtype == 'image' and one.size == size]
        if len(fitting) > 1:
            fitting = [key for key in fitting if name in key.rpartition('.')[2]]
        return fitting[0] if len(fitting) == 1 else None

    def _vector(self, key: str) -> Feature | None:
        feature = self.info.features.get(key)
        if feature is None or feature.dtype not in NUMBERS or len(feature.shape) != 1 or feature.shape[0] > MAX_NUMBERS:
            return None
        return feature

    def _note_rest(self) -> None:
        """Note the features that are not read."""
        known = {'timestamp', 'frame_index', 'episode_index', 'index', 'task_index', STAMP, HAS_DEPTH, self.camera}
        known |= {key for key, one in ((STATE, self.state), (ACTION, self.action)) if one is not None}
        known |= {
            key
            for key, one in self.info.features.items()
            if key == self.depth or (one.is_depth and one.dtype == 'video')
        }
        rest = [key for key in self.info.features if key not in known]
        if rest:
            self.notes.append(f'{self.root} has features that are left out: {", ".join(rest)}.')

    def _read_tasks(self) -> dict[int, str]:
        path = self.root / TASKS
        # The words are the index of a pandas table, whose column has its name or the one that pandas gives.
        names = [name for name in column_names(path) if name != 'task_index']
        words = [name for name in ('task', '__index_level_0__') if name in names] or names
        if not words:
            raise InputError('lerobot_data', f'{path} has no tasks beside task_index; {FIX}')
        table = read_columns(path, {'task_index': 'int', words[0]: 'text'})
        if None in table['task_index'] or None in table[words[0]]:
            raise InputError('lerobot_data', f'{path} has empty cells; {FIX}')
        return dict(zip(table['task_index'], table[words[0]], strict=True))

    def _read_episodes(self) -> list[StoredEpisode]:
        """Read meta/episodes, of which there may be several files, and our own facts on each episode."""
        folder = self.root / EPISODES
        paths = sorted(folder.glob('*/*.parquet'))
        if not paths:
            raise InputError('lerobot_missing', f'there is no {EPISODES}/{CHUNK}.parquet in {self.root}; {FIX}')
        columns = dict.fromkeys(
            ('episode_index', 'length', 'data/chunk_index', 'data/file_index', 'dataset_from_index'), 'int'
        )
        video = self.info.features[self.camera].dtype == 'video'
        film = f'videos/{self.camera}'
        if video:
            columns |= {f'{film}/chunk_index': 'int', f'{film}/file_index': 'int', f'{film}/from_timestamp': 'float'}
        facts = self._own_facts()
        episodes: list[StoredEpisode] = []
        for path in paths:
            table = read_columns(path, columns)
            for row in zip(*table.values(), strict=True):
                values = dict(zip(table, row, strict=True))
                episodes.append(self._episode(path, values, film if video else '', facts))
        episodes.sort(key=lambda one: one.index)
        first = 0
        for number, episode in enumerate(episodes):
            if (episode.index, episode.first) != (number, first):
                raise InputError('lerobot_data', f'{folder} lacks episode {number} or has it twice; {FIX}')
            first += episode.length
        if len(episodes) != self.info.episodes or first != self.info.frames:
            raise InputError(
                'lerobot_data',
                f'{folder} has {len(episodes)} episodes of {first} frames and meta/info.json '
                f'{self.info.episodes} of {self.info.frames}; the recording was not finished, {FIX}',
            )
        return episodes

    def _episode(self, path: Path, values: dict[str, Any], film: str, facts: dict[int, Any]) -> StoredEpisode:
        """Return the episode of a row of meta/episodes."""
        if (
            any(value is None or value < 0 or value > MAX_ROWS * 1000 for value in values.values())
            or not values['length']
        ):
            raise InputError('lerobot_data', f'{path} has a number that cannot be: {values}; {FIX}')
        try:
            data = fill_path(self.info.data_path, values['data/chunk_index'], values['data/file_index'])
            video, start_s = None, 0.0
            if film:
                form = self.info.video_path
                if form is None:
                    raise ValueError('meta/info.json has videos and no video_path')
                place = fill_path(form, values[f'{film}/chunk_index'], values[f'{film}/file_index'], self.camera)
                video, start_s = self.root / place, float(values[f'{film}/from_timestamp'])
        except ValueError as error:
            raise InputError('lerobot_info', f'{self.root}: {error}; {FIX}') from error
        return StoredEpisode(
            values['episode_index'],
            values['length'],
            self.root / data,
            values['dataset_from_index'],
            video,
            start_s,
            facts.get(values['episode_index'], {}),
        )

    def _own_facts(self) -> dict[int, Any]:
        """Read OURS where it is there.

        Raises:
            InputError: 'lerobot_data', it is damaged.
        """
        path = self.root / OURS
        if not path.exists():
            return {}
        try:
            document = parse_json(read_regular(path, FIX, most=MAX_JSON))
            facts = {}
            for number, entry in enumerate(document['episodes']):
                K = entry.get('K')
                facts[number] = {
                    'frame_id': str(entry.get('frame_id', OPTICAL_FRAME)),
                    'K': None if K is None else np.array(K, np.float64).reshape(3, 3),
                    'topics': {
                        key: (topic['name'], topic['type'])
                        for key, topic in entry.get('topics', {}).items()
                        if TOPIC.fullmatch(topic['name']) and topic['type'] in TYPES
                    },
                }
        except InputError:
            raise
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise InputError(
                'lerobot_data', f'{path} is damaged ({type(error).__name__}: {error}); remove it, or {FIX}'
            ) from error
        return facts


def _batches(file: Any, columns: list[str], episode: StoredEpisode) -> Iterator[list[dict[str, Any]]]:
    """Yield the rows of an episode in blocks; row groups that lie before or behind it are skipped."""
    groups = []
    index = file.schema_arrow.get_field_index('episode_index')
    for number in range(file.metadata.num_row_groups):
        stats = file.metadata.row_group(number).column(_leaf(file, index)).statistics
        if stats is None or not stats.has_min_max or stats.min <= episode.index <= stats.max:
            groups.append(number)
    for batch in file.iter_batches(BLOCK, row_groups=groups, columns=columns):
        mine = [number == episode.index for number in batch.column('episode_index').to_pylist()]
        yield batch.filter(mine).to_pylist()


def _leaf(file: Any, index: int) -> int:
    """Return the number of the stored column of a field; a picture or a list before it has several or another."""
    name = file.schema_arrow.field(index).name
    paths = [file.schema.column(number).path for number in range(len(file.schema))]
    return paths.index(name)
