"""Files of users and peers: atomic writes, the refusal of what cannot be written, and reading of regular files only."""

import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from m3et_ros.data.errors import InputError

MAX_BYTES = 2**32
"""Largest file that is read as a whole unless its reader sets another limit."""


@contextmanager
def write_atomically(path: Path) -> Iterator[Path]:
    """Yield a path beside `path` to write to; it takes the place of `path` when the block ends without an error.

        with write_atomically(folder / 'index.json') as part:
            part.write_text(text)

    A reader never finds half a file, and a file that was there stays when the block fails. The folder must exist.
    The yielded name does not end as `path` does, so a pattern such as '*.json' never finds it.

    Args:
        path: file to create or replace.

    Raises:
        OSError: raised by the block or by the renaming.
    """
    part = path.with_name(f'{path.name}.{os.getpid()}.part')
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def refuse_unwritable(path: Path, fix: str) -> Iterator[None]:
    """Turn an OSError of the block into a refusal.

    Args:
        path: file or folder that the block writes.
        fix: end of the sentence, such as 'give a writable folder with free space'.

    Raises:
        InputError: 'out_unwritable'.
    """
    try:
        yield
    except OSError as error:
        raise InputError('out_unwritable', f'{path} cannot be written ({error.strerror or error}); {fix}') from error


@contextmanager
def open_regular(path: Path, fix: str, *, most: int = MAX_BYTES) -> Iterator[BinaryIO]:
    """Open a regular file for reading; nothing else can block, be endless or be changed by reading.

    Args:
        path: file to read; symbolic links are followed.
        fix: end of the sentence, such as 'give a checkpoint folder'.
        most: largest size in bytes.

    Yields:
        The opened file.

    Raises:
        InputError: 'not_a_file', the path is a folder, a FIFO, a socket or a device; 'file_size', it is too large.
        OSError: it is missing or may not be read.
    """
    # Opening a FIFO without this flag waits for a writer.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode):
            raise InputError('not_a_file', f'{path} is {_kind(facts.st_mode)} and no regular file; {fix}.')
        if facts.st_size > most:
            raise InputError('file_size', f'{path} is larger than {most} bytes; {fix}.')
        with os.fdopen(descriptor, 'rb', closefd=False) as file:
            yield file
    finally:
        os.close(descriptor)


def read_regular(path: Path, fix: str, *, most: int = MAX_BYTES) -> bytes:
    """Return the content of a regular file; arguments and errors are those of open_regular."""
    with open_regular(path, fix, most=most) as file:
        return file.read(most + 1)


def parse_json(data: bytes) -> Any:
    """Parse a JSON document of a user.

    Raises:
        ValueError: it is no JSON in UTF-8, or a text of it holds half of a surrogate pair, which no file can hold.
        RecursionError: it is nested too deeply.
    """
    value = json.loads(data.decode())
    if rb'\u' in data:
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            half = error.object[error.start].encode('unicode_escape').decode()
            raise ValueError(f'{half} is no character') from error
    return value


def check_regular(path: Path, fix: str) -> None:
    """Refuse a path that exists and is no regular file, for readers that open it by its name.

    Args:
        path: file to read; symbolic links are followed.
        fix: end of the sentence.

    Raises:
        InputError: 'not_a_file'.
    """
    # Path.exists raises where the system refuses a name, for example as too long.
    if os.path.exists(path) and not path.is_file():
        raise InputError('not_a_file', f'{path} is {_kind(path.stat().st_mode)} and no regular file; {fix}.')


def map_array(path: Path) -> np.ndarray:
    """Map the array of a .npy file of a user into memory, read-only.

    Raises:
        ValueError: the file is damaged, or holds several arrays or Python objects.
        OSError: it is missing or may not be read.
    """
    try:
        stored = np.load(path, mmap_mode='r', allow_pickle=False)
    except OSError:
        raise
    except Exception as error:  # the header is parsed as Python text, which raises anything, such as TokenError
        raise ValueError(' '.join(str(error).split())) from error
    if not isinstance(stored, np.ndarray):
        raise ValueError('it holds several arrays')
    return stored


def _kind(mode: int) -> str:
    names = {stat.S_IFDIR: 'a folder', stat.S_IFIFO: 'a FIFO', stat.S_IFSOCK: 'a socket'}
    return names.get(stat.S_IFMT(mode), 'a device')
