"""Reconstruction measured on recordings: what the kitchen's evaluation measures, as far as a bag knows the truth.

Colours are their own truth; what the camera has measured of depth is that of the holes that are made in it (noise.py).
Nobody labelled a bag, so that there is no mIoU. Frames of one bag resemble each other: intervals are over bags.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import Subset

from m3et_ros.data.bag_samples import BagSamples
from m3et_ros.data.checkpoint import Checkpoint
from m3et_ros.data.errors import InputError
from m3et_ros.data.openeqa import episode_name
from m3et_ros.evaluation.runs.dense import Frames, measure_frames
from m3et_ros.evaluation.runs.dense_scores import frame_rows, reconstruction_scores
from m3et_ros.evaluation.runs.eqa_bag import bag_files
from m3et_ros.evaluation.runs.feed import BATCH, Watch, unwatched
from m3et_ros.evaluation.runs.pictures import spread


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


def measure_bags(checkpoint: Checkpoint, bags: Sequence[Path], cache: Path, *, frames: int, every: int = 1,
                 rgb: str | None = None, depth: str | None = None, seed: int = 0, batch: int = BATCH,
                 pictures: int = 4, watch: Watch = unwatched) -> BagFrames:
    """Measure frames of bags; one that cannot be read costs no other.

    Args:
        checkpoint: model with image decoders, on its device.
        bags: rosbag2 folders, .mcap or .db3 files.
        cache: folder for the decoded frames; a second run finds them there.
        frames: of each bag, evenly apart; all if it has fewer.
        every: n for only every n-th colour image.
        rgb, depth: topics; None finds them.
        seed, batch, watch: see measure_frames.
        pictures: frames of each bag whose images are kept.

    Raises:
        InputError: 'eqa_bags' where two bags have one name, 'bag_format' where none of them can be measured.
    """
    names = [episode_name(bag) for bag in bags]
    if len(set(names)) < len(names):
        raise InputError('eqa_bags', f'two of {", ".join(map(str, bags))} have one name; rename one of them, or '
                         'evaluate them apart')
    found: dict[str, Frames] = {}
    told: dict[str, dict[str, Any]] = {}
    for name, bag in sorted(zip(names, bags)):
        try:
            samples = BagSamples(bag, cache, size=checkpoint.model.config.image_size, every=every, rgb=rgb,
                                 depth=depth)
        except InputError as error:
            told[name] = {'failed': str(error)}
            continue
        chosen = spread(len(samples), frames)
        found[name] = measure_frames(checkpoint.model, Subset(samples, chosen), seed=seed, batch=batch,
                                     pictures=spread(len(chosen), pictures), watch=watch)
        told[name] = {'files': bag_files(bag), 'rgb': samples.camera.rgb, 'depth': samples.camera.depth,
                      **_scores(name, found[name])}
    if not found:
        raise InputError('bag_format', f'none of the bags can be measured: {" | ".join(_failures(told))}')
    return BagFrames(reconstruction_scores(joined(found)) | {'bags': told},
                     [{'bag': name} | row for name, own in found.items() for row in frame_rows(own)],
                     [(f'{name} {place}', own.images[place]) for name, own in found.items()
                      for place in sorted(own.images)])


def joined(found: dict[str, Frames]) -> Frames:
    """Frames of several bags as one, each by the name of its bag; what not every bag has is left out."""
    common = set.intersection(*(set(own.columns) for own in found.values()))
    order = [name for name in next(iter(found.values())).columns if name in common]
    return Frames([name for name, own in found.items() for _ in own.keys],
                  {name: np.concatenate([own.columns[name] for own in found.values()]) for name in order})


def _scores(name: str, own: Frames) -> dict[str, Any]:
    return reconstruction_scores(joined({name: own}))


def _failures(told: dict[str, dict[str, Any]]) -> list[str]:
    return [bag['failed'] for bag in told.values()]
