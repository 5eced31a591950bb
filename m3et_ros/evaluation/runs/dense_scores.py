"""Scores of measured frames, ready for JSON: PSNR, depth errors, segmentation, and how far below the hole fillers.

Symbols: n frames, K classes.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from torch import nn
from torch.utils.data import Dataset

from m3et_ros.data.samples import Sample
from m3et_ros.evaluation.depth import depth_rates
from m3et_ros.evaluation.holes import FILLERS
from m3et_ros.evaluation.intervals import mean_rows, ratio
from m3et_ros.evaluation.runs.dense import Frames, measure_frames
from m3et_ros.evaluation.runs.feed import kitchen_of, rounded, scored
from m3et_ros.evaluation.segmentation import class_iou, mean_iou, pixel_accuracy

RATES = ('rmse_m', 'mae_m', 'delta1')
"""What depth.depth_rates gives, by the names under which it is reported."""


def reconstruction_run(model: nn.Module, samples: Dataset[Sample], *, classes: Sequence[str] = (),
                       **options: Any) -> dict[str, Any]:
    """Measure and score one data set at one go; classes as in reconstruction_scores, options as in measure_frames.

    Raises:
        ValueError: as measure_frames.
    """
    return reconstruction_scores(measure_frames(model, samples, **options), classes)


def reconstruction_scores(frames: Frames, classes: Sequence[str] = ()) -> dict[str, Any]:
    """Scores with 95 % intervals over kitchens; what the model lacks is not listed.

    Args:
        frames: what was measured.
        classes: names of the K classes; () leaves out the IoU of each.

    Returns:
        'hidden' (70 % of the tokens hidden): psnr_hidden_db, psnr_pasted_db, rgb_hidden (share of colour patches);
        depth and segmentation on the hidden patches. 'full' (colour and noisy depth): segmentation, depth in holes by
        model and fillers, depth where it was measured. 'rgb_only' (no depth): depth,
        segmentation. RMSE, MAE and delta_1 are over all pixels of all frames.
        A class counts in miou if it occurs in the truth of the frames.
    """
    columns, kitchens = frames.columns, [kitchen_of(key) for key in frames.keys]
    result: dict[str, Any] = {'frames': len(frames.keys), 'hidden': {}, 'full': {}, 'rgb_only': {}}
    for name, told_as in (('psnr_hidden', 'psnr_hidden_db'), ('psnr_pasted', 'psnr_pasted_db'),
                          ('rgb_hidden', 'rgb_hidden')):
        if name in columns:
            result['hidden'][told_as] = _mean(columns[name], kitchens)
    for part, depth, labels in (('hidden', 'hidden_depth', 'hidden_labels'), ('full', 'known', 'labels'),
                                ('rgb_only', 'rgb_only_depth', 'rgb_only_labels')):
        if depth in columns:
            result[part]['depth_where_measured' if depth == 'known' else 'depth'] = _depth(columns[depth], kitchens)
        if labels in columns:
            result[part]['segmentation'] = _segmentation(columns[labels], kitchens, classes)
    if 'holes_model' in columns:
        result['full']['depth_in_holes'] = _holes(columns, kitchens)
    return result


def _mean(scores: np.ndarray, kitchens: list[str]) -> dict[str, Any]:
    """Mean of the frames that have a score."""
    chosen = np.flatnonzero(np.isfinite(scores))
    return scored(mean_rows(scores[chosen]), ratio, [kitchens[i] for i in chosen]) if len(chosen) else {'value': None}


def _rate(place: int) -> Callable[[np.ndarray], np.ndarray]:
    return lambda sums: depth_rates(sums)[..., place]


def _depth(sums: np.ndarray, kitchens: list[str]) -> dict[str, Any]:
    return {'pixels': int(sums[:, 0].sum())} | {name: scored(sums, _rate(place), kitchens)
                                                for place, name in enumerate(RATES)}


def _holes(columns: dict[str, np.ndarray], kitchens: list[str]) -> dict[str, Any]:
    """Errors of model and fillers in the holes, and the share by which the model's RMSE is below each filler's."""
    model = columns['holes_model']
    result: dict[str, Any] = {'frames_with_holes': int((model[:, 0] > 0).sum()), 'model': _depth(model, kitchens),
                              'model_alone': _depth(columns['holes_model_alone'], kitchens)}
    for name in FILLERS:
        sums = columns[f'holes_{name}']
        both = np.concatenate([model, sums], 1)
        result[name] = _depth(sums, kitchens) | {
            'model_below': scored(both, lambda s: 1 - _rate(0)(s[..., :4]) / _rate(0)(s[..., 4:]), kitchens)}
    return result


def _segmentation(matrices: np.ndarray, kitchens: list[str], classes: Sequence[str]) -> dict[str, Any]:
    n, K, _ = matrices.shape
    rows = matrices.reshape(n, K * K)

    def of(score: Callable[[np.ndarray], np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
        return lambda sums: score(sums.reshape(*sums.shape[:-1], K, K))
    total = matrices.sum(0)
    iou = class_iou(total)
    present = np.flatnonzero(total.sum(1))
    result = {'miou': scored(rows, of(mean_iou), kitchens), 'classes': len(present),
              'pixel_accuracy': scored(rows, of(pixel_accuracy), kitchens), 'pixels': int(total.sum())}
    if classes:
        result['iou'] = {classes[i]: rounded(iou[i]) for i in present}
    return result


def frame_rows(frames: Frames) -> list[dict[str, Any]]:
    """One row of plain numbers for each frame, None where there is none."""
    columns = frames.columns
    rows = [{'key': key} for key in frames.keys]
    for name, values in columns.items():
        if values.ndim == 1:
            found = {name: values}
        elif values.ndim == 2:
            found = {f'{name}_pixels': values[:, 0], f'{name}_rmse_m': depth_rates(values)[:, 0],
                     f'{name}_delta1': depth_rates(values)[:, 2]}
        else:
            found = {f'{name}_miou': mean_iou(values), f'{name}_pixel_accuracy': pixel_accuracy(values)}
        for column, numbers in found.items():
            for row, number in zip(rows, numbers.tolist()):
                row[column] = rounded(number)
    return rows
