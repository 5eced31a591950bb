"""Files that are there as a whole or not at all."""

import os
import socket
from pathlib import Path

import numpy as np
import pytest

from m3et_ros.data.errors import InputError
from m3et_ros.data.files import check_regular, map_array, parse_json, read_regular, refuse_unwritable, write_atomically


def test_a_file_appears_only_when_it_is_complete(tmp_path):
    path = tmp_path / 'index.json'
    with write_atomically(path) as part:
        part.write_text('half')
        assert not path.exists() and part.parent == path.parent
        assert not list(tmp_path.glob('*.json')), 'a reader that lists files must not find the unfinished one'
        part.write_text('whole')
    assert path.read_text() == 'whole' and list(tmp_path.iterdir()) == [path]


def test_the_old_file_stays_until_the_new_one_is_complete(tmp_path):
    path = tmp_path / 'index.json'
    path.write_text('old')
    with write_atomically(path) as part:
        part.write_text('new')
        assert path.read_text() == 'old'
    assert path.read_text() == 'new'


@pytest.mark.parametrize('error', [KeyboardInterrupt, OSError, ValueError])
def test_a_writer_that_fails_leaves_the_old_file_and_no_other(tmp_path, error):
    path = tmp_path / 'index.json'
    path.write_text('old')
    with pytest.raises(error), write_atomically(path) as part:
        part.write_text('half')
        raise error
    assert path.read_text() == 'old' and list(tmp_path.iterdir()) == [path]


def test_a_writer_that_writes_nothing_is_told_so(tmp_path):
    with pytest.raises(FileNotFoundError), write_atomically(tmp_path / 'index.json'):
        pass
    with pytest.raises(FileNotFoundError), write_atomically(tmp_path / 'no folder' / 'index.json') as part:
        part.write_text('x')


def test_a_place_that_cannot_be_written_is_refused_with_its_reason_and_other_errors_pass(tmp_path):
    with pytest.raises(InputError, match=r'index cannot be written \(Is a directory\); free some space') as refused:
        (tmp_path / 'index').mkdir()
        with refuse_unwritable(tmp_path / 'index', 'free some space'):
            (tmp_path / 'index').write_text('')
    assert refused.value.reason == 'out_unwritable'
    with pytest.raises(ValueError, match='other'), refuse_unwritable(tmp_path, 'free some space'):
        raise ValueError('other')
    with refuse_unwritable(tmp_path, 'free some space'):
        (tmp_path / 'good').write_text('good')
    assert (tmp_path / 'good').read_text() == 'good'


def test_a_regular_file_is_read_up_to_its_limit(tmp_path):
    path = tmp_path / 'file'
    path.write_bytes(b'12345')
    (tmp_path / 'link').symlink_to(path)
    assert read_regular(path, 'fix', most=5) == read_regular(tmp_path / 'link', 'fix') == b'12345'
    with pytest.raises(InputError, match=r'file is larger than 4 bytes; give less\.') as refused:
        read_regular(path, 'give less', most=4)
    assert refused.value.reason == 'file_size'
    with pytest.raises(FileNotFoundError):
        read_regular(tmp_path / 'none', 'fix')
    check_regular(path, 'fix'), check_regular(tmp_path / 'none', 'fix')
    check_regular(tmp_path / ('x' * 1001), 'fix')  # longer than a file name may be: its reader says so


def test_nothing_else_than_a_regular_file_is_opened(tmp_path):
    os.mkfifo(tmp_path / 'fifo')
    (tmp_path / 'link').symlink_to(tmp_path / 'fifo')
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(tmp_path / 'socket'))
    kinds = {'fifo': 'a FIFO', 'link': 'a FIFO', 'socket': 'a socket', '.': 'a folder', '/dev/zero': 'a device'}
    for name, kind in kinds.items():
        with pytest.raises(InputError, match=f'is {kind} and no regular file; give a file') as refused:
            check_regular(tmp_path / name, 'give a file')
        assert refused.value.reason == 'not_a_file'
        if name != 'socket':  # the system itself opens none
            with pytest.raises(InputError, match=f'is {kind} and no regular file'):
                read_regular(tmp_path / name, 'give a file')
    listening.close()
    assert Path('/dev/zero').is_char_device()


def npy(header):
    return b'\x93NUMPY\x01\x00' + len(header).to_bytes(2, 'little') + header


@pytest.mark.parametrize(
    'data',
    [
        b'',
        npy(b"{'descr': '<f4', 'fortran_order': False, 'shape': (4, "),
        npy(b"{'descr': '<f4', 'fortran_order': False, 'shape': (4, 6), }"),
        npy(b"{'descr': '|O', 'fortran_order': False, 'shape': (4, 6), }") + bytes(192),
        npy(b'[' * 3000),
        npy(b'\xff\0'),
    ],
    ids=['empty', 'open', 'short', 'objects', 'deep', 'no text'],
)
def test_a_damaged_array_is_a_value_error(tmp_path, data):
    (tmp_path / 'array.npy').write_bytes(data)
    with pytest.raises(ValueError):
        map_array(tmp_path / 'array.npy')


def test_an_array_is_mapped_and_one_alone(tmp_path):
    np.save(tmp_path / 'one.npy', np.arange(6).reshape(2, 3))
    assert isinstance(map_array(tmp_path / 'one.npy'), np.memmap)
    assert map_array(tmp_path / 'one.npy').tolist() == [[0, 1, 2], [3, 4, 5]]
    np.savez(tmp_path / 'two.npz', np.ones(1), np.ones(1))
    with pytest.raises(ValueError, match='it holds several arrays'):
        map_array(tmp_path / 'two.npz')
    with pytest.raises(FileNotFoundError):
        map_array(tmp_path / 'none.npy')


def test_json_with_half_a_surrogate_pair_is_refused_before_it_is_written_anywhere():
    assert parse_json(rb'{"a": "\ud83c\udf52", "b": [1, "\u00e9"]}') == {'a': '\U0001f352', 'b': [1, '\u00e9']}
    with pytest.raises(ValueError, match=r'^\\ud83c is no character$'):
        parse_json(rb'[{"question": "a \ud83c?"}]')
    with pytest.raises(ValueError):
        parse_json(b'"\xff"')
