"""Scores of measured frames as JSON: PSNR, depth errors, segmentation, and the model against the hole fillers.

Symbols: n frames, K classes.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from m3et_ros.evaluation.batches import rounded, scored
from m3et_ros.evaluation.metrics.depth import depth_rates
from m3et_ros.evaluation.metrics.hole_filling import FILLERS
from m3et_ros.evaluation.metrics.intervals import POSITIVE, SHARE, mean_rows, ratio
from m3et_ros.evaluation.metrics.segmentation import class_iou, mean_iou, pixel_accuracy
from m3et_ros.evaluation.tasks.reconstruction import Frames

RATES = ('rmse_m', 'mae_m', 'delta1')
"""Names in reports of the rates of depth.depth_rates."""


def reconstruction_scores(frames: Frames, classes: Sequence[str] = ()) -> dict[str, Any]:
    """Score measured frames with 95 % intervals over clusters; measures that the model lacks are missing.

    Args:
        frames: measured frames.
        classes: names of the K classes; () leaves out the IoU of each class.

    Returns:
        'hidden' (70 % of the tokens hidden): psnr_hidden_db, psnr_pasted_db, rgb_hidden (share of colour patches), and
        depth and segmentation on the hidden patches. 'full' (colour and noisy depth): segmentation, depth in holes by
        model and fillers, and depth where it was measured. 'rgb_only' (no depth): depth and segmentation. RMSE, MAE and
        delta_1 are over all pixels of all frames. A class counts in miou if it occurs in the truth of the frames.
    """
    columns, clusters = frames.columns, frames.clusters
    result: dict[str, Any] = {'frames': len(frames.keys), 'hidden': {}, 'full': {}, 'rgb_only': {}}
    for column, name in (
        ('psnr_hidden', 'psnr_hidden_db'),
        ('psnr_pasted', 'psnr_pasted_db'),
        ('rgb_hidden', 'rgb_hidden'),
    ):
        if column in columns:
            result['hidden'][name] = _mean(columns[column], clusters)
    for part, depth, labels in (
        ('hidden', 'hidden_depth', 'hidden_labels'),
        ('full', 'known', 'labels'),
        ('rgb_only', 'rgb_only_depth', 'rgb_only_labels'),
    ):
        if depth in columns:
            result[part]['depth_where_measured' if depth == 'known' else 'depth'] = _depth(columns[depth], clusters)
        if labels in columns:
            result[part]['segmentation'] = _segmentation(columns[labels], clusters, classes)
    if 'holes_model' in columns:
        result['full']['depth_in_holes'] = _holes(columns, clusters)
    return result


def _mean(scores: np.ndarray, clusters: list[str]) -> dict[str, Any]:
    """Average the frames that have a score."""
    chosen = np.flatnonzero(np.isfinite(scores))
    return scored(mean_rows(scores[chosen]), ratio, [clusters[i] for i in chosen]) if len(chosen) else {'value': None}


def _rate(column: int) -> Callable[[np.ndarray], np.ndarray]:
    return lambda sums: depth_rates(sums)[..., column]


def _depth(sums: np.ndarray, clusters: list[str]) -> dict[str, Any]:
    return {'pixels': int(sums[:, 0].sum())} | {
        name: scored(sums, _rate(column), clusters, SHARE if name == 'delta1' else POSITIVE)
        for column, name in enumerate(RATES)
    }


def _holes(columns: dict[str, np.ndarray], clusters: list[str]) -> dict[str, Any]:
    """Return the errors of each depth_fill and of fillers in the holes, and the model's reduction of their RMSE."""
    model = columns['holes_model']
    result: dict[str, Any] = {
        'frames_with_holes': int((model[:, 0] > 0).sum()),
        'model': _depth(model, clusters),
        'model_alone': _depth(columns['holes_model_alone'], clusters),
        'auto': _depth(columns['holes_auto'], clusters),
        'smooth': _depth(columns['holes_smooth'], clusters),
    }
    for name in FILLERS:
        sums = columns[f'holes_{name}']
        both = np.concatenate([model, sums], 1)
        result[name] = _depth(sums, clusters) | {
            'model_below': scored(both, lambda s: 1 - _rate(0)(s[..., :4]) / _rate(0)(s[..., 4:]), clusters)
        }
    return result


def _segmentation(matrices: np.ndarray, clusters: list[str], classes: Sequence[str]) -> dict[str, Any]:
    n, K, _ = matrices.shape
    rows = matrices.reshape(n, K * K)

    def of(score: Callable[[np.ndarray], np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
        return lambda sums: score(sums.reshape(*sums.shape[:-1], K, K))

    total = matrices.sum(0)
    iou = class_iou(total)
    present = np.flatnonzero(total.sum(1))
    result = {
        'miou': scored(rows, of(mean_iou), clusters, SHARE),
        'classes': len(present),
        'pixel_accuracy': scored(rows, of(pixel_accuracy), clusters, SHARE),
        'pixels': int(total.sum()),
    }
    if classes:
        result['iou'] = {classes[i]: rounded(iou[i]) for i in present}
    return result


def frame_rows(frames: Frames) -> list[dict[str, Any]]:
    """Return a row of per_sample.csv for each frame; a missing score is None."""
    columns = frames.columns
    rows = [{'key': key} for key in frames.keys]
    for name, values in columns.items():
        if values.ndim == 1:
            found = {name: values}
        elif values.ndim == 2:
            found = {
                f'{name}_pixels': values[:, 0],
                f'{name}_rmse_m': depth_rates(values)[:, 0],
                f'{name}_delta1': depth_rates(values)[:, 2],
            }
        else:
            found = {f'{name}_miou': mean_iou(values), f'{name}_pixel_accuracy': pixel_accuracy(values)}
        for column, numbers in found.items():
            for row, number in zip(rows, numbers.tolist(), strict=True):
                row[column] = rounded(number)
    return rows
