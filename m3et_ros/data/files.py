"""Atomic writes, so that a file is complete or absent, and the refusal of a place that cannot be written."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from m3et_ros.data.errors import InputError


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
        raise InputError('out_unwritable', f'{path} cannot be written ({error.strerror}); {fix}') from error
