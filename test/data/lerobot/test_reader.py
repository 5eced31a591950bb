"""Data sets are read as they were written, by us and in the layouts of LeRobot; what is damaged is one sentence."""

import json
import shutil

import lerobot_sets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from m3et_ros.data.errors import InputError
from m3et_ros.data.lerobot.reader import START_NS, LeRobotReader
from m3et_ros.data.lerobot.schema import CAMERA, DEPTH
from m3et_ros.data.lerobot.writer import LeRobotWriter

TABLE = 'data/chunk-000/file-000.parquet'
EPISODES = 'meta/episodes/chunk-000/file-000.parquet'
FILM = f'videos/{CAMERA}/chunk-000/file-000.mp4'


def write(path, images, depth=True, facts=None):
    with LeRobotWriter(path, 10, images=images, depth=depth) as data:
        for count in (5, 7, 3):
            for row in lerobot_sets.rows(count, depth=depth):
                data.write(row)
            data.end_episode({'frame_id': 'camera', 'K': lerobot_sets.K.ravel().tolist()} if facts is None else facts)
    return path


@pytest.fixture(scope='module')
def stored(tmp_path_factory):
    """One data set with a video and one with pictures; tests copy what they change."""
    folder = tmp_path_factory.mktemp('sets')
    return {images: write(folder / images, images) for images in ('lossless', 'png')}


def read(root, **options):
    data = LeRobotReader(root, **options)
    return [list(data.frames(episode)) for episode in data.episodes]


def changed(path, **columns):
    """Replace columns of a table."""
    table = pq.read_table(path)
    for name, values in columns.items():
        index = table.schema.get_field_index(name)
        table = table.set_column(index, table.schema.field(index), pa.array(values, table.schema.field(index).type))
    pq.write_table(table, path)


def edited(root, edit):
    """Change meta/info.json."""
    info = json.loads((root / 'meta/info.json').read_text())
    edit(info)
    (root / 'meta/info.json').write_text(json.dumps(info))


@pytest.mark.parametrize('images', ['lossless', 'png'])
def test_every_episode_comes_back_bit_for_bit(stored, images):
    data = LeRobotReader(stored[images])
    assert (data.camera, data.depth, data.tasks, data.notes) == (
        CAMERA,
        DEPTH,
        {0: '', 1: 'pick the cup', 2: 'pour it'},
        [],
    )
    assert [episode.length for episode in data.episodes] == [5, 7, 3]
    for episode in reversed(data.episodes):
        rows = list(data.frames(episode))
        lerobot_sets.assert_same_rows(rows, lerobot_sets.rows(episode.length))
        assert np.array_equal(rows[0].frame.K, lerobot_sets.K)


def test_a_data_set_of_others_has_stamps_by_its_rate_and_more_features(stored, tmp_path):
    root = shutil.copytree(stored['png'], tmp_path / 'set')
    (root / 'meta/m3et.json').unlink()
    table = pq.read_table(root / TABLE).drop_columns(['ros.stamp_ns', 'ros.has_depth', 'observation.state'])
    table = table.append_column('next.reward', pa.array([0.5] * 15, pa.float32()))
    pq.write_table(table, root / TABLE, row_group_size=4)
    tasks = pq.read_table(root / 'meta/tasks.parquet').rename_columns(['task_index', '__index_level_0__'])
    pq.write_table(tasks, root / 'meta/tasks.parquet')

    def edit(info):
        for key in ('ros.stamp_ns', 'ros.has_depth', 'observation.state'):
            del info['features'][key]
        info['features']['next.reward'] = {'dtype': 'float32', 'shape': [1], 'names': None}

    edited(root, edit)
    data = LeRobotReader(root)
    rows = list(data.frames(data.episodes[1]))
    assert [row.frame.stamp_ns for row in rows] == [START_NS + number * 100_000_000 for number in range(7)]
    assert rows[0].state is None and rows[6].action.tolist() == [12] and rows[6].frame.instruction == 'pour it'
    assert rows[0].frame.frame_id == 'camera_color_optical_frame' and rows[0].frame.K is None
    assert np.isnan(rows[lerobot_sets.WITHOUT_DEPTH].frame.depth).all()
    assert data.notes == [f'{root} has features that are left out: next.reward.']


def test_of_several_cameras_one_must_be_named(stored, tmp_path):
    root = shutil.copytree(stored['png'], tmp_path / 'set')
    table = pq.read_table(root / TABLE)
    pq.write_table(table.append_column('observation.images.hand', table[CAMERA]), root / TABLE)
    edited(root, lambda info: info['features'].update({'observation.images.hand': info['features'][CAMERA]}))
    with pytest.raises(InputError, match=f'not one camera but {CAMERA}, observation.images.hand; name one') as refused:
        LeRobotReader(root)
    assert refused.value.reason == 'lerobot_camera'
    data = LeRobotReader(root, 'observation.images.hand')
    assert data.camera == 'observation.images.hand' and CAMERA in data.notes[0]
    with pytest.raises(InputError, match=f'no camera {DEPTH}'):
        LeRobotReader(root, DEPTH)


def test_depth_in_a_video_is_left_out_with_a_note(stored, tmp_path):
    root = shutil.copytree(stored['lossless'], tmp_path / 'set')
    edited(root, lambda info: info['features'][DEPTH].update(dtype='video'))
    data = LeRobotReader(root)
    assert data.depth is None and 'depth in a video, which is not read' in data.notes[0]


def spoil(root, name):
    """Spoil a data set in one way."""
    if name == 'no table':
        (root / TABLE).unlink()
    elif name == 'no tasks':
        (root / 'meta/tasks.parquet').unlink()
    elif name == 'no episodes':
        shutil.rmtree(root / 'meta/episodes')
    elif name == 'cut table':
        (root / TABLE).write_bytes((root / TABLE).read_bytes()[:-30])
    elif name == 'rotten table':
        data = bytearray((root / TABLE).read_bytes())
        data[4:2000] = bytes(1996)
        (root / TABLE).write_bytes(data)
    elif name == 'other order':
        changed(root / TABLE, frame_index=[1, 0, *range(2, 5), *range(7), *range(3)])
    elif name == 'short table':
        pq.write_table(pq.read_table(root / TABLE).slice(0, 14), root / TABLE)
    elif name == 'lost task':
        changed(root / TABLE, task_index=[9] * 15)
    elif name == 'empty cell':
        cells = pq.read_table(root / TABLE)[DEPTH].to_pylist()
        changed(root / TABLE, **{DEPTH: [{'bytes': None, 'path': 'a.png'}, *cells[1:]]})
    elif name == 'no picture':
        changed(root / TABLE, **{DEPTH: [{'bytes': b'\x89PNG\r\n\x1a\n', 'path': 'a.png'}] * 15})
    elif name == 'twice':
        changed(root / EPISODES, episode_index=[0, 0, 2])
    elif name == 'negative':
        changed(root / EPISODES, length=[5, -7, 3])
    elif name == 'unfinished':
        edited(root, lambda info: info.update(total_frames=16))
    elif name == 'no film':
        (root / FILM).unlink()
    elif name == 'no path':
        edited(root, lambda info: info.update(video_path=None))
    elif name == 'rotten facts':
        (root / 'meta/m3et.json').write_text('{"episodes": [7]}')
    elif name == 'other size':
        edited(root, lambda info: info['features'][DEPTH].update(shape=[48, 64, 1]))


@pytest.mark.parametrize(
    ('name', 'reason', 'words'),
    [
        ('no table', 'lerobot_missing', 'there is no file'),
        ('no tasks', 'lerobot_missing', 'there is no file'),
        ('no episodes', 'lerobot_missing', 'meta/episodes'),
        ('cut table', 'lerobot_data', 'is damaged'),
        ('rotten table', 'lerobot_data', ''),
        ('other order', 'lerobot_data', 'frame 1 of episode 0 where frame 0'),
        ('short table', 'lerobot_data', 'has 2 of the 3 frames of episode 2'),
        ('lost task', 'lerobot_data', 'no task 9'),
        ('empty cell', 'lerobot_data', 'frame 0 of episode 0 .* no picture in the table'),
        ('no picture', 'lerobot_data', 'cannot be decoded'),
        ('twice', 'lerobot_data', 'lacks episode 1 or has it twice'),
        ('negative', 'lerobot_data', 'a number that cannot be'),
        ('unfinished', 'lerobot_data', 'was not finished'),
        ('no film', 'lerobot_missing', 'there is no file'),
        ('no path', 'lerobot_info', 'no video_path'),
        ('rotten facts', 'lerobot_data', 'm3et.json is damaged'),
        ('other size', 'lerobot_data', ''),
    ],
)
def test_a_spoilt_data_set_is_refused_in_one_sentence(stored, tmp_path, name, reason, words):
    root = shutil.copytree(stored['lossless'], tmp_path / 'set')
    spoil(root, name)
    if name == 'other size':  # depth of another size does not belong to the camera
        assert all(row.frame.depth is None for rows in read(root) for row in rows)
        return
    with pytest.raises(InputError, match=words) as refused:
        read(root)
    assert refused.value.reason == reason and '\n' not in str(refused.value)
