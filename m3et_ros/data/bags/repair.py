"""Truncated MCAP files: find the end of the whole records and present that part as a file of its own.

A recorder that lost power leaves chunks without the index at the end of the file. Readers that start from the index
refuse such a file; here the index is rebuilt in memory from the chunk headers and nothing is written to disk.
Source: the MCAP specification, version 0 (records, opcodes, summary section).
"""

import io
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

MAGIC = b'\x89MCAP0\r\n'
CHUNK, MESSAGE, MESSAGE_INDEX, CHUNK_INDEX, STATISTICS, FOOTER, DATA_END = 0x06, 0x05, 0x07, 0x08, 0x0B, 0x02, 0x0F
KNOWN = range(0x01, 0x10)
"""Opcodes of the specification; a file system leaves zeros in blocks it never wrote."""


class Record(NamedTuple):
    """One record of the file: opcode, offset of its first byte and of the byte after it."""

    opcode: int
    start: int
    end: int


def is_cut(path: Path) -> bool:
    """Return True if a file begins as an MCAP file and does not end as one."""
    with path.open('rb') as file:
        begins = file.read(len(MAGIC)) == MAGIC
        file.seek(max(0, path.stat().st_size - len(MAGIC)))
        return begins and file.read() != MAGIC


def whole_records(file: BinaryIO, size: int) -> Iterator[Record]:
    """Yield the whole records in the data section of a file of `size` bytes."""
    start = len(MAGIC)
    while start + 9 <= size:
        file.seek(start)
        opcode, length = struct.unpack('<BQ', file.read(9))
        end = start + 9 + length
        if opcode not in KNOWN or opcode in (DATA_END, FOOTER) or end > size:
            return
        yield Record(opcode, start, end)
        start = end


def record(opcode: int, body: bytes) -> bytes:
    """Return the bytes of a record."""
    return struct.pack('<BQ', opcode, len(body)) + body


def text(value: bytes) -> bytes:
    """Return a length-prefixed string."""
    return struct.pack('<I', len(value)) + value


def chunk_index(file: BinaryIO, chunk: Record, indexes: list[Record]) -> bytes:
    """Return the chunk index record of a chunk, from its header and the message indexes that follow it."""
    file.seek(chunk.start + 9)
    start_time, end_time, raw_size, _, name_length = struct.unpack('<QQQII', file.read(32))
    compression = file.read(name_length)
    (packed_size,) = struct.unpack('<Q', file.read(8))
    offsets = b''
    for index in indexes:
        file.seek(index.start + 9)
        offsets += file.read(2) + struct.pack('<Q', index.start)
    return record(
        CHUNK_INDEX,
        struct.pack('<QQQQ', start_time, end_time, chunk.start, chunk.end - chunk.start)
        + text(offsets)
        + struct.pack('<Q', sum(index.end - index.start for index in indexes))
        + text(compression)
        + struct.pack('<QQ', packed_size, raw_size),
    )


def grouped(records: list[Record]) -> list[tuple[Record, list[Record]]]:
    """Return every chunk with the message indexes behind it."""
    groups: list[tuple[Record, list[Record]]] = []
    for item in records:
        if item.opcode == CHUNK:
            groups.append((item, []))
        elif item.opcode == MESSAGE_INDEX and groups:
            groups[-1][1].append(item)
    return groups


class CutMcap:
    """The readable part of a cut MCAP file, as the path-like object that rosbags' `Reader` opens.

    Attributes:
        whole: length in bytes of the part with whole records.
        size: bytes of the file.
    """

    suffix = '.mcap'

    def __init__(self, path: Path):
        self.path = path
        self.stem = path.stem
        self.size = path.stat().st_size
        with path.open('rb') as file:
            records = list(whole_records(file, self.size))
            groups = grouped(records)
            if any(indexes for _, indexes in groups) and records[-1].opcode in (CHUNK, MESSAGE_INDEX):
                file.seek(records[-1].end)
                # A reader skips a chunk without all its message indexes, so this one may have to be given up.
                if file.read(1) in (b'', bytes([MESSAGE_INDEX])):
                    records = records[: records.index(groups.pop()[0])]
            indexed = (
                bool(groups)
                and all(indexes for _, indexes in groups)
                and all(item.opcode != MESSAGE for item in records)
            )
            self.whole = records[-1].end if records else len(MAGIC)
            # Without message indexes (a recorder may leave them out) the reader reads the file from front to back.
            summary = b''.join(chunk_index(file, *group) for group in groups) if indexed else b''
        if summary:
            # Empty statistics make the reader count by itself; it finds schemas and channels inside the chunks.
            summary += record(STATISTICS, struct.pack('<QHIIIIQQI', 0, 0, 0, 0, 0, 0, 0, 0, 0))
        self.tail = summary + record(FOOTER, struct.pack('<QQI', self.whole if summary else 0, 0, 0)) + MAGIC

    def __str__(self) -> str:
        return str(self.path)

    def exists(self) -> bool:
        """Return True if the file exists, like Path.exists."""
        return self.path.exists()

    def is_dir(self) -> bool:
        """Return False: it is a file."""
        return False

    def open(self, mode: str = 'rb') -> io.BufferedReader:
        """Open the readable part, followed by the rebuilt index, for reading bytes."""
        return io.BufferedReader(_Spliced(cast(BinaryIO, self.path.open(mode)), self.whole, self.tail))


class _Spliced(io.RawIOBase):
    """The first `cut` bytes of a file followed by `tail`."""

    def __init__(self, file: BinaryIO, cut: int, tail: bytes):
        self._file, self._cut, self._tail, self._at = file, cut, tail, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = (0, self._at, self._cut + len(self._tail))[whence] + offset
        return self._at

    def readinto(self, buffer) -> int:
        if self._at < self._cut:
            self._file.seek(self._at)
            data = self._file.read(min(len(buffer), self._cut - self._at))
        else:
            data = self._tail[self._at - self._cut :][: len(buffer)]
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)

    def close(self) -> None:
        self._file.close()
        super().close()
