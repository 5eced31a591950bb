"""Pictures on disk: colours, depth in millimetres and label maps; errors name the file."""

import os
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np

from m3et_ros.data.errors import InputError
from m3et_ros.data.files import read_regular
from m3et_ros.data.images.compressed import rgb_from_compressed
from m3et_ros.data.images.messages import metres
from m3et_ros.data.images.sizes import PNG, check_claimed

MAX_BYTES = 2**29
"""Largest picture file: 64 million pixels of 16 bits and four channels."""
SUFFIXES = ('.jpg', '.jpeg', '.png')
"""Suffixes of colour pictures, in lower or upper case."""


def read_rgb(path: Path) -> np.ndarray:
    """Read colours (H, W, 3) uint8, R G B, of a JPEG or PNG; EXIF rotation is ignored.

    Raises:
        InputError: the file is missing, cut off, damaged or of another kind.
    """
    try:
        return rgb_from_compressed(SimpleNamespace(data=_bytes(path), format=path.name))
    except InputError as error:
        raise _unreadable(path, error.reason, 'it is empty, cut off or not a JPEG or PNG') from error


def read_depth(path: Path) -> np.ndarray:
    """Read depth (H, W) float32 in metres of a PNG of 16-bit millimetres; NaN where it holds 0 or 65535.

    Raises:
        InputError: the file is missing or no 16-bit grey PNG.
    """
    pixels = _grey(path)
    if pixels.dtype != np.uint16:
        raise _unreadable(path, 'depth_file', f'its pixels are {pixels.dtype} and depth is 16-bit millimetres')
    return metres(pixels)


def read_labels(path: Path) -> np.ndarray:
    """Read ids (H, W) uint8 or uint16 of a grey PNG, as the file has them.

    Raises:
        InputError: the file is missing or no grey PNG.
    """
    return _grey(path)


def list_pictures(folder: Path) -> list[str]:
    """Return the names of the colour pictures in a folder, sorted.

    Raises:
        InputError: there is no such folder.
    """
    return sorted(name for name in names_in(folder) if os.path.splitext(name)[1].lower() in SUFFIXES)


def png_of(name: str) -> str:
    """Return the name of the depth or label picture of a colour picture."""
    return f'{os.path.splitext(name)[0]}.png'


def names_in(folder: Path) -> list[str]:
    """Return the names of everything in a folder.

    Raises:
        InputError: there is no such folder, or it cannot be read.
    """
    try:
        return os.listdir(folder)
    except OSError as error:
        raise InputError(
            'data_missing', f'{folder} cannot be listed ({error.strerror}); give a folder that exists'
        ) from error


def check_complete(wanted: Iterable[str], folder: Path, what: str) -> None:
    """Refuse a folder in which files are missing.

    Args:
        wanted: names of the files.
        folder: to look in.
        what: plural noun for the files, for the message.

    Raises:
        InputError: 'data_missing'; the message gives the number of missing files and the first of them.
    """
    present = set(names_in(folder))
    missing = [name for name in wanted if name not in present]
    if missing:
        raise InputError(
            'data_missing',
            f'{folder} lacks {len(missing)} {what}, the first is {missing[0]}; put them '
            'there or leave their pictures out',
        )


def _grey(path: Path) -> np.ndarray:
    data = _bytes(path)
    check_claimed(data, str(path))
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED) if data.startswith(PNG) else None
    if pixels is None:
        raise _unreadable(path, 'image_file', 'it is empty, cut off or not a picture')
    if pixels.ndim != 2 or pixels.dtype not in (np.uint8, np.uint16):
        raise _unreadable(path, 'image_file', f'its pixels are {pixels.dtype} {pixels.shape[2:]}, not one grey value')
    return pixels


def _bytes(path: Path) -> bytes:
    try:
        return read_regular(path, 'give a picture', most=MAX_BYTES)
    except OSError as error:
        raise _unreadable(path, 'data_missing', str(error.strerror)) from error


def _unreadable(path: Path, reason: str, why: str) -> InputError:
    return InputError(reason, f'{path} cannot be read: {why}; replace the file or leave it out')
