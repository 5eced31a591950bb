"""Compressed recordings: whole files (.mcap.zstd, .db3.zstd), chunks of an MCAP file, and single messages.

A small file may claim or unpack to more than the memory or the disk holds, so everything is unpacked up to a limit.
"""

import shutil
import sys
from pathlib import Path

from lz4.frame import LZ4FrameDecompressor
from rosbags.rosbag2 import storage_mcap

from m3et_ros.data.errors import InputError
from m3et_ros.data.files import check_regular

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

PACKED = ('.zstd', '.zst')
ZSTD = b'\x28\xb5\x2f\xfd'
"""First bytes of a zstd frame (RFC 8878, section 3.1.1)."""
BLOCK = 1 << 22
SPARE = 1 << 27
"""Bytes of the disk that unpacking leaves free."""
LARGEST = 1 << 30
"""Most bytes of one message, and of one chunk: 64 million pixels of 16 bytes."""
HARMLESS = 1 << 26
"""Bytes that a file or a chunk may unpack to however small it is."""
MOST_TIMES = 1000
"""Most bytes, beyond HARMLESS, for each compressed byte; images of one colour come near it, recordings do not."""


class ChunkTooLarge(Exception):  # noqa: N818 - named as the refusal that its reader makes of it
    """A chunk of an MCAP file claims, or unpacks to, what no recorder writes."""


def largest(packed: int) -> int:
    """Return the most bytes that `packed` compressed bytes may unpack to."""
    return max(HARMLESS, MOST_TIMES * packed)


def unpacked_chunk(data: bytes, size: int, compression: str) -> bytes:
    """Unpack a chunk of an MCAP file, at most one byte more than its header claims.

    Args:
        data: the compressed records.
        size: bytes that the header of the chunk claims.
        compression: 'zstd' or 'lz4'.

    Raises:
        ChunkTooLarge: the claim is beyond all limits, or more comes out.
    """
    if size > min(largest(len(data)), LARGEST):
        raise ChunkTooLarge(f'has a chunk of {len(data)} bytes that claims to unpack to {size}')
    found = b''
    while data and len(found) <= size:
        unpacker = zstd.ZstdDecompressor() if compression == 'zstd' else LZ4FrameDecompressor()
        found += unpacker.decompress(data, max_length=size + 1 - len(found))
        if not unpacker.eof:
            break
        data = unpacker.unused_data or b''
    if len(found) > size:
        raise ChunkTooLarge(f'has a chunk that unpacks to more than the {size} bytes of its header')
    return found


# rosbags unpacks a chunk without any limit.
storage_mcap.DECOMPRESSORS.update(
    zstd=lambda data, size: unpacked_chunk(data, size, 'zstd'), lz4=lambda data, size: unpacked_chunk(data, size, 'lz4')
)


def unpack(file: Path, folder: Path) -> Path:
    """Unpack a compressed recording into a folder and return the new file.

    Args:
        file: the recording, such as kitchen.mcap.zstd.
        folder: where to write kitchen.mcap; must exist.

    Raises:
        InputError: 'bag_unpack', the disk has no room for it, or it unpacks to more than recordings do;
            'bag_truncated', it is damaged or cut off; 'not_a_file'.
    """
    check_regular(file, 'give a rosbag2 folder, .mcap, .db3 or .zstd file')
    target = folder / file.stem
    fix = f'unpack it yourself with `zstd -d {file.name}` where there is room, or set TMPDIR to such a folder'
    room = largest(file.stat().st_size)
    try:
        with zstd.open(file, 'rb') as packed, target.open('wb') as unpacked:
            while block := packed.read(BLOCK):
                if shutil.disk_usage(folder).free < len(block) + SPARE:
                    raise InputError(
                        'bag_unpack', f'{file} does not fit into {folder}, which has no more free space; {fix}'
                    )
                room -= len(block)
                if room < 0:
                    raise InputError(
                        'bag_unpack',
                        f'{file} unpacks to more than {MOST_TIMES} times its size, as no recording does; if it is one '
                        f'nevertheless, unpack it yourself with `zstd -d {file.name}`',
                    )
                unpacked.write(block)
    except (zstd.ZstdError, EOFError) as error:
        raise InputError(
            'bag_truncated', f'{file} is damaged or cut off ({error}); compress or record it again'
        ) from error
    except OSError as error:
        raise InputError('bag_unpack', f'{file} cannot be unpacked into {folder} ({error.strerror}); {fix}') from error
    return target


def unpacked_message(raw: bytes, where: object) -> bytes:
    """Return the message that a recorder compressed with zstd.

    Args:
        raw: a zstd frame.
        where: the recording, for the error.

    Raises:
        InputError: 'bag_message', it is damaged or larger than LARGEST.
    """
    try:
        message = zstd.ZstdDecompressor().decompress(raw, max_length=LARGEST)
    except zstd.ZstdError as error:
        raise InputError(
            'bag_message', f'a compressed message of {where} is damaged ({error}); record it again'
        ) from error
    if len(message) == LARGEST:
        raise InputError('bag_message', f'a message of {where} has more than {LARGEST >> 20} MiB; leave its topic out')
    return message
