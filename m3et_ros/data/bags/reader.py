"""Read rosbag2 recordings without a ROS installation: MCAP or sqlite3, raw or compressed, a folder or one file.

with BagReader('recording') as bag:
    for message in bag.messages(topics=['/camera/camera/color/camera_info']):
        print(message.stamp_ns, decode(message).k)
"""

import heapq
import itertools
import logging
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple, cast

from rosbags.interfaces import Connection, ConnectionExtRosbag2, QosDurability, QosReliability
from rosbags.rosbag2 import Reader

from m3et_ros.data.bags.cdr import ANSWER, older_answer, typestore
from m3et_ros.data.bags.packed import PACKED, ZSTD, ChunkTooLarge, unpack, unpacked_message
from m3et_ros.data.bags.repair import CutMcap, is_cut
from m3et_ros.data.errors import InputError
from m3et_ros.data.files import check_regular
from m3et_ros.data.frame import NANOSECONDS

IMAGE = 'sensor_msgs/msg/Image'
COMPRESSED_IMAGE = 'sensor_msgs/msg/CompressedImage'
CAMERA_INFO = 'sensor_msgs/msg/CameraInfo'
SUFFIXES = ('.mcap', '.db3')
METADATA = 'metadata.yaml'
BAG = 'give a rosbag2 folder, .mcap or .db3 file'

log = logging.getLogger(__name__)


def is_recording(path: Path) -> bool:
    """Return True if a file is a recording by its name: .mcap, .db3, or one of these with .zstd behind it."""
    return path.suffix in SUFFIXES or (path.suffix in PACKED and Path(path.stem).suffix in SUFFIXES)


class BagMessage(NamedTuple):
    """One recorded message: topic, time of recording in ns since the epoch, CDR bytes, type as 'package/msg/Name'."""

    topic: str
    stamp_ns: int
    raw: bytes
    type: str


@dataclass(frozen=True)
class Topic:
    """One topic of a bag."""

    # Name as recorded, with the leading slash.
    name: str
    # Message type as 'package/msg/Name'.
    type: str
    # Number of messages that can be read.
    count: int
    # Reliability that the recorded publisher offered; None where the bag does not record it.
    reliable: bool | None = None
    # True where late subscribers got the last message (transient local).
    latched: bool = False


def decode(message: BagMessage) -> Any:
    """Decode a recorded message to an object with the fields of its type; arrays are NumPy views of its bytes.

    Raises:
        InputError: 'bag_type' for a type that neither Jazzy nor this package has, 'bag_message' for damaged bytes.
    """
    if message.type not in typestore().fielddefs:
        raise InputError(
            'bag_type',
            f'{message.topic} holds {message.type}, which is not a type of ROS 2 Jazzy or of '
            'm3et_ros; leave this topic out',
        )
    try:
        return typestore().deserialize_cdr(memoryview(message.raw), message.type)
    except Exception as error:  # rosbags raises anything on damaged bytes
        if message.type == ANSWER:
            with suppress(Exception):
                return older_answer(message.raw)
        raise InputError(
            'bag_message',
            f'the message of {message.topic} at {message.stamp_ns} ns does not read as '
            f'{message.type} ({type(error).__name__}: {error}); the bag is damaged, record it again',
        ) from error


class BagReader:
    """A rosbag2 recording, opened for reading.

    An MCAP file that was cut off is read as far as its records are whole: `damage` then holds the error, and `messages`
    raises it after the last readable message, so that no loss goes unreported.

    Attributes:
        path: the opened folder or file.
        topics: topics by name, in the order of the bag.
        count: number of messages that can be read.
        start_ns, end_ns: stamps of the first and the last message in ns since the epoch; 0 for an empty bag.
        damage: None, or the error that says which part of the bag cannot be read.

    Raises:
        InputError: with reason 'bag_missing' (no such path), 'bag_format' (not a rosbag2 recording) or 'bag_truncated'
            (damaged, and no part of it can be read) or 'bag_unpack' (compressed, and no room for it).
    """

    def __init__(self, path: str | Path):
        self.path = Path(path).expanduser()
        self.damage: InputError | None = None
        self._stack = ExitStack()
        self._unpacked: dict[Path, Path] = {}
        try:
            self._readers = self._open_all()
        except BaseException:
            self.close()
            raise
        self.topics = self._read_topics()
        self.count = sum(reader.message_count for reader in self._readers)
        filled = [reader for reader in self._readers if reader.message_count]
        self.start_ns = min((reader.start_time for reader in filled), default=0)
        # The end that rosbags gives is the first nanosecond after the last message.
        self.end_ns = max((reader.end_time - 1 for reader in filled), default=0)

    def __enter__(self) -> 'BagReader':
        return self

    def __exit__(self, *exception) -> None:
        self.close()

    def close(self) -> None:
        """Close the files; a second call does nothing."""
        self._stack.close()

    @property
    def duration_s(self) -> float:
        """Seconds from the first to the last message."""
        return (self.end_ns - self.start_ns) / NANOSECONDS

    def messages(self, topics: Iterable[str] | None = None, start_s: float = 0.0) -> Iterator[BagMessage]:
        """Yield the messages in the order of recording.

        Args:
            topics: names of the topics to read; None for all.
            start_s: seconds after the first message at which to begin, from 0 to the length of the bag.

        Raises:
            InputError: at once, 'bag_topic' for a topic that is not there and 'bag_start' for a start outside the bag;
                after the last readable message, 'bag_truncated' for a damaged bag.
        """
        wanted = set(self.topics if topics is None else map(self.topic_name, topics))
        if not 0 <= start_s <= self.duration_s:
            raise InputError(
                'bag_start',
                f'start_s is {start_s:g}; {self.path} is {self.duration_s:.3f} s long, '
                'give seconds from its beginning within that length',
            )
        return self._messages(wanted, self.start_ns + round(start_s * NANOSECONDS) if start_s else None)

    def topic_name(self, name: str, *types: str) -> str:
        """Return `name` when the bag has that topic, with one of `types` where any are given.

        Raises:
            InputError: 'bag_topic' when the topic is not there, 'bag_type' when it holds another type.
        """
        if name not in self.topics:
            images = [topic.name for topic in self.topics.values() if topic.type in (IMAGE, COMPRESSED_IMAGE)]
            raise InputError(
                'bag_topic',
                f'{self.path} has no topic {name}; its image topics are '
                f'{", ".join(images) or "none"}: give one of these, and if a node reads it under '
                'another name start the replay with --ros-args -r <name in the bag>:=<name of the node>',
            )
        if types and self.topics[name].type not in types:
            raise InputError(
                'bag_type',
                f'{name} in {self.path} holds {self.topics[name].type} where '
                f'{" or ".join(types)} is needed; name another topic',
            )
        return name

    def _open_all(self) -> list[Reader]:
        """Open the folder, the file, or the files of a folder whose metadata does not serve."""
        if not os.path.exists(self.path):  # Path.exists raises on a name that is too long
            raise InputError('bag_missing', f'there is no bag at {self.path}; {BAG}')
        if not self.path.is_dir():
            check_regular(self.path, BAG)
            return self._in_order([self.path])
        # rosbag2 numbers the files of a split bag, and name_2 comes before name_10.
        files = sorted(
            (file for file in self.path.iterdir() if is_recording(file)),
            key=lambda file: [int(part) if part.isdigit() else part for part in re.split(r'(\d+)', file.name)],
        )
        metadata = self.path / METADATA
        for file in (*files, metadata):
            check_regular(file, BAG)
        if not files and not metadata.exists():
            raise InputError(
                'bag_format',
                f'{self.path} has neither {METADATA} nor .mcap or .db3 files; give a folder of `ros2 bag record`',
            )
        # rosbags unpacks whole files and single messages without a limit, so those are read without its help.
        if not metadata.exists() or any(file.suffix in PACKED or _is_cut_mcap(file) for file in files):
            return self._in_order(files)
        folder = Reader(self.path)
        try:
            folder.open()
        except Exception as error:  # rosbags raises anything
            if not files:
                raise self._damaged(self.path, error) from error
            readers = self._in_order(files)
            log.warning('%s does not describe the recording (%s); its files are read without it', metadata, error)
            return readers
        if cast(Any, folder).storage.metadata.compression_mode == 'message':
            folder.close()
            return self._in_order(files)
        parts = [storage.metadata for storage in cast(Any, folder).storage.storages if storage.metadata.message_count]
        if _overlap(parts) or parts != sorted(parts, key=lambda part: part.start_time):
            folder.close()
            return self._in_order(files)
        self._stack.callback(folder.close)
        return [folder]

    def _in_order(self, files: Sequence[Path]) -> list[Reader]:
        """Open files, the earliest first."""
        return sorted((self._open(self._part(file)) for file in files), key=lambda reader: reader.start_time)

    def _part(self, file: Path) -> Path | CutMcap:
        """Return a file as it is, the one that is packed in it, or the readable part of a cut one."""
        if is_recording(file) and file.suffix in PACKED:
            unpacked = unpack(file, Path(self._stack.enter_context(TemporaryDirectory(prefix='m3et-bag-'))))
            self._unpacked[unpacked] = file
            return CutMcap(unpacked) if _is_cut_mcap(unpacked) else unpacked
        if file.suffix == '.bag':
            raise InputError('bag_format', f'{file} is a ROS 1 bag; convert it with `rosbags-convert`')
        if file.suffix not in SUFFIXES:
            raise InputError('bag_format', f'{file} is not a bag: its name ends in {file.suffix or "nothing"!r}; {BAG}')
        log = file.with_name(f'{file.name}-wal')
        if file.suffix == '.db3' and log.exists() and log.stat().st_size:
            raise InputError(
                'bag_truncated',
                f'{file} was not closed: its last messages are still in {log.name}; '
                f'finish it with `sqlite3 {file.name} "PRAGMA wal_checkpoint(TRUNCATE)"`',
            )
        return CutMcap(file) if _is_cut_mcap(file) else file

    def _open(self, part: Path | CutMcap) -> Reader:
        """Open one part; any error becomes an InputError."""
        try:
            # A CutMcap has all of a path that an MCAP reader uses.
            reader = self._stack.enter_context(Reader(cast(Path, part)))
        # The parsers below raise anything on damaged bytes: struct.error, KeyError, apsw and zstd errors.
        except Exception as error:
            raise self._damaged(part, error) from error
        if isinstance(part, CutMcap):
            self.damage = InputError(
                'bag_truncated',
                f'{part} is cut off or its index is damaged: {reader.message_count} messages can be '
                f'read, the last {part.size - part.whole} of {part.size} bytes cannot; record it again, or keep the '
                'readable part with `mcap recover`',
            )
        return reader

    def _damaged(self, part: object, error: Exception) -> InputError:
        """Return the error for a part that cannot be read at all, or no further."""
        part = self._unpacked.get(part, part) if isinstance(part, Path) else part
        if isinstance(error, ChunkTooLarge):
            return InputError(
                'bag_unpack', f'{part} {error}, as no recorder writes; it is damaged or made to fill the memory'
            )
        if 'Profile is not ros2' in str(error):
            return InputError(
                'bag_format', f'{part} is an MCAP file of another system than ROS 2; record it with ROS 2'
            )
        return InputError(
            'bag_truncated',
            f'{part} is damaged or cut off ({type(error).__name__}: {error}); record it '
            'again, or repair it with `mcap recover` (.mcap) or `sqlite3 bag.db3 .recover` (.db3)',
        )

    def _read_topics(self) -> dict[str, Topic]:
        """Collect the topics of all parts.

        Raises:
            InputError: 'bag_type' when one topic was recorded with two types.
        """
        topics: dict[str, Topic] = {}
        for connection in (item for reader in self._readers for item in reader.connections):
            topic = _topic(connection)
            known = topics.setdefault(topic.name, replace(topic, count=0))
            if known.type != topic.type:
                raise InputError(
                    'bag_type',
                    f'{topic.name} in {self.path} was recorded both as {known.type} and as '
                    f'{topic.type}; record the two under different names',
                )
            topics[topic.name] = replace(known, count=known.count + topic.count)
        return topics

    def _messages(self, wanted: set[str], start_ns: int | None) -> Iterator[BagMessage]:
        """Yield the messages of all parts and raise the damage after the last one."""
        damages: list[InputError] = []
        parts = [self._messages_of(reader, wanted, start_ns, damages) for reader in self._readers]
        if _overlap(self._readers):
            yield from heapq.merge(*parts, key=lambda message: message.stamp_ns)
        else:
            for part in parts:
                yield from part
        if damages or self.damage:
            raise self.damage or damages[0]

    def _messages_of(
        self, reader: Reader, wanted: set[str], start_ns: int | None, damages: list[InputError]
    ) -> Iterator[BagMessage]:
        """Yield the messages of one part; its damage ends them and is added to the list."""
        connections = [connection for connection in reader.connections if connection.topic in wanted]
        if not connections:
            return
        messages = reader.messages(connections, start=start_ns)
        while True:
            try:
                item = next(messages, None)
            except Exception as error:  # as in _open
                damages.append(self._damaged(reader.path, error))
                return
            if item is None:
                return
            connection, stamp, raw = item
            try:
                raw = _cdr(raw, reader.path)
            except InputError as error:
                damages.append(error)
                return
            yield BagMessage(connection.topic, stamp, raw, connection.msgtype)


def _is_cut_mcap(file: Path) -> bool:
    return file.suffix == '.mcap' and is_cut(file)


def _overlap(parts: Sequence[Any]) -> bool:
    """Return True if a part, a reader or its metadata, begins before an earlier one has ended."""
    filled = sorted((part.start_time, part.end_time) for part in parts if part.message_count)
    # An end is the first nanosecond after the last message.
    return any(later[0] < earlier[1] - 1 for earlier, later in itertools.pairwise(filled))


def _topic(connection: Connection) -> Topic:
    """Return the topic of a connection."""
    offered = cast(ConnectionExtRosbag2, connection.ext).offered_qos_profiles
    reliability = {QosReliability.RELIABLE: True, QosReliability.BEST_EFFORT: False}
    return Topic(
        connection.topic,
        connection.msgtype,
        connection.msgcount,
        reliable=reliability.get(offered[0].reliability) if offered else None,
        latched=any(qos.durability == QosDurability.TRANSIENT_LOCAL for qos in offered),
    )


def _cdr(raw: bytes, path: object) -> bytes:
    """Return the message as it was published.

    Raises:
        InputError: 'bag_format': it neither begins as CDR does nor is it compressed with zstd.
    """
    if raw[:4] == ZSTD:  # only the metadata of a folder says that each message was compressed
        return unpacked_message(raw, path)
    if raw[:1] != b'\0':
        raise InputError(
            'bag_format', f'the messages of {path} are neither CDR nor compressed with zstd; record it with ROS 2'
        )
    return raw
