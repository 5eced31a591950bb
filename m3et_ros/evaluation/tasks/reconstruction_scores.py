"""Scores of measured frames, ready for JSON: PSNR, depth errors, segmentation, and how far below the hole fillers.

Symbols: n frames, K classes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn
from torch.utils.data import Dataset, Subset

from m3et_ros.data.checkpoints.m3et import Checkpoint
from m3et_ros.data.datasets.bag_samples import BagSamples
from m3et_ros.data.datasets.openeqa import episode_name
from m3et_ros.data.errors import InputError
from m3et_ros.data.progress import Progress, no_progress
from m3et_ros.data.sample import Sample
from m3et_ros.evaluation.batches import BATCH, kitchen_of, rounded, scored
from m3et_ros.evaluation.metrics.depth import depth_rates
from m3et_ros.evaluation.metrics.hole_filling import FILLERS
from m3et_ros.evaluation.metrics.intervals import mean_rows, ratio
from m3et_ros.evaluation.metrics.segmentation import class_iou, mean_iou, pixel_accuracy
from m3et_ros.evaluation.report.pictures import spread
from m3et_ros.evaluation.tasks.eqa import bag_files
from m3et_ros.evaluation.tasks.reconstruction import Frames, measure_frames

RATES = ('rmse_m', 'mae_m', 'delta1')
"""What depth.depth_rates gives, by the names under which it is reported."""


def reconstruction_run(
    model: nn.Module, samples: Dataset[Sample], *, classes: Sequence[str] = (), **options: Any
) -> dict[str, Any]:
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
    for name, told_as in (
        ('psnr_hidden', 'psnr_hidden_db'),
        ('psnr_pasted', 'psnr_pasted_db'),
        ('rgb_hidden', 'rgb_hidden'),
    ):
        if name in columns:
            result['hidden'][told_as] = _mean(columns[name], kitchens)
    for part, depth, labels in (
        ('hidden', 'hidden_depth', 'hidden_labels'),
        ('full', 'known', 'labels'),
        ('rgb_only', 'rgb_only_depth', 'rgb_only_labels'),
    ):
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
    return {'pixels': int(sums[:, 0].sum())} | {
        name: scored(sums, _rate(place), kitchens) for place, name in enumerate(RATES)
    }


def _holes(columns: dict[str, np.ndarray], kitchens: list[str]) -> dict[str, Any]:
    """Errors of model and fillers in the holes, and the share by which the model's RMSE is below each filler's."""
    model = columns['holes_model']
    result: dict[str, Any] = {
        'frames_with_holes': int((model[:, 0] > 0).sum()),
        'model': _depth(model, kitchens),
        'model_alone': _depth(columns['holes_model_alone'], kitchens),
    }
    for name in FILLERS:
        sums = columns[f'holes_{name}']
        both = np.concatenate([model, sums], 1)
        result[name] = _depth(sums, kitchens) | {
            'model_below': scored(both, lambda s: 1 - _rate(0)(s[..., :4]) / _rate(0)(s[..., 4:]), kitchens)
        }
    return result


def _segmentation(matrices: np.ndarray, kitchens: list[str], classes: Sequence[str]) -> dict[str, Any]:
    n, K, _ = matrices.shape
    rows = matrices.reshape(n, K * K)

    def of(score: Callable[[np.ndarray], np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
        return lambda sums: score(sums.reshape(*sums.shape[:-1], K, K))

    total = matrices.sum(0)
    iou = class_iou(total)
    present = np.flatnonzero(total.sum(1))
    result = {
        'miou': scored(rows, of(mean_iou), kitchens),
        'classes': len(present),
        'pixel_accuracy': scored(rows, of(pixel_accuracy), kitchens),
        'pixels': int(total.sum()),
    }
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
            found = {
                f'{name}_pixels': values[:, 0],
                f'{name}_rmse_m': depth_rates(values)[:, 0],
                f'{name}_delta1': depth_rates(values)[:, 2],
            }
        else:
            found = {f'{name}_miou': mean_iou(values), f'{name}_pixel_accuracy': pixel_accuracy(values)}
        for column, numbers in found.items():
            for row, number in zip(rows, numbers.tolist()):
                row[column] = rounded(number)
    return rows


# MERGED m3et_ros/evaluation/runs/bag_dense: Reconstruction measured on recordings: what the kitchen's evaluation measures, as far as a bag knows the truth.
#
# MERGED Colours are their own truth; what the camera has measured of depth is that of the holes that are made in it (noise.py).
# MERGED Nobody labelled a bag, so that there is no mIoU. Frames of one bag resemble each other: intervals are over bags.
@dataclass
class BagFrames:
    """What was measured of several bags."""

    # As dense_scores.reconstruction_scores, with 'bags': name to the same of one bag, its topics and checksums, or to
    # 'failed': why there is nothing.
    metrics: dict[str, Any]
    # Rows of per_sample.csv.
    rows: list[dict[str, Any]]
    # Key and images of a few frames, see dense.Frames.
    images: list[tuple[str, dict[str, np.ndarray]]]


def measure_bags(
    checkpoint: Checkpoint,
    bags: Sequence[Path],
    cache: Path,
    *,
    frames: int,
    every: int = 1,
    rgb: str | None = None,
    depth: str | None = None,
    seed: int = 0,
    batch: int = BATCH,
    pictures: int = 4,
    progress: Progress = no_progress,
) -> BagFrames:
    """Measure frames of bags; one that cannot be read costs no other.

    Args:
        checkpoint: model with image decoders, on its device.
        bags: rosbag2 folders, .mcap or .db3 files.
        cache: folder for the decoded frames; a second run finds them there.
        frames: of each bag, evenly apart; all if it has fewer.
        every: n for only every n-th colour image.
        rgb, depth: topics; None finds them.
        seed, batch, progress: see measure_frames.
        pictures: frames of each bag whose images are kept.

    Raises:
        InputError: 'eqa_bags' where two bags have one name, 'bag_format' where none of them can be measured.
    """
    names = [episode_name(bag) for bag in bags]
    if len(set(names)) < len(names):
        raise InputError(
            'eqa_bags', f'two of {", ".join(map(str, bags))} have one name; rename one of them, or evaluate them apart'
        )
    found: dict[str, Frames] = {}
    told: dict[str, dict[str, Any]] = {}
    for name, bag in sorted(zip(names, bags)):
        try:
            samples = BagSamples(bag, cache, size=checkpoint.model.config.image_size, every=every, rgb=rgb, depth=depth)
        except InputError as error:
            told[name] = {'failed': str(error)}
            continue
        chosen = spread(len(samples), frames)
        found[name] = measure_frames(
            checkpoint.model,
            Subset(samples, chosen),
            seed=seed,
            batch=batch,
            pictures=spread(len(chosen), pictures),
            progress=progress,
        )
        told[name] = {
            'files': bag_files(bag),
            'rgb': samples.camera.rgb,
            'depth': samples.camera.depth,
            **_scores(name, found[name]),
        }
    if not found:
        raise InputError('bag_format', f'none of the bags can be measured: {" | ".join(_failures(told))}')
    return BagFrames(
        reconstruction_scores(joined(found)) | {'bags': told},
        [{'bag': name} | row for name, own in found.items() for row in frame_rows(own)],
        [(f'{name} {place}', own.images[place]) for name, own in found.items() for place in sorted(own.images)],
    )


def joined(found: dict[str, Frames]) -> Frames:
    """Frames of several bags as one, each by the name of its bag; what not every bag has is left out."""
    common = set.intersection(*(set(own.columns) for own in found.values()))
    order = [name for name in next(iter(found.values())).columns if name in common]
    return Frames(
        [name for name, own in found.items() for _ in own.keys],
        {name: np.concatenate([own.columns[name] for own in found.values()]) for name in order},
    )


def _scores(name: str, own: Frames) -> dict[str, Any]:
    return reconstruction_scores(joined({name: own}))


def _failures(told: dict[str, dict[str, Any]]) -> list[str]:
    return [bag['failed'] for bag in told.values()]
