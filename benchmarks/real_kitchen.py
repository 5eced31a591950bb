"""Measure hole filling in the depth of a real kitchen: the model as the robot runs it against fillers on depth alone.

    python benchmarks/real_kitchen.py BAG --out out/real_kitchen  # writes benchmarks/results/real_kitchen.json

Of each frame 30 % of the valid depth is hidden, nearly all of it in blobs and always the same ones; errors are taken on
the hidden pixels at the camera's resolution, against the sensor, which is itself only nearly right. BAG may be any
recording with colour and aligned depth; it is read, never copied. A frame takes about half a second on one CPU core,
most of it for the fillers. The intervals are over frames; frames of one walk resemble each other, so they are too
narrow for kitchens at large. A hole that the model leaves open counts as 0 m.
"""

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from runs import RESULTS, run_script, write

from m3et_ros.cli.progress import track
from m3et_ros.data.bags.frames import frames
from m3et_ros.data.bags.reader import BagReader
from m3et_ros.data.bags.topics import find_camera
from m3et_ros.data.checkpoints.m3et import Checkpoint
from m3et_ros.data.errors import InputError
from m3et_ros.data.frame import Frame, Labels
from m3et_ros.evaluation.batches import rounded, spread
from m3et_ros.evaluation.files import made_by
from m3et_ros.evaluation.metrics.depth import depth_rates, depth_sums
from m3et_ros.evaluation.metrics.hole_filling import FILLERS, known_mask
from m3et_ros.evaluation.metrics.intervals import bootstrap
from m3et_ros.evaluation.tasks.reconstruction_scores import RATES
from m3et_ros.runtime.engine import Engine
from m3et_ros.runtime.open_model import open_checkpoint

SHARE, LARGEST = 0.30, 0.08
"""Share of the valid depth to hide, and the largest half axis of a blob as a share of the width, as in Noise."""

COLUMNS = {
    'rgb': 'colour',
    'holed': 'depth, holes made',
    'filled': 'depth, filled',
    'truth': 'depth, from the sensor',
    'error': 'error where hidden',
    'overlay': 'segmentation',
}
WORST = 0.5
"""Largest error on the colour scale, in metres."""


@dataclass(frozen=True)
class Recording:
    """The recording that a result belongs to."""

    name: str
    # Topics of colour and depth.
    rgb: str
    depth: str


@dataclass
class Found:
    """Sums of depth.depth_sums on hidden pixels by filler, a row for each frame; and frames to draw."""

    sums: dict[str, list[np.ndarray]] = field(default_factory=dict)
    # Share of the hidden pixels that the model left open, by frame.
    left_open: list[float] = field(default_factory=list)
    pictures: list[dict[str, np.ndarray]] = field(default_factory=list)


def hide(depth: np.ndarray, rng: np.random.Generator, share: float = SHARE) -> np.ndarray:
    """Choose known pixels of depth (H, W) to hide, (H, W) bool: exactly this share, in blobs, the rest in specks.

    Blobs are drawn while they fit, then smaller ones, so that only the last few pixels are specks.
    """
    known = known_mask(depth)
    hidden, missing, reach = np.zeros_like(known), round(share * known.sum()), LARGEST * depth.shape[1]
    while missing and reach >= 1:
        blob = np.zeros(depth.shape, np.uint8)
        centre = (rng.random(2) * depth.shape[::-1]).astype(int).tolist()
        axes = np.maximum(rng.uniform(0.3, 1, 2) * reach, 1).round().astype(int).tolist()
        cv2.ellipse(blob, centre, axes, float(rng.uniform(0, 180)), 0, 360, 1, -1)
        fresh = (blob > 0) & known & ~hidden
        if fresh.sum() > missing:
            reach *= 0.8
            continue
        hidden |= fresh
        missing -= int(fresh.sum())
    specks = rng.choice(np.flatnonzero(known & ~hidden), missing, replace=False)
    hidden.reshape(-1)[specks] = True
    return hidden


def measure(engine: Engine, shown: Iterator[Frame], seed: int, drawn: Sequence[int] = ()) -> Found:
    """Hide, fill and score frame by frame; keep the frames with the numbers `drawn` for the contact sheet."""
    found = Found()
    for frame in shown:
        number = len(found.left_open)
        hidden = hide(frame.depth, np.random.default_rng((seed, number)))
        holed = np.where(hidden | ~known_mask(frame.depth), np.float32(np.nan), frame.depth)
        result = engine.reconstruct(engine.encode(replace(frame, depth=holed)))
        filled = {'model': np.nan_to_num(result.depth, nan=0), **{name: fill(holed) for name, fill in FILLERS.items()}}
        for name, depth in filled.items():
            found.sums.setdefault(name, []).append(depth_sums(depth[None], frame.depth[None], hidden[None])[0])
        found.left_open.append(float(np.isnan(result.depth[hidden]).mean()))
        if number in drawn:
            error = np.where(hidden, np.abs(result.depth - frame.depth), np.nan)
            found.pictures.append(
                {
                    'rgb': frame.rgb,
                    'holed': holed,
                    'filled': result.depth,
                    'truth': frame.depth,
                    'error': error,
                    'labels': result.mask,
                }
            )
    return found


def scores(found: Found) -> dict[str, Any]:
    """Return the errors of each filler, and the share by which the model's RMSE is below each other one."""
    sums = {name: np.array(rows) for name, rows in found.sums.items()}
    ways: dict[str, Any] = {}
    for name, rows in sums.items():
        ways[name] = {
            rate: _interval(rows, lambda s, place=place: depth_rates(s)[..., place]) for place, rate in enumerate(RATES)
        }
        if name != 'model':
            ways[name]['model_below'] = _interval(
                np.concatenate([sums['model'], rows], 1),
                lambda s: 1 - depth_rates(s[..., :4])[..., 0] / depth_rates(s[..., 4:])[..., 0],
            )
    return {
        'frames': len(found.left_open),
        'hidden_pixels': int(sums['model'][:, 0].sum()),
        'left_open_by_model': rounded(np.mean(found.left_open)),
        'filled_by': ways,
    }


def _interval(rows: np.ndarray, statistic: Callable[[np.ndarray], np.ndarray]) -> dict[str, float | None]:
    interval = bootstrap(rows, statistic)
    return {'value': rounded(interval.value), 'low': rounded(interval.low), 'high': rounded(interval.high)}


def draw(pictures: Sequence[dict[str, np.ndarray]], labels: Labels, path: Path, title: str) -> None:
    """Draw one row for each frame to a PNG, with colour bars and the commonest classes below."""
    from matplotlib import colormaps
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    palette = np.full((256, 3), 255, np.uint8)
    palette[: len(labels.colors)] = labels.colors
    far = np.nanpercentile(np.concatenate([picture['truth'].ravel() for picture in pictures]), 99)
    scales = {
        'holed': ('viridis_r', far),
        'filled': ('viridis_r', far),
        'truth': ('viridis_r', far),
        'error': ('magma', WORST),
    }
    figure = Figure(figsize=(18, 2.35 * len(pictures) + 1.3), dpi=100, layout='constrained')
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(pictures), len(COLUMNS), squeeze=False)
    for row, picture in zip(axes, pictures, strict=True):
        overlay = (0.45 * picture['rgb'] + 0.55 * palette[picture['labels']]).astype(np.uint8)
        for axis, name in zip(row, COLUMNS, strict=True):
            colours, most = scales.get(name, (None, None))
            axis.imshow(
                overlay if name == 'overlay' else picture[name],
                vmin=0,
                vmax=most,
                cmap=colours and colormaps[colours].with_extremes(bad='#8c8c8c'),
            )
            axis.set_axis_off()
    for axis, heading in zip(axes[0], COLUMNS.values(), strict=True):
        axis.set_title(heading, fontsize=10)
    for column, label in ((4, 'error in metres; grey: not hidden'), (3, 'depth in metres; grey: unknown')):
        figure.colorbar(
            axes[0, column].images[0], ax=axes, location='bottom', shrink=0.3, aspect=40, pad=0.01, label=label
        )
    counts = sum(np.bincount(picture['labels'].ravel(), minlength=256) for picture in pictures)
    common = [n for n in np.argsort(-counts, kind='stable')[:14] if counts[n] and n < len(labels.classes)]
    figure.legend(
        handles=[Patch(color=palette[n] / 255, label=labels.classes[n]) for n in common],
        loc='outside lower center',
        ncols=14,
        fontsize=8,
        frameon=False,
    )
    figure.suptitle(title)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def options() -> argparse.Namespace:
    """Parse the command line."""
    found = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    found.add_argument('bag', type=Path, help='rosbag2 folder, .mcap or .db3 file')
    found.add_argument('--out', type=Path, required=True, help='folder for the contact sheet')
    found.add_argument('--results', type=Path, default=RESULTS / 'real_kitchen.json')
    found.add_argument('--model', default='kitchen', help='checkpoint folder or named size')
    found.add_argument('--every', type=int, default=5, help='only every n-th frame')
    found.add_argument('--pictures', type=int, default=6, help='frames on the contact sheet')
    found.add_argument('--device', default='cpu')
    found.add_argument('--seed', type=int, default=0, help='of the hidden pixels')
    return found.parse_args()


def main() -> None:
    """Measure a bag, draw some of its frames and write the figures."""
    asked = options()
    engine = Engine(open_checkpoint(asked.model), device=asked.device)
    with BagReader(asked.bag) as bag:
        camera = find_camera(bag)
        if camera.depth is None:
            raise InputError('bag_depth', camera.note)
        count = -(-bag.topics[camera.rgb].count // asked.every)
        seen = frames(bag, rgb_topic=camera.rgb, depth_topic=camera.depth, every=asked.every)
        deep = (
            frame for frame in track(seen, count, 'frames') if frame.depth is not None and known_mask(frame.depth).any()
        )
        found = measure(engine, deep, asked.seed, spread(count, asked.pictures))
    if not found.left_open:
        raise InputError('bag_depth', f'{asked.bag} has no frame with depth near in time; give another recording.')
    write(asked.results, document(asked, engine.checkpoint, Recording(asked.bag.name, camera.rgb, camera.depth), found))
    if found.pictures:
        draw(
            found.pictures,
            engine.labels,
            asked.out / 'real_kitchen.png',
            f'{engine.model_id} on an unseen recording: {SHARE:.0%} of the depth hidden and filled',
        )


def document(asked: argparse.Namespace, checkpoint: Checkpoint, recording: Recording, found: Found) -> dict[str, Any]:
    """Return the settings and the figures."""
    result = made_by(
        'python benchmarks/real_kitchen.py',
        checkpoint,
        recording,
        every=asked.every,
        seed=asked.seed,
        share=SHARE,
        largest=LARGEST,
    )
    return {**{'recording' if name == 'cache' else name: value for name, value in result.items()}, **scores(found)}


if __name__ == '__main__':
    run_script(main)
