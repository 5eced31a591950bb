"""meta/info.json: what LeRobot 0.4.4 writes is read, and what cannot be is one sentence."""

import json

import pytest

from m3et_ros.data.errors import InputError
from m3et_ros.data.lerobot.schema import DATA_PATH, DEFAULTS, VIDEO_PATH, Feature, fill_path, read_info

# Written by lerobot 0.4.4, LeRobotDataset.create and save_episode, for an arm with three motors and one camera.
WRITTEN = {
    'codebase_version': 'v3.0',
    'robot_type': 'so100',
    'total_episodes': 3,
    'total_frames': 24,
    'total_tasks': 2,
    'chunks_size': 1000,
    'data_files_size_in_mb': 100,
    'video_files_size_in_mb': 200,
    'fps': 10,
    'splits': {'train': '0:3'},
    'data_path': 'data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet',
    'video_path': 'videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4',
    'features': {
        'observation.images.top': {
            'dtype': 'video',
            'shape': [48, 64, 3],
            'names': ['height', 'width', 'channels'],
            'info': {'video.codec': 'av1', 'video.is_depth_map': False},
        },
        'observation.state': {'dtype': 'float32', 'shape': [3], 'names': ['a', 'b', 'c']},
        'action': {'dtype': 'float32', 'shape': [3], 'names': {'motors': ['a', 'b', 'c']}},
        **{key: {'dtype': dtype, 'shape': [1], 'names': None} for key, dtype in DEFAULTS.items()},
    },
}


def written(folder, **changed):
    (folder / 'meta').mkdir(exist_ok=True)
    (folder / 'meta/info.json').write_text(json.dumps(WRITTEN | changed))
    return folder


def test_what_lerobot_writes_is_read(tmp_path):
    info = read_info(written(tmp_path))
    assert (info.fps, info.episodes, info.frames, info.data_path, info.video_path) == (10, 3, 24, DATA_PATH, VIDEO_PATH)
    top = info.features['observation.images.top']
    assert (top.dtype, top.size, top.is_picture, top.is_depth) == ('video', (48, 64), True, False)
    assert info.features['action'].value_names == info.features['observation.state'].value_names == ('a', 'b', 'c')
    assert info.features['index'] == Feature('int64', (1,))


def test_a_single_channel_is_depth_where_its_name_says_so(tmp_path):
    shape = {'dtype': 'image', 'shape': [48, 64, 1], 'names': ['height', 'width', 'channels']}
    plain = {'observation.images.infrared': shape, 'observation.images.hand_depth': shape}
    info = read_info(written(tmp_path, features=WRITTEN['features'] | plain))
    assert [info.features[key].is_depth for key in plain] == [False, True]


def test_depth_and_sizes_of_other_layouts_are_known():
    assert Feature('video', (3, 48, 64)).size == Feature('image', (48, 64, 1)).size == (48, 64)
    assert Feature('image', (1, 48, 64)).size == (48, 64) and not Feature('image', (1, 48, 64)).is_depth
    assert Feature('video', (48, 64, 1), info={'is_depth_map': True}).is_depth
    assert not Feature('float32', (1,)).is_depth and not Feature('image', (48, 64, 3)).is_depth
    assert Feature('float32', (2,), {'x': 0, 'y': 1}).value_names == ('x', 'y')
    assert Feature('float32', (2,), ['motors']).value_names == ()


@pytest.mark.parametrize(
    ('changed', 'reason', 'words'),
    [
        ({'codebase_version': 'v2.1'}, 'lerobot_version', 'convert_dataset_v21_to_v30'),
        ({'codebase_version': 'v4.0'}, 'lerobot_version', 'update m3et'),
        ({'codebase_version': 3}, 'lerobot_info', 'codebase_version'),
        ({'total_episodes': 0}, 'lerobot_empty', 'no episodes'),
        ({'total_frames': -1}, 'lerobot_info', 'total_frames'),
        ({'fps': 0}, 'lerobot_info', 'fps'),
        ({'fps': True}, 'lerobot_info', 'fps'),
        ({'features': []}, 'lerobot_info', 'cannot be used'),
        ({'features': {}}, 'lerobot_info', 'timestamp'),
        ({'features': WRITTEN['features'] | {'a/b': WRITTEN['features']['action']}}, 'lerobot_info', "'a/b'"),
        ({'features': WRITTEN['features'] | {'x': {'dtype': 'image', 'shape': [1]}}}, 'lerobot_info', 'x is a picture'),
        ({'features': WRITTEN['features'] | {'x': {'dtype': 'image', 'shape': [9999, 9999, 3]}}}, 'too_large', '9999'),
        ({'data_path': '../{chunk_index:03d}.parquet'}, 'lerobot_info', 'out of the data set'),
        ({'data_path': '/etc/passwd'}, 'lerobot_info', 'out of the data set'),
        ({'data_path': 'data/{chunk_index:0999999999d}'}, 'lerobot_info', 'unknown parts'),
        ({'data_path': '{chunk_index.__class__}'}, 'lerobot_info', 'unknown parts'),
        ({'video_path': 'videos\\{video_key}'}, 'lerobot_info', 'unknown parts'),
        ({'video_path': 7}, 'lerobot_info', 'no text'),
    ],
    ids=[f'case {number}' for number in range(18)],
)
def test_what_cannot_be_read_is_one_sentence(tmp_path, changed, reason, words):
    with pytest.raises(InputError, match=words) as refused:
        read_info(written(tmp_path, **changed))
    assert refused.value.reason == reason and '\n' not in str(refused.value)


def test_a_folder_without_meta_or_with_broken_json_is_refused(tmp_path):
    with pytest.raises(InputError, match='holds meta/') as refused:
        read_info(tmp_path)
    assert refused.value.reason == 'lerobot_missing'
    written(tmp_path)
    for text in ('{', '[]', '{}', '[' * 100_000):
        (tmp_path / 'meta/info.json').write_text(text)
        with pytest.raises(InputError) as refused:
            read_info(tmp_path)
        assert refused.value.reason == 'lerobot_info'


def test_the_form_of_a_path_is_filled():
    assert str(fill_path(DATA_PATH, 2, 17)) == 'data/chunk-002/file-017.parquet'
    assert str(fill_path(VIDEO_PATH, 0, 1234, 'a.b')) == 'videos/a.b/chunk-000/file-1234.mp4'
    with pytest.raises(ValueError, match='out of the data set'):
        fill_path(VIDEO_PATH, 0, 0, '..')
