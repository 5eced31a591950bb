"""Compressed recordings: unpacked as they are, refused where there is no room, damaged or too large."""

import errno
import shutil
import tracemalloc
from pathlib import Path

import lz4.frame
import pytest
from rosbags.rosbag2 import storage_mcap

from m3et_ros.data.bags import packed
from m3et_ros.data.bags.packed import ChunkTooLarge, unpack, unpacked_message, zstd
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


def test_a_file_that_unpacks_to_far_more_than_recordings_do_is_refused(file, tmp_path, monkeypatch):
    (tmp_path / 'out').mkdir()
    for harmless, times, refused in ((len(CONTENT), 1, False), (len(CONTENT) - 1, 1, True), (0, 500, False)):
        monkeypatch.setattr(packed, 'HARMLESS', harmless)
        monkeypatch.setattr(packed, 'MOST_TIMES', times)
        if refused:
            error = refusal(lambda: unpack(file, tmp_path / 'out'))
            assert error.reason == 'bag_unpack' and 'unpacks to more than 1 times its size' in str(error)
        else:
            unpack(file, tmp_path / 'out')


@pytest.mark.parametrize(('compression', 'compress'), [('zstd', zstd.compress), ('lz4', lz4.frame.compress)])
def test_a_chunk_unpacks_to_what_its_header_claims_and_no_further(compression, compress, monkeypatch):
    unpack_chunk = storage_mcap.DECOMPRESSORS[compression]
    bomb = compress(bytes(50_000_000))
    assert unpack_chunk(compress(CONTENT), len(CONTENT)) == CONTENT
    # Two frames, as a recorder writes them that flushes; one that ends early is left to the reader's own check.
    assert unpack_chunk(compress(CONTENT) + compress(b'end'), len(CONTENT) + 3) == CONTENT + b'end'
    assert unpack_chunk(compress(CONTENT), len(CONTENT) + 1) == CONTENT
    tracemalloc.start()
    with pytest.raises(ChunkTooLarge, match='more than the 1000 bytes of its header'):
        unpack_chunk(bomb, 1000)
    with pytest.raises(ChunkTooLarge, match=rf'chunk of {len(bomb)} bytes that claims to unpack to {1 << 40}'):
        unpack_chunk(bomb, 1 << 40)
    assert tracemalloc.get_traced_memory()[1] < 5_000_000
    tracemalloc.stop()
    monkeypatch.setattr(packed, 'HARMLESS', 1 << 20)
    monkeypatch.setattr(packed, 'MOST_TIMES', 10)
    assert packed.largest(100) == 1 << 20 and packed.largest(1 << 20) == 10 << 20


def test_a_message_is_unpacked_up_to_a_limit(monkeypatch):
    assert unpacked_message(zstd.compress(CONTENT), 'bag') == CONTENT
    monkeypatch.setattr(packed, 'LARGEST', len(CONTENT))
    assert 'leave its topic out' in str(refusal(lambda: unpacked_message(zstd.compress(CONTENT), 'bag')))
    assert 'damaged' in str(refusal(lambda: unpacked_message(packed.ZSTD + b'hello', 'bag')))
