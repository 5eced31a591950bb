"""Mean intersection over union and pixel accuracy from additive confusion matrices (docs/papers.md 7.8).

A matrix is (K, K) int64 for K classes. Rows are the truth, columns the prediction, cells count pixels. Matrices may be
added over images.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from m3et_ros.data.frame import UNLABELLED
from m3et_ros.evaluation.metrics.arrays import to_numpy


@dataclass(frozen=True)
class SegmentationScores:
    """Scores over a set of pixels; NaN where there were none."""

    # Pixels that counted.
    pixels: int
    # Mean over the classes present in the truth, 0 to 1.
    miou: float
    # Share of pixels with the right class, 0 to 1.
    pixel_accuracy: float
    # Intersection over union of each class, (K,); NaN for a class that the truth lacks.
    iou: tuple[float, ...]


def confusion(prediction: ArrayLike, target: ArrayLike, classes: int, *, ignored: int = UNLABELLED) -> np.ndarray:
    """Return the confusion matrix of each image.

    Args:
        prediction: (B, ...) class ids 0 to K - 1 wherever the truth has a class.
        target: the same shape, class ids 0 to K - 1, or the ignored label.
        classes: number of classes, K.
        ignored: label of pixels that do not count.

    Returns:
        (B, K, K) int64.

    Raises:
        ValueError: shapes differ, or a counted id is out of range.
    """
    prediction, target = to_numpy(prediction), to_numpy(target)
    if prediction.shape != target.shape:
        raise ValueError(f'prediction is {prediction.shape}, truth {target.shape}; give both alike')
    size = len(target)
    counted = target.reshape(size, -1) != ignored
    image = np.broadcast_to(np.arange(size)[:, None], counted.shape)[counted]
    truth = _checked('truth', target.reshape(size, -1)[counted], classes)
    predicted = _checked('prediction', prediction.reshape(size, -1)[counted], classes)
    cells = np.bincount((image * classes + truth) * classes + predicted, minlength=size * classes**2)
    return cells.reshape(size, classes, classes)


def _checked(name: str, ids: np.ndarray, classes: int) -> np.ndarray:
    ids = ids.astype(np.int64)
    if ids.size and not (ids.min() >= 0 and ids.max() < classes):
        raise ValueError(f'{name} has ids from {ids.min()} to {ids.max()}; give 0 to {classes - 1}')
    return ids


def class_iou(matrices: ArrayLike) -> np.ndarray:
    """Return intersection over union (..., K) of matrices (..., K, K); NaN for a class that the truth lacks."""
    matrices = to_numpy(matrices)
    truth, predicted = matrices.sum(-1), matrices.sum(-2)
    hits = np.diagonal(matrices, axis1=-2, axis2=-1)
    union = truth + predicted - hits
    return np.where(truth > 0, hits, np.nan) / np.where(truth > 0, union, 1)


def mean_iou(matrices: ArrayLike, among: Sequence[int] | None = None) -> np.ndarray:
    """Return mean IoU (...) of matrices (..., K, K) over the classes present in the truth; NaN where none is.

    Args:
        matrices: confusion matrices, any leading shape.
        among: class ids to average over, for example those of training; None means all.
    """
    iou = class_iou(matrices)
    iou = iou if among is None else iou[..., list(among)]
    present = ~np.isnan(iou)
    count = present.sum(-1)
    return np.where(present, iou, 0).sum(-1) / np.where(count, count, np.nan)


def pixel_accuracy(matrices: ArrayLike) -> np.ndarray:
    """Return the share of right pixels (...) of matrices (..., K, K); NaN where there are none."""
    matrices = to_numpy(matrices)
    pixels = matrices.sum((-2, -1))
    return np.trace(matrices, axis1=-2, axis2=-1) / np.where(pixels > 0, pixels, np.nan)


def segmentation_scores(matrices: ArrayLike, among: Sequence[int] | None = None) -> SegmentationScores:
    """Return the scores over all pixels of matrices (B, K, K) or (K, K); `among` restricts miou as in mean_iou."""
    matrices = to_numpy(matrices)
    total = matrices.reshape(-1, *matrices.shape[-2:]).sum(0)
    return SegmentationScores(
        int(total.sum()), float(mean_iou(total, among)), float(pixel_accuracy(total)), tuple(class_iou(total).tolist())
    )
