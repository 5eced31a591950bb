"""Compressed recordings: unpacked as they are, refused where there is no room, damaged or too large."""

import errno
import shutil
from pathlib import Path

import pytest

from m3et_ros.data.bags import packed
from m3et_ros.data.bags.packed import unpack, unpacked_message, zstd
from m3et_ros.data.errors import InputError

CONTENT = bytes(range(256)) * 100


@pytest.fixture
def file(tmp_path):
    file = tmp_path / 'kitchen.mcap.zstd'
    file.write_bytes(zstd.compress(CONTENT))
    return file


def refusal(action):
    with pytest.raises(InputError) as refused:
        action()
    return refused.value


def test_a_file_is_unpacked_under_its_own_name(file, tmp_path):
    (tmp_path / 'out').mkdir()
    found = unpack(file, tmp_path / 'out')
    assert found == tmp_path / 'out/kitchen.mcap' and found.read_bytes() == CONTENT


def test_a_full_disk_is_named_before_and_while_it_fills(file, tmp_path, monkeypatch):
    (tmp_path / 'out').mkdir()
    usage = shutil.disk_usage(tmp_path)
    for free, room in ((packed.SPARE + len(CONTENT) - 1, False), (packed.SPARE + len(CONTENT), True)):
        monkeypatch.setattr(packed.shutil, 'disk_usage', lambda _, free=free: usage._replace(free=free))
        if room:
            unpack(file, tmp_path / 'out')
        else:
            error = refusal(lambda: unpack(file, tmp_path / 'out'))
            assert error.reason == 'bag_unpack' and 'TMPDIR' in str(error) and 'zstd -d' in str(error)

    def full(*_, **__):
        raise OSError(errno.ENOSPC, 'No space left on device')

    monkeypatch.setattr(Path, 'open', full)
    error = refusal(lambda: unpack(file, tmp_path / 'out'))
    assert error.reason == 'bag_unpack' and 'No space left' in str(error)


def test_a_message_is_unpacked_up_to_a_limit(monkeypatch):
    assert unpacked_message(zstd.compress(CONTENT), 'bag') == CONTENT
    monkeypatch.setattr(packed, 'LARGEST', len(CONTENT))
    assert 'leave its topic out' in str(refusal(lambda: unpacked_message(zstd.compress(CONTENT), 'bag')))
    assert 'damaged' in str(refusal(lambda: unpacked_message(packed.ZSTD + b'hello', 'bag')))
