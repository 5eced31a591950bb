"""Depth and masks in space: points, instances of classes, and boxes around what is seen of them.

Everything is in the camera's optical frame (REP 103): x right, y down, z forward, in metres. The centre of the first
pixel is (0, 0), u counts from the left and v from the top. Lenses are ideal: rectify the images of wide ones.

Symbols: H, W height and width of the image in pixels; n pixels of an instance; K pinhole intrinsics (3, 3).
"""

from dataclasses import dataclass

import cv2
import numpy as np

from m3et_ros.models.m3et.config import UNLABELLED

SIDE = 320
"""Pixels along the longer side at which instances are looked for: the classes of the model are coarser still."""

LEAST_SHARE = 0.0006
"""Least share of the picture of an instance, that of the things which questions of the kitchen are about."""

LEAST_PART = 0.5
"""Share of the largest part of a region of the mask from which another part is an instance too. The smaller ones are
what lies before or behind the thing where its mask overlaps that."""

JUMP_M, JUMP_SHARE = 0.04, 0.04
"""Two neighbouring pixels belong to one surface if their depths differ by less than these metres, or this share."""

INSIDE = 3.0
"""Points farther from the median depth than this many deviations do not belong to an instance: its mask overlaps what
is behind it."""

LEAST_DEVIATION = 0.02
"""Least deviation of the depth, in metres, so that a flat thing that faces the camera is not cut."""

OUTER = 0.02
"""Share of the points that a box leaves out on either side of each axis."""


@dataclass(frozen=True)
class PixelRegion:
    """Connected pixels of one class."""

    # Class id.
    label: int
    # Left, top, width and height of its pixels.
    box: tuple[int, int, int, int]
    # Columns and rows of its pixels, (n,) int64 each; every `step`-th of either where the image is large.
    u: np.ndarray
    v: np.ndarray
    step: int = 1

    @property
    def area(self) -> int:
        """Number of pixels of the image that it covers."""
        return len(self.u) * self.step**2

    def inner(self) -> tuple[int, int]:
        """Return the column and row of the pixel that is farthest from its border; it lies on the instance."""
        left, top, width, height = self.box
        mask = np.zeros((height // self.step + 3, width // self.step + 3), np.uint8)
        rows, columns = (self.v - top) // self.step + 1, (self.u - left) // self.step + 1
        mask[rows, columns] = 1
        deep = int(cv2.distanceTransform(mask, cv2.DIST_L2, 3)[rows, columns].argmax())
        return int(self.u[deep]), int(self.v[deep])


@dataclass(frozen=True)
class Solid:
    """A box around the visible part of an instance, along the axes of the optical frame."""

    # Middle (x, y, z) and extent along x, y and z, in metres.
    position: tuple[float, float, float]
    size: tuple[float, float, float]
    # Share of its depth that was measured, 0..1.
    measured: float


def points_of(depth: np.ndarray, K: np.ndarray) -> np.ndarray:
    """Return the point of every pixel, (H, W, 3) float32 in metres, NaN where the depth (H, W) is."""
    height, width = depth.shape
    x = ((np.arange(width) - K[0, 2]) / K[0, 0]).astype(np.float32)
    y = ((np.arange(height) - K[1, 2]) / K[1, 1]).astype(np.float32)
    return np.dstack([depth * x, depth * y[:, None], depth])


def instances(mask: np.ndarray, depth: np.ndarray | None = None) -> list[PixelRegion]:
    """Return the instances of all classes: connected pixels without a jump of depth, the large ones first.

    Things of a class that touch in the picture, at the same depth, are one instance.

    Args:
        mask: class ids (H, W) uint8; UNLABELLED belongs to nothing.
        depth: metres (H, W), NaN unknown; None splits nothing.
    """
    step = max(1, round(max(mask.shape) / SIDE))
    small = mask[::step, ::step]
    whole = np.ones(small.shape, bool) if depth is None else ~jumps(depth[::step, ::step])
    least = LEAST_SHARE * small.size
    found = []
    for label in np.unique(small).tolist():
        if label == UNLABELLED:
            continue
        _, regions = cv2.connectedComponents((small == label).astype(np.uint8), connectivity=4)
        count, parts, stats, _ = cv2.connectedComponentsWithStats(
            ((small == label) & whole).astype(np.uint8), connectivity=4
        )
        largest: dict[int, int] = {}
        for part in sorted(range(1, count), key=lambda one: -stats[one, cv2.CC_STAT_AREA]):
            left, top, width, height, area = stats[part].tolist()
            if area < least:
                break
            rows, columns = np.nonzero(parts[top : top + height, left : left + width] == part)
            region = int(regions[top + rows[0], left + columns[0]])
            if area >= LEAST_PART * largest.setdefault(region, area):
                box = (left, top, width, height)
                found.append(_scaled(label, box, columns + left, rows + top, step, mask.shape))
    return sorted(found, key=lambda one: -one.area)


def _scaled(
    label: int, box: tuple[int, ...], u: np.ndarray, v: np.ndarray, step: int, shape: tuple[int, ...]
) -> PixelRegion:
    left, top, width, height = (step * side for side in box)
    return PixelRegion(
        label, (left, top, min(width, shape[1] - left), min(height, shape[0] - top)), u * step, v * step, step
    )


def jumps(depth: np.ndarray) -> np.ndarray:
    """Return the pixels (H, W) bool whose depth differs from that of the pixel on the right or below by a jump."""
    least = np.maximum(JUMP_M, JUMP_SHARE * depth)
    found = np.zeros(depth.shape, bool)
    with np.errstate(invalid='ignore'):
        found[:, :-1] = np.abs(np.diff(depth, axis=1)) > least[:, :-1]
        found[:-1] |= np.abs(np.diff(depth, axis=0)) > least[:-1]
    return found


def solid(instance: PixelRegion, depth: np.ndarray, K: np.ndarray, measured: np.ndarray | None = None) -> Solid | None:
    """Return the box around an instance; None without depth.

    Args:
        instance: pixels of the image.
        depth: completed metres (H, W), NaN unknown.
        K: intrinsics.
        measured: metres as the camera gave them, NaN elsewhere; None where all of the depth is measured.
    """
    z = depth[instance.v, instance.u].astype(np.float64)
    known = np.isfinite(z)
    if not known.any():
        return None
    middle = np.median(z[known])
    deviation = max(1.4826 * np.median(np.abs(z[known] - middle)), LEAST_DEVIATION)
    with np.errstate(invalid='ignore'):
        inside = known & (np.abs(z - middle) <= INSIDE * deviation)
    u, v, z = instance.u[inside], instance.v[inside], z[inside]
    points = np.stack([(u - K[0, 2]) / K[0, 0] * z, (v - K[1, 2]) / K[1, 1] * z, z], 1)
    low, high = np.quantile(points, (OUTER, 1 - OUTER), axis=0)
    share = 1.0 if measured is None else float(np.isfinite(measured[v, u]).mean())
    x, y, z = ((low + high) / 2).tolist()
    return Solid((x, y, z), tuple((high - low).tolist()), share)
