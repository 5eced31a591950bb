"""Recording of one episode: options in the bag, an early end, and what an observer receives."""

import resource
import threading

import pytest

from m3et_ros.cli.record.episode import START_NS, RecordOptions, open_episode, record_episode
from m3et_ros.data.bags.reader import BagReader, decode
from m3et_ros.data.bags.writer import BagWriter
from m3et_ros.data.errors import InputError

OPTIONS = RecordOptions(frames=4, fps=2.5, width=48, height=36, backend='raycast')


@pytest.fixture(autouse=True)
def simulator():
    pytest.importorskip('mujoco')


def record(path, *, options=OPTIONS, stopped=None, observe=None):
    return record_episode(options, open_episode(options, 5), path, stopped or threading.Event(), observe)


def test_size_rate_and_stamps_are_those_of_the_options(tmp_path):
    recorded = record(tmp_path / 'bag')
    assert recorded.frames == 4 and recorded.backend == 'raycast'
    with BagReader(tmp_path / 'bag') as reader:
        images = [(m.stamp_ns, decode(m)) for m in reader.messages(['/camera/camera/color/image_raw'])]
    assert [stamp for stamp, _ in images] == [START_NS + i * 400_000_000 for i in range(4)]
    assert {(image.width, image.height) for _, image in images} == {(48, 36)}


@pytest.mark.parametrize(('storage', 'suffix'), [('mcap', '.mcap'), ('sqlite3', '.db3')])
@pytest.mark.parametrize('compressed', [True, False])
def test_storage_and_transport_are_those_of_the_options(tmp_path, storage, suffix, compressed):
    options = RecordOptions(frames=1, width=48, height=36, backend='raycast', storage=storage, compressed=compressed)
    record(tmp_path / 'bag', options=options)
    assert [file.suffix for file in (tmp_path / 'bag').iterdir() if file.suffix != '.yaml'] == [suffix]
    with BagReader(tmp_path / 'bag') as reader:
        assert ('/camera/camera/color/image_raw/compressed' in reader.topics) == compressed


def test_a_stop_ends_after_the_frame_at_hand(tmp_path):
    stopped, observed = threading.Event(), []

    def observe(observation):
        observed.append(observation)
        if len(observed) == 2:
            stopped.set()

    assert record(tmp_path / 'bag', stopped=stopped, observe=observe).frames == len(observed) == 2
    with BagReader(tmp_path / 'bag') as reader:
        assert reader.topics['/camera/camera/color/image_raw'].count == 2


def test_labels_are_those_at_the_end_of_the_recording(tmp_path):
    options = RecordOptions(frames=60, fps=2.5, width=48, height=36, backend='raycast')
    episode = open_episode(options, 5)
    recorded = record_episode(options, episode, tmp_path / 'bag', threading.Event())
    before = len(recorded.labels)
    for _ in episode.run(100):
        pass
    assert 0 < before == len(recorded.labels) < len(episode.labels)


def test_a_bag_is_never_overwritten(tmp_path):
    record(tmp_path / 'bag')
    with pytest.raises(InputError, match='exists already'):
        record(tmp_path / 'bag')


def test_a_full_disk_is_told_in_one_sentence_and_leaves_no_bag(tmp_path, monkeypatch):
    write, frames = BagWriter.write_observation, []

    def full(self, *arguments):
        frames.append(1)
        if len(frames) == 3:
            raise OSError(28, 'No space left on device')
        return write(self, *arguments)

    monkeypatch.setattr(BagWriter, 'write_observation', full)
    with pytest.raises(InputError, match=r'bag cannot be written \(No space left on device\); give a writable folder'):
        record(tmp_path / 'bag')
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('storage', ['mcap', 'sqlite3'])
def test_files_that_may_not_grow_are_told_in_one_sentence_for_both_storages(tmp_path, storage):
    options = RecordOptions(frames=60, fps=2.5, width=320, height=240, backend='raycast', storage=storage)
    _, hard = limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, hard))
    try:
        with pytest.raises(InputError, match=r'bag cannot be written \(.+\); give a writable folder with free space'):
            record(tmp_path / 'bag', options=options)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_was_there_stays(tmp_path):
    (tmp_path / 'bag').mkdir()
    with pytest.raises(InputError):
        record(tmp_path / 'bag')
    assert (tmp_path / 'bag').is_dir()
