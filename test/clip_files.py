"""Small real video files: written by OpenCV as mp4v, with the header of the container changed where a test needs it."""

import struct
from pathlib import Path

import cv2
import numpy as np

SIZE = (64, 48)
PARENTS = (b'moov', b'trak', b'mdia', b'minf', b'stbl', b'stts')


def write_clip(path: Path, *, fps: float = 10.0, images: int = 6, size: tuple[int, int] = SIZE) -> Path:
    """Write images (width, height) whose blue grows by 20 and whose red is 200."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*'mp4v'), fps, size)
    assert writer.isOpened()
    for number in range(images):
        image = np.zeros((size[1], size[0], 3), np.uint8)
        image[:] = (20 * number, 0, 200)
        # The upper left corner is white, so that a rotation shows.
        image[: size[1] // 2, : size[0] // 2] = 255
        writer.write(image)
    writer.release()
    return path


def rotate_by_metadata(path: Path) -> None:
    """Give a clip the matrix with which a phone says that it was turned by a quarter, clockwise."""
    data = bytearray(path.read_bytes())
    at = data.find(b'tkhd') + 44
    data[at : at + 36] = struct.pack('>9i', 0, 0x10000, 0, -0x10000, 0, 0, 0, 0, 0x40000000)
    path.write_bytes(data)


def set_steps(path: Path, shares: list[float]) -> None:
    """Give each image of a clip of constant rate a duration of its own, in parts of the former; they add up to it."""
    data = bytearray(path.read_bytes())
    at = 0
    places = [at := data.find(name, at) for name in PARENTS]
    entries, count, ticks = struct.unpack_from('>3I', data, at + 8)
    assert (entries, count, sum(shares)) == (1, len(shares), len(shares))
    table = b''.join(struct.pack('>2I', 1, round(share * ticks)) for share in shares)
    data[at + 8 : at + 20] = struct.pack('>I', count) + table
    for place in places:
        (size,) = struct.unpack_from('>I', data, place - 4)
        struct.pack_into('>I', data, place - 4, size + len(table) - 8)
    path.write_bytes(data)
