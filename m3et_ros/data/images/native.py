"""Resize frames and choose classes by the functions of frames.cpp, in fewer passes over memory than OpenCV and NumPy.

They serve after `load` has opened the built library and found them equal to OpenCV; without it `data.preprocess` does
the same with OpenCV. `m3et_ros.runtime.kernels` builds the library.
"""

import ctypes
from pathlib import Path
from typing import Any

import cv2
import numpy as np

SOURCE = Path(__file__).with_name('frames.cpp')

_library: ctypes.CDLL | None = None


def load(path: str) -> None:
    """Use the library at `path` from now on.

    Raises:
        OSError: the file is not a library of these functions, or they differ from OpenCV's.
    """
    global _library
    found = ctypes.CDLL(path)
    if not hasattr(found, 'm3et_best_class'):
        raise OSError(f'{path} is not a library of these functions; run m3et build kernels again')
    _library = found
    if not _agrees():
        unload()
        raise OSError('they differ from OpenCV')


def unload() -> None:
    """Stop using the library."""
    global _library
    _library = None


def loaded() -> bool:
    """Return True while the library serves."""
    return _library is not None


def takes(image: np.ndarray, size: int) -> bool:
    """Return True where the library serves and can squeeze an image (H, W, ...) to (S, S).

    It cannot where both sides are whole multiples of S, which OpenCV computes in another order, and where pixels have
    gaps between them.
    """
    height, width = image.shape[:2]
    whole = height % size == 0 and width % size == 0
    return _library is not None and min(height, width) >= size and not whole and image.flags.c_contiguous


def area_rgb(rgb: np.ndarray, size: int, factor: np.ndarray, offset: np.ndarray) -> np.ndarray:
    """Squeeze colours that `takes` accepts by means over areas, rounded as cv2.INTER_AREA rounds, and standardise them.

    Args:
        rgb: (H, W, 3) uint8.
        size: side S of the square.
        factor: multiplies the colours 0..255, (3,) float32.
        offset: is subtracted then, (3,) float32.

    Returns:
        (3, S, S) float32.
    """
    planes = np.empty((3, size, size), np.float32)
    _call('area_rgb', rgb, *rgb.shape[:2], size, np.ascontiguousarray(factor), np.ascontiguousarray(offset), planes)
    return planes


def area_depth(depth: np.ndarray, size: int) -> np.ndarray:
    """Squeeze depth (H, W) float32 that `takes` accepts to (S, S) by means over the known pixels of an area.

    A pixel is NaN where less than a thousandth of its area is known.
    """
    small = np.empty((size, size), np.float32)
    _call('area_depth', depth, *depth.shape, size, small)
    return small


def halve_depth(depth: np.ndarray) -> np.ndarray | None:
    """Halve depth (H, W) float32: means of the known pixels of two by two, NaN where none of them is.

    Returns:
        (H / 2, W / 2) float32; None for odd sizes, depth of another kind, or without the library.
    """
    height, width = depth.shape
    if not _is_plain(depth) or height % 2 or width % 2:
        return None
    half = np.empty((height // 2, width // 2), np.float32)
    _call('halve_depth', depth, height, width, half)
    return half


def join_depth(depth: np.ndarray, coarse: np.ndarray) -> np.ndarray | None:
    """Fill the unknown pixels of depth (H, W) from coarse depth, enlarged linearly; both float32 in metres.

    Returns:
        (H, W) float32, NaN where the enlarged depth is not positive; None for depth of another kind, or without the
        library.
    """
    if not _is_plain(depth) or not _is_plain(coarse):
        return None
    filled = np.empty_like(depth)
    _call('join_depth', depth, *depth.shape, coarse, *coarse.shape, filled)
    return filled


def _is_plain(depth: np.ndarray) -> bool:
    return _library is not None and depth.dtype == np.float32 and depth.flags.c_contiguous


def best_class(scores: np.ndarray, size: int) -> np.ndarray | None:
    """Return the likeliest class of each pixel, (S, S) uint8, of scores that are enlarged linearly.

    Args:
        scores: (C, s, s) float32 with at most 256 classes; s is at most S.
        size: S.

    Returns:
        The classes; of equal ones the first. None where a score is not finite or the library does not serve.
    """
    if _library is None:
        return None
    classes = np.empty((size, size), np.uint8)
    whole = _call('best_class', np.ascontiguousarray(scores, np.float32), *scores.shape[:2], size, classes)
    return classes if whole else None


def _call(name: str, *arguments: Any) -> int:
    assert _library is not None
    return getattr(_library, f'm3et_{name}')(
        *(ctypes.c_void_p(a.ctypes.data) if isinstance(a, np.ndarray) else ctypes.c_int(a) for a in arguments)
    )


def _agrees() -> bool:
    """Return True if the library gives what OpenCV gives: colours to a grey level, depth to a millionth, classes."""
    random, size = np.random.default_rng(0), 7
    rgb, depth = random.integers(0, 256, (19, 33, 3), np.uint8), random.random((19, 33), np.float32)
    depth[:4, :6] = np.nan
    one, zero = np.ones(3, np.float32), np.zeros(3, np.float32)
    colours = area_rgb(rgb, size, one, zero).transpose(1, 2, 0)
    if np.abs(colours - cv2.resize(rgb, (size, size), interpolation=cv2.INTER_AREA)).max() > 1:
        return False
    known = np.isfinite(depth)
    share, total = (
        cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA)
        for image in (known.astype(np.float32), np.where(known, depth, np.float32(0)))
    )
    wanted = np.where(share > 1e-3, total / np.maximum(share, 1e-3), np.float32(np.nan))
    if not np.allclose(area_depth(depth, size), wanted, rtol=1e-6, atol=0, equal_nan=True):
        return False
    half, cells = halve_depth(depth[:18, :32].copy()), depth[:18, :32].reshape(9, 2, 16, 2)
    if half is None or not np.allclose(half[3:], cells[3:].mean((1, 3)), rtol=1e-6, atol=0):
        return False
    filled, larger = join_depth(depth, wanted), cv2.resize(wanted, (33, 19), interpolation=cv2.INTER_LINEAR)
    if filled is None or not np.allclose(filled, np.where(known, depth, larger), rtol=1e-6, atol=0, equal_nan=True):
        return False
    scores = random.random((5, size, size), np.float32)
    smooth = cv2.resize(scores.transpose(1, 2, 0), (4 * size, 4 * size), interpolation=cv2.INTER_LINEAR)
    found = best_class(scores, 4 * size)
    return found is not None and np.array_equal(found, smooth.argmax(-1))
