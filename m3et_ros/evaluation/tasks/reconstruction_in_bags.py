"""Reconstruction in recordings: the measures of simulated kitchens for which a bag contains the truth.

Colours are their own truth. The truth of depth is the measured depth, in which holes are made (data.noise). A bag has
no labels, so there is no mIoU. Frames of one bag resemble each other, so intervals are over bags.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import Subset

from m3et_ros.data.checkpoints.m3et import Checkpoint
from m3et_ros.data.datasets.bag_samples import BagSamples
from m3et_ros.data.datasets.openeqa import episode_name
from m3et_ros.data.errors import InputError
from m3et_ros.data.frame import Frame
from m3et_ros.data.progress import Progress, no_progress
from m3et_ros.evaluation.batches import BATCH, spread
from m3et_ros.evaluation.files import bag_files
from m3et_ros.evaluation.tasks.cut_holes import FRAMES, cut_holes
from m3et_ros.evaluation.tasks.reconstruction import Frames, measure_frames
from m3et_ros.evaluation.tasks.reconstruction_scores import frame_rows, reconstruction_scores

PICTURES = 4
"""Number of frames of each bag whose images are returned."""


@dataclass
class BagFrames:
    """Measurements of several bags."""

    # As reconstruction_scores returns them, with 'bags': name to the scores of one bag, its topics and checksums, or to
    # 'failed', the reason why there are none.
    metrics: dict[str, Any]
    # Rows of per_sample.csv.
    rows: list[dict[str, Any]]
    # Key and images of a few frames, see reconstruction.Frames.
    images: list[tuple[str, dict[str, np.ndarray]]]


def measure_bags(
    checkpoint: Checkpoint,
    bags: Sequence[Path],
    cache: Path,
    *,
    frames: int,
    seed: int = 0,
    batch: int = BATCH,
    progress: Progress = no_progress,
) -> BagFrames:
    """Measure frames of bags; a bag that cannot be read leaves the others alone.

    Args:
        checkpoint: model with image decoders, on its device.
        bags: rosbag2 folders, .mcap or .db3 files.
        cache: folder for the decoded frames, which a second run reuses.
        frames: number of evenly spaced frames of each bag; all if it has fewer.
        seed: see measure_frames.
        batch: see measure_frames.
        progress: see measure_frames.

    Raises:
        InputError: 'eqa_bags' where two bags have one name, 'bag_format' where no bag can be measured.
    """
    found: dict[str, Frames] = {}
    described: dict[str, dict[str, Any]] = {}
    cut_frames: list[tuple[str, Frame]] = []
    for name, bag in _named(bags):
        try:
            samples = BagSamples(bag, cache, size=checkpoint.model.config.image_size)
        except InputError as error:
            described[name] = {'failed': str(error)}
            continue
        chosen = spread(len(samples), frames)
        found[name] = measure_frames(
            checkpoint.model,
            Subset(samples, chosen),
            seed=seed,
            batch=batch,
            pictures=spread(len(chosen), PICTURES),
            progress=progress,
        )
        cut_frames += _cut_frames(name, samples, frames)
        described[name] = {
            'files': bag_files(bag),
            'rgb': samples.camera.rgb,
            'depth': samples.camera.depth,
            **reconstruction_scores(joined({name: found[name]})),
        }
    if not found:
        reasons = ' | '.join(bag['failed'] for bag in described.values())
        raise InputError('bag_format', f'none of the bags can be measured: {reasons}')
    names, deep = zip(*cut_frames, strict=True)
    return BagFrames(
        reconstruction_scores(joined(found)) | cut_holes(checkpoint, deep, names, seed, progress) | {'bags': described},
        [{'bag': name} | row for name, own in found.items() for row in frame_rows(own)],
        [(f'{name} {number}', own.images[number]) for name, own in found.items() for number in sorted(own.images)],
    )


def _named(bags: Sequence[Path]) -> list[tuple[str, Path]]:
    """Return the bags by name, in order.

    Raises:
        InputError: 'eqa_bags' where two have one name.
    """
    names = [episode_name(bag) for bag in bags]
    if len(set(names)) < len(names):
        listed = ', '.join(map(str, bags))
        raise InputError('eqa_bags', f'two of {listed} have one name; rename one, or evaluate them separately')
    return sorted(zip(names, bags, strict=True))


def _cut_frames(name: str, samples: BagSamples, wanted: int) -> list[tuple[str, Frame]]:
    """Return evenly spaced frames of a bag with its name, to cut holes into."""
    own = [samples[i] for i in spread(len(samples), min(wanted, FRAMES))]
    return [(name, Frame(sample.rgb, sample.depth)) for sample in own]


def joined(found: dict[str, Frames]) -> Frames:
    """Join the frames of several bags; their cluster is the bag, and only columns of all bags remain."""
    common = set.intersection(*(set(own.columns) for own in found.values()))
    order = [name for name in next(iter(found.values())).columns if name in common]
    names = [name for name, own in found.items() for _ in own.keys]
    return Frames(names, names, {name: np.concatenate([own.columns[name] for own in found.values()]) for name in order})
