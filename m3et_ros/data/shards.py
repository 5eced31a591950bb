"""Shards: blocks of frames on disk, two memory-mapped arrays and a header, written atomically.

A shard is a folder: frames.npy (one record per frame), questions.npy (one record per question) and header.json. It is
written under a temporary name and renamed, so a shard with its own name is complete, whenever the writer was killed.
"""

import errno
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from m3et_ros.data.errors import InputError

FORMAT = 'm3et-shard-1'
PART = '.part-'
"""First letters of the name of an unfinished shard."""

QUESTION = np.dtype([('question', '<u2'), ('answer', '<i2'), ('held_out', 'u1')])
"""Positions in the header's questions and in its answers, and 1 for a question about a held-out combination."""


def frame_type(size: int, stride: int = 4) -> np.dtype:
    """Return the record type of one frame, with an image of side `size` and labels of side `size / stride`.

    depth is in millimetres, 0 unknown; semseg is 255 where unlabelled; actions are verb and noun, -1 for none; the
    questions of the frame are [first, first + asked) of questions.npy.

    Raises:
        ValueError: size is not a multiple of stride from stride to 1024.
    """
    if size % stride or not stride <= size <= 1024:
        raise ValueError(f'size is {size}; give a multiple of {stride} from {stride} to 1024')
    small = size // stride
    return np.dtype(
        [
            ('rgb', 'u1', (size, size, 3)),
            ('depth', '<u2', (size, size)),
            ('semseg', 'u1', (small, small)),
            ('seed', '<i8'),
            ('tick', '<i4'),
            ('now', '<i2', 2),
            ('next', '<i2', 2),
            ('first', '<u4'),
            ('asked', '<u4'),
        ]
    )


@dataclass(frozen=True)
class Shard:
    """One shard, open for reading."""

    # Records of frame_type, (frames,), memory-mapped.
    frames: np.ndarray
    # Records of QUESTION, (questions,), memory-mapped.
    questions: np.ndarray
    # Header of the writer; `questions` and `answers` hold the words that the records point at, `seed` and `asked`
    # repeat these fields of the frames, so that a cache is indexed without reading its pictures.
    header: dict


def write_shard(folder: Path, frames: np.ndarray, questions: np.ndarray, header: dict) -> None:
    """Write a shard as a whole; one that is there already stays.

    Raises:
        InputError: the disk is full or cannot be written.
    """
    part = folder.with_name(f'{PART}{folder.name}-{os.getpid()}')
    try:
        part.mkdir(parents=True)
        for name, values in (('frames', frames), ('questions', questions)):
            with (part / f'{name}.npy').open('wb') as file:
                np.save(file, values, allow_pickle=False)
                _sync(file)
        with (part / 'header.json').open('w', encoding='utf-8') as file:
            json.dump(
                {'format': FORMAT, **header, 'seed': frames['seed'].tolist(), 'asked': frames['asked'].tolist()}, file
            )
            _sync(file)
        part.rename(folder)
    except OSError as error:
        shutil.rmtree(part, ignore_errors=True)
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):  # another writer was first
            return
        remedy = 'free some space' if error.errno in (errno.ENOSPC, errno.EDQUOT) else 'give a folder to write in'
        raise InputError(
            'cache_unwritable',
            f'{folder.name} could not be written to {folder.parent} '
            f'({error.strerror or error}); {remedy} and run it again: finished shards are kept.',
        ) from error


def _sync(file: IO) -> None:
    """Bring a file to the disk before its folder gets its name."""
    file.flush()
    os.fsync(file.fileno())


def read_header(folder: Path) -> dict:
    """Return the header of a shard.

    Raises:
        InputError: the folder is not a shard.
    """
    try:
        header = json.loads((folder / 'header.json').read_text(encoding='utf-8'))
        if header['format'] == FORMAT:
            return header
        found = f'its format is {header["format"]!r}'
    except (OSError, ValueError, KeyError, TypeError) as error:
        found = f'{type(error).__name__}: {error}'
    raise InputError(
        'foreign_cache', f'{folder} is not a shard of format {FORMAT} ({found}); delete it and generate it again.'
    )


def open_shard(folder: Path) -> Shard:
    """Map a shard into memory.

    Raises:
        InputError: the folder is not a shard, or its arrays are damaged.
    """
    header = read_header(folder)
    try:
        frames, questions = (
            np.load(folder / f'{name}.npy', mmap_mode='r', allow_pickle=False) for name in ('frames', 'questions')
        )
        whole = (
            frames.dtype == frame_type(frames.dtype['rgb'].shape[0])
            and questions.dtype == QUESTION
            and len(header['asked']) == len(header['seed']) == len(frames)
            and sum(header['asked']) == len(questions)
        )
    except (OSError, ValueError, KeyError, IndexError, TypeError, EOFError) as error:
        raise InputError('foreign_cache', f'{folder} is damaged ({error}); delete it and generate it again.') from error
    if not whole:
        raise InputError(
            'foreign_cache', f'{folder} holds other arrays than {FORMAT} does; delete it and generate it again.'
        )
    return Shard(frames, questions, header)


def clear_parts(folder: Path) -> None:
    """Remove unfinished shards of killed writers; nobody else may be writing to the folder."""
    for part in folder.glob(f'{PART}*'):
        shutil.rmtree(part)
