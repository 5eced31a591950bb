"""The folder that is written has the files, columns and numbers of LeRobot 0.4.4."""

import json
import resource

import av
import lerobot_sets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from m3et_ros.data.errors import InputError
from m3et_ros.data.frame import Frame
from m3et_ros.data.lerobot import writer
from m3et_ros.data.lerobot.schema import CAMERA, DEPTH, EpisodeFrame
from m3et_ros.data.lerobot.writer import LeRobotWriter

# The default columns in lerobot/datasets/utils.py, DEFAULT_FEATURES, of version 0.4.4.
COLUMNS = {
    'timestamp': 'float',
    'frame_index': 'int64',
    'episode_index': 'int64',
    'index': 'int64',
    'task_index': 'int64',
}
# What LeRobotDatasetMetadata._save_episode_metadata of 0.4.4 writes, besides stats/ and videos/.
EPISODE = ['episode_index', 'tasks', 'length', 'data/chunk_index', 'data/file_index', 'dataset_from_index'] + [
    'dataset_to_index',
    'meta/episodes/chunk_index',
    'meta/episodes/file_index',
]


def write(path, episodes=(5, 3), **options):
    with LeRobotWriter(path, 10, **{'depth': True, **options}) as data:
        for count in episodes:
            for row in lerobot_sets.rows(count, depth=options.get('depth', True)):
                data.write(row)
            data.end_episode({'source': 'test'})
    return path


def test_a_folder_has_the_files_of_version_3(tmp_path):
    root = write(tmp_path / 'set', names={'observation.state': ('arm', 'hand')})
    assert sorted(str(path.relative_to(root)) for path in root.rglob('*') if path.is_file()) == [
        'data/chunk-000/file-000.parquet',
        'meta/episodes/chunk-000/file-000.parquet',
        'meta/info.json',
        'meta/m3et.json',
        'meta/stats.json',
        'meta/tasks.parquet',
        f'videos/{CAMERA}/chunk-000/file-000.mp4',
    ]
    info = json.loads((root / 'meta/info.json').read_text())
    assert {key: info[key] for key in info if key != 'features'} == {
        'codebase_version': 'v3.0',
        'robot_type': None,
        'total_episodes': 2,
        'total_frames': 8,
        'total_tasks': 2,
        'chunks_size': 1000,
        'data_files_size_in_mb': 100,
        'video_files_size_in_mb': 200,
        'fps': 10,
        'splits': {'train': '0:2'},
        'data_path': 'data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet',
        'video_path': 'videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4',
    }
    features = info['features']
    assert features[CAMERA] == {
        'dtype': 'video',
        'shape': [24, 34, 3],
        'names': ['height', 'width', 'channels'],
        'info': {
            'video.height': 24,
            'video.width': 34,
            'video.codec': 'h264',
            'video.pix_fmt': 'gbrp',
            'video.is_depth_map': False,
            'video.fps': 10,
            'video.channels': 3,
            'has_audio': False,
        },
    }
    assert features[DEPTH]['shape'] == [24, 34, 1] and features[DEPTH]['info'] == {
        'is_depth_map': True,
        'depth_unit': 'mm',
    }
    assert features['observation.state'] == {'dtype': 'float32', 'shape': [2], 'names': ['arm', 'hand']}
    assert features['action'] == {'dtype': 'float32', 'shape': [1], 'names': ['0']}
    assert {key: features[key]['dtype'] for key in COLUMNS} == {
        key: dtype.replace('float', 'float32') for key, dtype in COLUMNS.items()
    }


def test_rows_lie_one_episode_after_the_other(tmp_path):
    root = write(tmp_path / 'set')
    table = pq.read_table(root / 'data/chunk-000/file-000.parquet')
    assert {key: str(table.schema.field(key).type) for key in COLUMNS} == COLUMNS
    assert table.schema.field('observation.state').type == pa.list_(pa.float32(), 2)
    assert table.schema.field('action').type == pa.float32() and CAMERA not in table.schema.names
    rows = table.to_pydict()
    assert rows['timestamp'] == pytest.approx([0, 0.1, 0.2, 0.3, 0.4, 0, 0.1, 0.2])
    assert rows['frame_index'] == [0, 1, 2, 3, 4, 0, 1, 2] and rows['index'] == list(range(8))
    assert rows['episode_index'] == [0] * 5 + [1] * 3 and rows['task_index'] == [0, 0, 1, 1, 1, 0, 0, 1]
    assert rows['ros.has_depth'] == [True, True, True, False, True, True, True, True]
    assert rows['ros.stamp_ns'][1] == lerobot_sets.START_NS + lerobot_sets.PERIOD_NS
    assert pq.read_table(root / 'meta/tasks.parquet').to_pydict() == {
        'task_index': [0, 1],
        'task': ['', 'pick the cup'],
    }
    with av.open(str(root / f'videos/{CAMERA}/chunk-000/file-000.mp4')) as film:
        assert [frame.time for frame in film.decode(video=0)] == pytest.approx([i / 10 for i in range(8)])


def test_meta_episodes_say_where_each_begins(tmp_path):
    table = pq.read_table(write(tmp_path / 'set') / 'meta/episodes/chunk-000/file-000.parquet')
    names = [name for name in table.schema.names if not name.startswith(('stats/', 'videos/'))]
    assert names == EPISODE
    rows = table.to_pylist()
    assert [row['tasks'] for row in rows] == [['', 'pick the cup'], ['', 'pick the cup']]
    assert [(row['dataset_from_index'], row['dataset_to_index'], row['length']) for row in rows] == [
        (0, 5, 5),
        (5, 8, 3),
    ]
    film = f'videos/{CAMERA}'
    assert [row[f'{film}/from_timestamp'] for row in rows] == [0, 0.5]
    assert [row[f'{film}/to_timestamp'] for row in rows] == pytest.approx([0.5, 0.8])
    assert rows[0][f'{film}/chunk_index'] == rows[0][f'{film}/file_index'] == 0
    assert rows[0]['stats/action/max'] == [8.0] and np.shape(rows[0][f'stats/{CAMERA}/mean']) == (3, 1, 1)


def test_statistics_cover_every_feature(tmp_path):
    root = write(tmp_path / 'set')
    stats = json.loads((root / 'meta/stats.json').read_text())
    assert stats.keys() == json.loads((root / 'meta/info.json').read_text())['features'].keys()
    assert stats['action']['max'] == [8.0] and stats['action']['count'] == [8]
    assert stats[DEPTH]['max'][0][0][0] > 4000 and stats[CAMERA]['count'] == [8]
    colours = np.stack([row.frame.rgb for count in (5, 3) for row in lerobot_sets.rows(count)]) / 255
    assert np.ravel(stats[CAMERA]['mean']) == pytest.approx(colours.mean((0, 1, 2)))


def test_files_that_are_large_enough_are_followed_by_others(tmp_path, monkeypatch):
    monkeypatch.setattr(writer, 'MB', 1)
    root = write(tmp_path / 'set', (2, 2, 2))
    assert len(list(root.glob('data/*/*'))) == len(list(root.glob('videos/*/*/*'))) == 3
    rows = pq.read_table(root / 'meta/episodes/chunk-000/file-000.parquet').to_pylist()
    film = f'videos/{CAMERA}'
    assert [(row['data/file_index'], row[f'{film}/file_index'], row[f'{film}/from_timestamp']) for row in rows] == [
        (0, 0, 0),
        (1, 1, 0),
        (2, 2, 0),
    ]
    number = writer._FileNumber()
    for _ in range(1001):
        number.advance()
    assert (number.chunk, number.file) == (1, 1)


def test_png_needs_no_video_and_colours_alone_no_depth(tmp_path):
    root = write(tmp_path / 'set', images='png', depth=False)
    info = json.loads((root / 'meta/info.json').read_text())
    assert info['video_path'] is None and not (root / 'videos').exists() and DEPTH not in info['features']
    cell = pq.read_table(root / 'data/chunk-000/file-000.parquet')[CAMERA][1].as_py()
    assert cell['bytes'].startswith(b'\x89PNG') and cell['path'] == 'frame-000001.png'


def test_frames_that_differ_from_the_first_are_refused(tmp_path):
    first = next(lerobot_sets.rows(1))
    small = Frame(np.zeros((2, 2, 3), np.uint8), None)
    for number, (other, words) in enumerate(
        (
            (EpisodeFrame(small, first.state, first.action), 'change from 34x24 to 2x2'),
            (EpisodeFrame(first.frame, first.state, None), 'action has 0 values'),
            (EpisodeFrame(first.frame, np.zeros(3, np.float32), first.action), 'observation.state has 3 values'),
        )
    ):
        root = tmp_path / f'set{number}'
        with pytest.raises(InputError, match=words), LeRobotWriter(root, 10, depth=True) as data:
            data.write(first)
            data.write(other)
        assert not (root / 'meta').exists()
    with pytest.raises(ValueError, match='give depth=True'), LeRobotWriter(tmp_path / 'flat', 10) as data:
        data.write(first)


def test_arguments_and_empty_sets_are_refused(tmp_path):
    for options, words in (
        ({'images': 'gif'}, 'lossless, small, png'),
        ({'fps': 2.5}, 'whole number'),
        ({'fps': 0}, 'from 1'),
    ):
        with pytest.raises(InputError, match=words) as refused:
            LeRobotWriter(tmp_path / 'set', **{'fps': 10, **options})
        assert refused.value.reason == 'lerobot_option'
    with pytest.raises(InputError, match='exists already'):
        LeRobotWriter(tmp_path, 10)
    with pytest.raises(InputError, match='got no frames'), LeRobotWriter(tmp_path / 'set', 10):
        pass


@pytest.fixture
def small_disk():
    """Files of this process can grow to 128 KiB only; to write more fails as on a full disk."""
    _, hard = limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 17, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize('images', ['lossless', 'png'])
def test_a_full_disk_is_an_os_error_and_leaves_no_data_set(tmp_path, images, small_disk):
    with pytest.raises(OSError, match='too large'):
        write(tmp_path / 'set', (80,), images=images, depth=False)
    assert not (tmp_path / 'set/meta').exists()
