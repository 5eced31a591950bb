"""Shards: whole or not there."""

import errno
import json

import numpy as np
import pytest

from m3et_ros.data import shards
from m3et_ros.data.errors import InputError
from m3et_ros.data.shards import PART, QUESTION, clear_parts, frame_type, open_shard, read_header, write_shard


def arrays():
    frames = np.zeros(2, frame_type(8))
    frames['rgb'][1] = 7
    frames['first'], frames['asked'] = [0, 1], [1, 2]
    return frames, np.array([(0, 1, 0), (1, 2, 1), (0, 3, 0)], QUESTION), {'questions': [['a', {}], ['b', {}]]}


def test_a_shard_is_read_from_maps_as_it_was_written(tmp_path):
    frames, questions, header = arrays()
    write_shard(tmp_path / '0', frames, questions, header)
    shard = open_shard(tmp_path / '0')
    assert isinstance(shard.frames, np.memmap) and isinstance(shard.questions, np.memmap)
    assert (shard.frames == frames).all() and (shard.questions == questions).all()
    assert shard.header['questions'] == header['questions']
    assert [path.name for path in tmp_path.iterdir()] == ['0']


def test_an_empty_shard_is_a_shard(tmp_path):
    write_shard(tmp_path / '0', np.empty(0, frame_type(8)), np.empty(0, QUESTION), {})
    assert len(open_shard(tmp_path / '0').frames) == 0


def test_the_first_writer_wins(tmp_path):
    frames, questions, header = arrays()
    write_shard(tmp_path / '0', frames, questions, header)
    write_shard(tmp_path / '0', frames[:0], questions[:0], {})
    assert len(open_shard(tmp_path / '0').frames) == 2 and len(list(tmp_path.iterdir())) == 1


def test_a_full_disk_leaves_nothing_half_done(tmp_path, monkeypatch):
    def full(file):
        raise OSError(errno.ENOSPC, 'No space left on device')

    monkeypatch.setattr(shards, '_sync', full)
    with pytest.raises(InputError, match='free some space') as caught:
        write_shard(tmp_path / '0', *arrays())
    assert caught.value.reason == 'cache_unwritable' and not list(tmp_path.iterdir())


def test_left_overs_of_killed_writers_go(tmp_path):
    (tmp_path / f'{PART}0-123').mkdir()
    write_shard(tmp_path / '0', *arrays())
    clear_parts(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ['0']


def damage_header(folder):
    (folder / 'header.json').write_text(json.dumps({'format': 'other'}))


def damage_frames(folder):
    path = folder / 'frames.npy'
    path.write_bytes(path.read_bytes()[:-1])


def damage_questions(folder):
    np.save(folder / 'questions.npy', np.zeros(1, QUESTION))


def pickle_frames(folder):
    np.save(folder / 'frames.npy', np.array([{'a': 1}], object), allow_pickle=True)


@pytest.mark.parametrize('damage', [damage_header, damage_frames, damage_questions, pickle_frames])
def test_foreign_and_damaged_shards_are_refused(tmp_path, damage):
    write_shard(tmp_path / '0', *arrays())
    damage(tmp_path / '0')
    with pytest.raises(InputError, match='generate it again'):
        open_shard(tmp_path / '0')


def test_another_folder_is_refused(tmp_path):
    with pytest.raises(InputError, match='not a shard'):
        read_header(tmp_path)


@pytest.mark.parametrize('size', [0, 10, 2048])
def test_sizes_out_of_range_are_refused(size):
    with pytest.raises(ValueError, match='size'):
        frame_type(size)


@pytest.mark.parametrize('size', [4, 8, 1024])
def test_sizes_at_the_edges_are_accepted(size):
    assert frame_type(size)['rgb'].shape == (size, size, 3) and frame_type(size)['semseg'].shape == (size // 4,) * 2


def test_the_stride_bounds_the_size():
    assert frame_type(16, stride=16)['semseg'].shape == (1, 1)
    for size in (8, 24):
        with pytest.raises(ValueError, match='multiple of 16 from 16 to 1024'):
            frame_type(size, stride=16)


def test_the_header_repeats_seeds_and_numbers_of_questions(tmp_path):
    frames, questions, header = arrays()
    frames['seed'] = [20_001, 20_002]
    write_shard(tmp_path / '0', frames, questions, header)
    found = read_header(tmp_path / '0')
    assert (found['seed'], found['asked']) == ([20_001, 20_002], [1, 2])
