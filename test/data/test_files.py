"""Files that are there as a whole or not at all."""

import pytest

from m3et_ros.data.files import write_atomically


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
