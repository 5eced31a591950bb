"""Recordings that zstd compressed as a whole file, .mcap.zstd or .db3.zstd, and messages compressed one by one."""

import shutil
import sys
from pathlib import Path

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
"""Most bytes of one message: 64 million pixels of 16 bytes."""


def unpack(file: Path, folder: Path) -> Path:
    """Unpack a compressed recording into a folder and return the new file.

    Args:
        file: the recording, such as kitchen.mcap.zstd.
        folder: where to write kitchen.mcap; must exist.

    Raises:
        InputError: 'bag_unpack', the disk has no room for it; 'bag_truncated', it is damaged or cut off; 'not_a_file'.
    """
    check_regular(file, 'give a rosbag2 folder, .mcap, .db3 or .zstd file')
    target = folder / file.stem
    fix = f'unpack it yourself with `zstd -d {file.name}` where there is room, or set TMPDIR to such a folder'
    try:
        with zstd.open(file, 'rb') as packed, target.open('wb') as unpacked:
            while block := packed.read(BLOCK):
                if shutil.disk_usage(folder).free < len(block) + SPARE:
                    raise InputError(
                        'bag_unpack', f'{file} does not fit into {folder}, which has no more free space; {fix}'
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
