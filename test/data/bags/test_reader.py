import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
import yaml
from rosbags.interfaces import Qos, QosDurability, QosHistory, QosLiveliness, QosReliability
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from shared_data import SHARED

from m3et_ros.data.bags.cdr import typestore
from m3et_ros.data.bags.packed import zstd
from m3et_ros.data.bags.reader import CAMERA_INFO, COMPRESSED_IMAGE, IMAGE, BagReader, Topic, decode, is_recording
from m3et_ros.data.bags.repair import CHUNK, whole_records
from m3et_ros.data.bags.writer import COLOR_TOPIC, DEPTH_TOPIC, FOREVER, INFO_TOPIC, LABELS_TOPIC, BagWriter
from m3et_ros.data.errors import InputError
from m3et_ros.data.frame import Frame

START = 1_700_000_000_000_000_000
STEP = 100_000_000
REAL = SHARED / 'real_kitchen/bag'


def write(path, count=20, **options):
    """A bag of `count` small frames, ten a second; in every picture all colours are the number of the frame."""
    with BagWriter(path, **options) as bag:
        for i in range(count):
            rgb = np.full((48, 64, 3), i, np.uint8)
            bag.write_frame(Frame(rgb, np.full((48, 64), 1.5, np.float32), START + i * STEP, K=np.eye(3)))
            if i % 10 == 0:
                bag.write_labels(START + i * STEP, {'number': i})
    return path


@pytest.fixture(scope='module')
def recording(tmp_path_factory):
    return write(tmp_path_factory.mktemp('bags') / 'recording')


def refusal(action):
    with pytest.raises(InputError) as refused:
        action()
    return refused.value


def everything(bag):
    """Read until the first error; return the messages and the error."""
    messages = []
    try:
        for message in bag.messages():
            messages.append(message)
    except InputError as damage:
        return messages, damage
    return messages, None


@pytest.mark.parametrize('options', [{}, {'storage': 'sqlite3'}, {'zstd': True}], ids=['mcap', 'sqlite3', 'mcap zstd'])
def test_folder_and_single_file_read_alike(tmp_path, options):
    folder = write(tmp_path / 'bag', **options)
    (file,) = (path for path in folder.iterdir() if path.suffix in ('.mcap', '.db3'))
    (tmp_path / 'alone').mkdir()
    alone = Path(shutil.copy(file, tmp_path / 'alone'))
    with BagReader(folder) as bag, BagReader(alone) as single:
        assert {name: (topic.type, topic.count) for name, topic in bag.topics.items()} == {
            COLOR_TOPIC: (IMAGE, 20),
            DEPTH_TOPIC: (IMAGE, 20),
            INFO_TOPIC: (CAMERA_INFO, 20),
            LABELS_TOPIC: ('std_msgs/msg/String', 2),
        }
        assert (bag.count, bag.start_ns, bag.end_ns) == (62, START, START + 19 * STEP)
        assert (single.count, single.start_ns, single.end_ns) == (62, START, START + 19 * STEP)
        assert bag.topics[LABELS_TOPIC].latched and bag.topics[COLOR_TOPIC].reliable
        assert list(bag.messages()) == list(single.messages())
        assert bag.damage is None


def test_topics_and_start_select_messages(recording):
    with BagReader(recording) as bag:
        later = list(bag.messages([COLOR_TOPIC], start_s=1.5))
        assert [message.stamp_ns for message in later] == [START + i * STEP for i in range(15, 20)]
        assert {message.topic for message in later} == {COLOR_TOPIC}
        image = decode(later[0])
        assert (image.height, image.width, image.encoding, image.data[0]) == (48, 64, 'rgb8', 15)
        assert refusal(lambda: bag.messages(start_s=2)).reason == 'bag_start'
        assert refusal(lambda: bag.messages(start_s=-1)).reason == 'bag_start'


@pytest.mark.parametrize('mode', [CompressionMode.MESSAGE, CompressionMode.FILE])
def test_compression_of_rosbag2_is_undone(tmp_path, mode):
    writer = Writer(tmp_path / 'bag', version=9, storage_plugin=StoragePlugin.SQLITE3)
    writer.set_compression(mode, CompressionFormat.ZSTD)
    store = typestore()
    with writer:
        connection = writer.add_connection('/text', 'std_msgs/msg/String', typestore=store)
        text = store.types['std_msgs/msg/String'](data='hello ' * 50)
        writer.write(connection, START, store.serialize_cdr(text, 'std_msgs/msg/String'))
    with BagReader(tmp_path / 'bag') as bag:
        assert [decode(message).data for message in bag.messages()] == ['hello ' * 50]
    (file,) = (path for path in (tmp_path / 'bag').iterdir() if path.name != 'metadata.yaml')
    with BagReader(file) as bag:  # the file alone does not say that its messages are compressed; they do
        assert [decode(message).data for message in bag.messages()] == ['hello ' * 50]


def split(folder, starts, **options):
    """A folder with one file per start, in seconds, each of four frames in 0.4 s; colours are stamps in tenths."""
    folder.mkdir()
    for name, start in starts.items():
        with BagWriter(folder.parent / f'{folder.name}_{name}', **options) as bag:
            for i in range(4):
                rgb = np.full((4, 6, 3), round(10 * start) + i, np.uint8)
                bag.write_frame(Frame(rgb, stamp_ns=START + round(start * 1e9) + i * STEP))
        (file,) = (folder.parent / f'{folder.name}_{name}').glob('*.mcap')
        shutil.copy(file, folder / f'{name}.mcap')
    return folder


def tenths(bag):
    return [decode(message).data[0] for message in bag.messages([COLOR_TOPIC])]


def test_split_recording_without_metadata_is_read_in_the_order_of_time(tmp_path):
    for name, starts in (('numbers', {'part_2': 0, 'part_10': 0.4}), ('names', {'later': 0.4, 'zero': 0})):
        with BagReader(split(tmp_path / name, starts)) as bag:
            assert tenths(bag) == list(range(8)) and bag.count == 8


def metadata(folder, files, version=9):
    """Write a metadata.yaml for MCAP files with one topic, as rosbag2 does."""
    topic = {'name': COLOR_TOPIC, 'type': IMAGE, 'serialization_format': 'cdr', 'offered_qos_profiles': []}
    about = {
        'version': version,
        'storage_identifier': 'mcap',
        'duration': {'nanoseconds': 0},
        'starting_time': {'nanoseconds_since_epoch': START},
        'message_count': 4 * len(files),
        'topics_with_message_count': [{'topic_metadata': topic, 'message_count': 4 * len(files)}],
        'compression_format': '',
        'compression_mode': '',
        'relative_file_paths': files,
    }
    (folder / 'metadata.yaml').write_text(yaml.safe_dump({'rosbag2_bagfile_information': about}))


@pytest.mark.parametrize('described', [False, True], ids=['files', 'metadata'])
def test_parts_that_overlap_are_merged_by_time(tmp_path, described):
    folder = split(tmp_path / 'bag', {'a': 0, 'b': 0.2, 'c': 0.3})
    if described:
        metadata(folder, ['a.mcap', 'b.mcap', 'c.mcap'])
    with BagReader(folder) as bag:
        assert tenths(bag) == [0, 1, 2, 2, 3, 3, 3, 4, 4, 5, 5, 6]
        stamps = [message.stamp_ns for message in bag.messages(start_s=0.35)]
        assert stamps == [START + tenth * STEP for tenth in (4, 4, 5, 5, 6)]


def test_parts_that_the_metadata_lists_in_another_order_are_read_in_that_of_time(tmp_path):
    folder = split(tmp_path / 'bag', {'a': 0.4, 'b': 0})
    metadata(folder, ['a.mcap', 'b.mcap'])
    with BagReader(folder) as bag:
        assert tenths(bag) == list(range(8))


@pytest.mark.parametrize('kind', ['empty', 'no mapping', 'renamed file', 'newer version', 'other storage', 'not text'])
def test_metadata_that_does_not_serve_leaves_the_recording_readable(tmp_path, caplog, kind):
    folder = split(tmp_path / 'bag', {'a': 0})
    metadata(folder, ['old_name.mcap' if kind == 'renamed file' else 'a.mcap'], 10 if kind == 'newer version' else 9)
    file = folder / 'metadata.yaml'
    if kind == 'other storage':
        file.write_text(file.read_text().replace('identifier: mcap', 'identifier: other'))
    if kind in ('empty', 'no mapping', 'not text'):
        file.write_bytes({'empty': b'', 'no mapping': b'- 1', 'not text': b'\xff\xfe\0'}[kind])
    with BagReader(folder) as bag:
        assert tenths(bag) == [0, 1, 2, 3] and bag.damage is None
    assert 'read without it' in caplog.text and str(file) in caplog.text


def test_the_damage_of_one_part_leaves_the_others_readable(tmp_path):
    folder = split(tmp_path / 'bag', {'a': 0, 'b': 0.2})
    os.truncate(folder / 'a.mcap', (folder / 'a.mcap').stat().st_size - 10)
    with BagReader(folder) as bag:
        messages, damage = everything(bag)
    assert damage.reason == 'bag_truncated' and 'a.mcap' in str(damage)
    assert {message.stamp_ns for message in messages} >= {START + tenth * STEP for tenth in range(2, 6)}


@pytest.mark.parametrize('suffix', ['.zstd', '.zst'])
@pytest.mark.parametrize('storage', ['mcap', 'sqlite3'])
def test_a_compressed_file_alone_and_in_a_folder_is_unpacked_and_removed_again(tmp_path, monkeypatch, storage, suffix):
    (tmp_path / 'scratch').mkdir()
    monkeypatch.setattr(tempfile, 'tempdir', str(tmp_path / 'scratch'))
    folder = write(tmp_path / 'bag', count=3, storage=storage)
    (file,) = (path for path in folder.iterdir() if path.name != 'metadata.yaml')
    packed = file.with_name(file.name + suffix)
    packed.write_bytes(zstd.compress(file.read_bytes()))
    file.unlink()
    (folder / 'metadata.yaml').unlink()
    for path in (packed, folder):
        with BagReader(path) as bag:
            assert tenths(bag) == [0, 1, 2]
        assert not list((tmp_path / 'scratch').iterdir())


def test_every_fact_of_a_recording_by_its_name():
    names = ['a.mcap', 'a.db3', 'a.mcap.zstd', 'a.db3.zst', 'a.zstd', 'a.txt.zstd', 'metadata.yaml', 'a.mcap.gz']
    assert [is_recording(Path(name)) for name in names] == [True] * 4 + [False] * 4


def test_types_of_this_package_go_through_a_bag(tmp_path):
    store = typestore()
    answer = {'std_msgs/msg/Header', 'm3et_ros/msg/ScoredLabel', 'm3et_ros/msg/Answer'}
    assert answer < set(store.fielddefs)
    label = store.types['m3et_ros/msg/ScoredLabel'](id=3, label='cup', score=0.5)
    with Writer(tmp_path / 'bag', version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        connection = writer.add_connection('/label', 'm3et_ros/msg/ScoredLabel', typestore=store)
        writer.write(connection, START, store.serialize_cdr(label, 'm3et_ros/msg/ScoredLabel'))
    with BagReader(tmp_path / 'bag') as bag:
        (read,) = map(decode, bag.messages())
    assert (read.id, read.label, read.score) == (3, 'cup', 0.5)


def test_missing_topic_is_refused_with_those_that_are_there(recording):
    with BagReader(recording) as bag:
        missing = refusal(lambda: bag.messages(['/rgb']))
        wrong = refusal(lambda: bag.topic_name(LABELS_TOPIC, IMAGE, COMPRESSED_IMAGE))
    assert missing.reason == 'bag_topic'
    assert all(part in str(missing) for part in ('/rgb', COLOR_TOPIC, DEPTH_TOPIC, ':='))
    assert wrong.reason == 'bag_type'
    assert 'std_msgs/msg/String' in str(wrong)


@pytest.mark.parametrize(
    'name, content, reason',
    [
        ('nothing', None, 'bag_missing'),
        ('x' * 1001, None, 'bag_missing'),
        ('notes.txt', b'hello', 'bag_format'),
        ('old.bag', b'#ROSBAG V2.0\n', 'bag_format'),
        ('empty.mcap', b'', 'bag_truncated'),
        ('empty.db3', b'', 'bag_truncated'),
        ('other.mcap', b'\x89PNG\r\n\x1a\n' * 20, 'bag_truncated'),
        ('foreign.mcap.zstd', b'hello', 'bag_truncated'),
        ('cut.mcap.zstd', zstd.compress(b'hello' * 1000)[:-3], 'bag_truncated'),
        ('hello.mcap.zstd', zstd.compress(b'hello' * 1000), 'bag_truncated'),
        ('text.zstd', zstd.compress(b'hello'), 'bag_format'),
    ],
)
def test_other_files_are_refused(tmp_path, name, content, reason):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    error = refusal(lambda: BagReader(path))
    assert error.reason == reason
    assert str(path) in str(error)


def test_folder_without_a_recording_is_refused(tmp_path):
    assert refusal(lambda: BagReader(tmp_path)).reason == 'bag_format'
    (tmp_path / 'metadata.yaml').write_text('rosbag2_bagfile_information: {version: 9}')
    assert refusal(lambda: BagReader(tmp_path)).reason == 'bag_truncated'


def test_cut_mcap_yields_its_whole_part_and_then_says_what_is_lost(recording, tmp_path):
    # Larger than one chunk of a megabyte, so that whole chunks remain.
    folder = tmp_path / 'bag'
    with BagWriter(folder) as bag:
        for i in range(10):
            bag.write_frame(Frame(np.full((480, 640, 3), i, np.uint8), stamp_ns=START + i * STEP))
    with BagReader(folder) as bag:
        complete = list(bag.messages())
    file = folder / 'bag.mcap'
    os.truncate(file, file.stat().st_size * 6 // 10)
    with BagReader(folder) as bag:  # metadata.yaml still promises ten
        messages, damage = everything(bag)
        assert 3 <= len(messages) <= 6
        assert messages == complete[: len(messages)]
        assert bag.count == len(messages) == bag.topics[COLOR_TOPIC].count
        assert damage is bag.damage and damage.reason == 'bag_truncated'
        assert str(bag.count) in str(damage) and str(file) in str(damage)


def test_cut_sqlite_is_refused(tmp_path):
    file = next(write(tmp_path / 'bag', storage='sqlite3').glob('*.db3'))
    os.truncate(file, file.stat().st_size // 2)
    assert refusal(lambda: BagReader(file)).reason == 'bag_truncated'
    assert refusal(lambda: BagReader(tmp_path / 'bag')).reason == 'bag_truncated'


def test_unfinished_sqlite_is_refused(tmp_path):
    file = next(write(tmp_path / 'bag', storage='sqlite3').glob('*.db3'))
    file.with_name(f'{file.name}-wal').write_bytes(b'messages that were not moved into the file')
    error = refusal(lambda: BagReader(file))
    assert error.reason == 'bag_truncated' and 'wal_checkpoint' in str(error)


def test_damaged_chunk_is_reported_after_the_messages_before_it(tmp_path):
    # Few values: zstd stores pure noise as it is, without a checksum.
    noise = np.random.default_rng(0).integers(0, 4, (480, 640, 3), dtype=np.uint8)
    with BagWriter(tmp_path / 'bag', zstd=True) as bag:
        for i in range(6):
            bag.write_frame(Frame(noise, stamp_ns=START + i * STEP))
    file = tmp_path / 'bag/bag.mcap'
    content = bytearray(file.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 64] = bytes(64)
    file.write_bytes(content)
    with BagReader(tmp_path / 'bag') as bag:
        messages, damage = everything(bag)
    assert 0 < len(messages) < 6
    assert damage.reason == 'bag_truncated'


def test_damaged_message_is_refused(recording):
    with BagReader(recording) as bag:
        message = next(bag.messages([COLOR_TOPIC]))
    assert refusal(lambda: decode(message._replace(raw=message.raw[:40]))).reason == 'bag_message'
    assert refusal(lambda: decode(message._replace(type='other_msgs/msg/Thing'))).reason == 'bag_type'


@pytest.mark.skipif(not REAL.exists(), reason='no real kitchen bag beside the checkout; set M3ET_DATA to its folder')
def test_real_kitchen_reads():
    with BagReader(REAL) as bag:
        assert {topic.count for topic in bag.topics.values()} == {150}
        assert bag.duration_s == pytest.approx(149 / 30)
        stamps = [message.stamp_ns for message in bag.messages()]
    assert stamps == sorted(stamps) and len(stamps) == 600


def test_every_fact_of_a_topic_and_a_message_is_read(recording):
    with BagReader(recording) as bag:
        assert bag.topics[COLOR_TOPIC] == Topic(COLOR_TOPIC, IMAGE, 20, reliable=True, latched=False)
        assert bag.topics[LABELS_TOPIC] == Topic(LABELS_TOPIC, 'std_msgs/msg/String', 2, reliable=True, latched=True)
        first = next(bag.messages([INFO_TOPIC]))
    assert (first.topic, first.stamp_ns, first.type) == (INFO_TOPIC, START, CAMERA_INFO)
    assert decode(first).k.tolist() == np.eye(3).ravel().tolist()


def test_a_best_effort_publisher_is_not_reliable(tmp_path):
    lasting = (QosDurability.VOLATILE, FOREVER, FOREVER, QosLiveliness.AUTOMATIC, FOREVER, False)
    offers = {'/loose': [Qos(QosHistory.KEEP_LAST, 10, QosReliability.BEST_EFFORT, *lasting)], '/none': []}
    with Writer(tmp_path / 'bag', version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        for name, offered in offers.items():
            writer.add_connection(name, 'std_msgs/msg/String', typestore=typestore(), offered_qos_profiles=offered)
    with BagReader(tmp_path / 'bag') as bag:
        assert bag.topics['/loose'].reliable is False and bag.topics['/none'].reliable is None


def test_the_start_may_be_the_first_and_the_last_message(recording):
    with BagReader(recording) as bag:
        assert bag.duration_s == 1.9
        assert len(list(bag.messages([COLOR_TOPIC], start_s=0))) == 20
        assert [message.stamp_ns for message in bag.messages([COLOR_TOPIC], start_s=1.9)] == [bag.end_ns]
        assert refusal(lambda: bag.messages(start_s=1.900_001)).reason == 'bag_start'


def test_only_regular_files_are_opened_as_a_bag(tmp_path):
    for name in ('fifo.mcap', 'folder/a.mcap', 'meta/metadata.yaml'):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        os.mkfifo(tmp_path / name)
    for bag in (tmp_path / 'fifo.mcap', tmp_path / 'folder', tmp_path / 'meta'):
        with pytest.raises(InputError, match='is a FIFO and no regular file; give a rosbag2 folder'):
            BagReader(bag)
    (tmp_path / 'endless').mkdir()
    (tmp_path / 'endless' / 'metadata.yaml').symlink_to('/dev/zero')
    with pytest.raises(InputError, match='is a device and no regular file'):
        BagReader(tmp_path / 'endless')


@pytest.mark.parametrize('claim', [1000, 1 << 40])
def test_a_chunk_that_unpacks_to_more_than_it_claims_or_claims_too_much_is_refused_in_one_sentence(tmp_path, claim):
    with BagWriter(tmp_path / 'bag', zstd=True) as bag:
        bag.write_frame(Frame(np.zeros((48, 64, 3), np.uint8), stamp_ns=1))
    file = tmp_path / 'bag/bag.mcap'
    data = file.read_bytes()
    with file.open('rb') as opened:
        chunk = next(one for one in whole_records(opened, len(data)) if one.opcode == CHUNK)
    size = int.from_bytes(data[chunk.start + 25 : chunk.start + 33], 'little')
    file.write_bytes(data.replace(size.to_bytes(8, 'little'), claim.to_bytes(8, 'little')))
    for path in (tmp_path / 'bag', file):
        with BagReader(path) as bag, pytest.raises(InputError) as refused:
            list(bag.messages())
        assert refused.value.reason == 'bag_unpack'
        assert str(refused.value).startswith(f'{file} has a chunk ') or path.is_dir()
        assert 'made to fill the memory' in str(refused.value) and f'{claim}' in str(refused.value)


def test_a_compressed_message_of_a_folder_is_unpacked_up_to_a_limit(tmp_path, monkeypatch):
    writer = Writer(tmp_path / 'bag', version=9)
    writer.set_compression(CompressionMode.MESSAGE, CompressionFormat.ZSTD)
    with writer:
        topic = writer.add_connection('/text', 'std_msgs/msg/String', typestore=typestore())
        writer.write(topic, 5, bytes(100_000))
    monkeypatch.setattr('m3et_ros.data.bags.packed.LARGEST', 50_000)
    with BagReader(tmp_path / 'bag') as bag, pytest.raises(InputError, match='leave its topic out'):
        list(bag.messages())


def test_a_recording_whose_name_is_not_utf_8_is_read_and_named_with_escapes(tmp_path):
    path = tmp_path / os.fsdecode(b'bag\xff')
    with BagWriter(path) as bag:
        bag.write_frame(Frame(np.zeros((48, 64, 3), np.uint8), stamp_ns=1))
    with BagReader(path) as bag:
        assert len(list(bag.messages())) == 1
        assert 'bag\\udcff has no topic' in str(refusal(lambda: bag.topic_name('/none')))
