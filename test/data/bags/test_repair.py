import shutil

import numpy as np
import pytest
from rosbags.rosbag2 import Reader

from m3et_ros.data.bags.repair import MAGIC, CutMcap, is_cut, whole_records
from m3et_ros.data.bags.writer import BagWriter
from m3et_ros.data.frame import Frame


@pytest.fixture(scope='module')
def file(tmp_path_factory):
    """An MCAP file of several chunks; frames are written out of order, as recorders of many topics do."""
    folder = tmp_path_factory.mktemp('bags') / 'bag'
    with BagWriter(folder) as bag:
        for i in (0, 2, 1, 3, 5, 4, 7, 6, 9, 8):
            bag.write_frame(Frame(np.full((240, 640, 3), i, np.uint8), stamp_ns=10**18 + i), pose=np.eye(4))
    return folder / 'bag.mcap'


def stamps(path):
    with Reader(path) as reader:
        messages = [(stamp, connection.topic, bytes(raw)) for connection, stamp, raw in reader.messages()]
        return reader.message_count, messages


def test_a_complete_file_is_not_cut(file, tmp_path):
    assert not is_cut(file)
    (tmp_path / 'text').write_bytes(b'hello')
    assert not is_cut(tmp_path / 'text')


@pytest.mark.parametrize('fraction', [0.3, 0.55, 0.8, 0.99])
def test_every_whole_chunk_of_a_cut_file_is_read(file, tmp_path, fraction):
    complete = set(stamps(file)[1])
    size = int(file.stat().st_size * fraction)
    cut = tmp_path / 'cut.mcap'
    cut.write_bytes(file.read_bytes()[:size])
    assert is_cut(cut)
    repaired = CutMcap(cut)
    count, messages = stamps(repaired)
    assert count == len(messages) == len(set(messages) & complete)
    assert [message[0] for message in messages] == sorted(message[0] for message in messages)
    # No chunk is larger than a megabyte and one frame: more than that is never lost.
    assert size - repaired.whole < 2**20 + 640 * 240 * 3 + 2000
    assert len(messages) >= 2 * int((size - 2**20 - 640 * 240 * 3) / (640 * 240 * 3 + 1000))


def test_a_cut_behind_a_chunk_gives_that_chunk_up_unless_its_index_is_complete(file, tmp_path):
    """A chunk whose message indexes are missing would be passed over silently; here it counts as lost."""
    with file.open('rb') as opened:
        records = list(whole_records(opened, file.stat().st_size))
    chunks = [record for record in records if record.opcode == 6]
    cut = tmp_path / 'cut.mcap'
    for end, whole in (
        (chunks[1].end, chunks[1].start),
        (chunks[2].start, chunks[1].start),
        (chunks[2].start + 20, chunks[2].start),
    ):
        cut.write_bytes(file.read_bytes()[:end])
        assert CutMcap(cut).whole == whole


def test_a_file_without_message_indexes_is_read_in_its_own_order(file, tmp_path):
    content = file.read_bytes()
    with file.open('rb') as opened:
        chunks = [record for record in whole_records(opened, len(content)) if record.opcode in (1, 6)]
    bare = tmp_path / 'bare.mcap'
    bare.write_bytes(MAGIC + b''.join(content[record.start : record.end] for record in chunks[:2]) + content[:500])
    repaired = CutMcap(bare)
    with Reader(repaired) as reader:
        assert reader.message_count > 0
    assert repaired.whole == len(MAGIC) + sum(record.end - record.start for record in chunks[:2])


def test_zeros_at_the_end_are_no_records(file, tmp_path):
    cut = tmp_path / 'zeros.mcap'
    shutil.copy(file, cut)
    with cut.open('r+b') as opened:
        opened.truncate(cut.stat().st_size * 6 // 10)
        opened.truncate(file.stat().st_size + 100_000)
    repaired = CutMcap(cut)
    assert is_cut(cut) and repaired.whole < file.stat().st_size
