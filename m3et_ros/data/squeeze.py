"""The whole view squeezed into a model's square: colours, depth and label maps. NumPy and OpenCV alone.

Glossary: H, W height and width of the view in pixels; S side of the square; s side of the label map.
"""

import cv2
import numpy as np


def squeeze_rgb(rgb: np.ndarray, size: int) -> np.ndarray:
    """Colours (S, S, 3) uint8 of an (H, W, 3) uint8 view: means over areas. A view of that size stays as it is."""
    if rgb.shape[:2] == (size, size):
        return rgb
    return cv2.resize(halved(rgb, size), (size, size), interpolation=cv2.INTER_AREA)


def halved(image: np.ndarray, size: int) -> np.ndarray:
    """The image halved as often as both of its sides stay even numbers of pixels and at least 2 S: a quick first step.

    Means over two by two pixels cost OpenCV a tenth of those over areas of any size.
    """
    while min(image.shape[:2]) >= 4 * size and not any(side % 2 for side in image.shape[:2]):
        image = cv2.resize(image, (image.shape[1] // 2, image.shape[0] // 2), interpolation=cv2.INTER_AREA)
    return image


def squeeze_depth(depth: np.ndarray, size: int) -> np.ndarray:
    """Depth (S, S) float32 of an (H, W) view in metres, NaN unknown.

    A small pixel is the mean of the known pixels it covers, so that holes do not bleed into their surroundings.
    """
    if depth.shape == (size, size):
        return depth
    known = np.isfinite(depth)
    weight, total = (cv2.resize(halved(image, size), (size, size), interpolation=cv2.INTER_AREA)
                     for image in (known.astype(np.float32), np.where(known, depth, 0).astype(np.float32)))
    covered = weight > 1e-3
    return np.where(covered, total / np.where(covered, weight, 1), np.float32(np.nan))


def squeeze_labels(labels: np.ndarray, size: int, *, votes: int = 4) -> np.ndarray:
    """Label map (s, s) uint8 of an (H, W) uint8 view: the commonest label of each cell, the smallest id on a draw.

    Args:
        labels: class ids, any uint8 value.
        size: s.
        votes: pixels that vote along each side of a cell.
    """
    fine = cv2.resize(labels, (size * votes, size * votes), interpolation=cv2.INTER_NEAREST)
    cells = fine.reshape(size, votes, size, votes).transpose(0, 2, 1, 3).reshape(size, size, votes ** 2)
    present = np.unique(cells)
    counts = (cells[..., None] == present).sum(2)
    return present[counts.argmax(-1)]
