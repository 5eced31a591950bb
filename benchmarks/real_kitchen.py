"""Measure the filling of holes in the depth of a real kitchen: every depth_fill against fillers on depth alone.

    python benchmarks/real_kitchen.py BAG --out out/real_kitchen   # writes benchmarks/results/real_kitchen.json
    python benchmarks/real_kitchen.py FOLDER ... --out out/real_rgbd --results benchmarks/results/real_rgbd.json

Of each frame 30 % of the valid depth is hidden in blobs, of four sizes in turn and always the same ones; errors are
taken on the hidden pixels at the camera's resolution, against the sensor, which is itself only nearly right. BAG may be
any recording with colour and aligned depth. A FOLDER holds single views: rgb*.png or .jpg, and depth*.png or
*_depth*.png of the same number with millimetres in 16 bits. Nothing is copied. A frame takes about two seconds on one
CPU core, most of it for the fillers. The intervals are over frames; frames of one walk resemble each other, so they are
too narrow for kitchens at large.
"""

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from runs import RESULTS, run_script, write

from m3et_ros.cli.output import format_table
from m3et_ros.cli.progress import track
from m3et_ros.data.bags.frames import frames
from m3et_ros.data.bags.reader import BagReader
from m3et_ros.data.bags.topics import find_camera
from m3et_ros.data.checkpoints import DEFAULT_MODEL
from m3et_ros.data.errors import InputError
from m3et_ros.data.frame import Frame, Labels
from m3et_ros.data.images.messages import metres
from m3et_ros.evaluation.batches import spread
from m3et_ros.evaluation.files import made_by
from m3et_ros.evaluation.metrics.hole_filling import FILLERS, known_mask
from m3et_ros.evaluation.tasks.cut_holes import SHARE, SIZES, WAYS, cut, cut_hole_scores, holed, measure_cut_holes
from m3et_ros.runtime.engine import Engine
from m3et_ros.runtime.open_model import open_checkpoint

FARTHEST = 9.0
"""A view of a folder that measures more metres is left out: it is outdoors, or its unit is unknown."""

COLUMNS = {
    'rgb': 'colour',
    'holed': 'depth, holes made',
    'filled': 'depth, filled',
    'truth': 'depth, from the sensor',
    'error': 'error where hidden',
    'overlay': 'segmentation',
}
SHOWN = 0.08
"""Size of the holes on the contact sheet."""
WORST = 0.5
"""Largest error on the colour scale, in metres."""


@dataclass(frozen=True)
class Recording:
    """The recording that a result belongs to."""

    name: str
    # Topics of colour and depth.
    rgb: str
    depth: str


def recorded(bag: Path, every: int) -> tuple[Recording, list[Frame]]:
    """Read every n-th frame of a bag that has depth.

    Raises:
        InputError: 'bag_depth' where there is none.
    """
    with BagReader(bag) as reader:
        camera = find_camera(reader)
        if camera.depth is None:
            raise InputError('bag_depth', camera.note)
        count = -(-reader.topics[camera.rgb].count // every)
        seen = track(frames(reader, rgb_topic=camera.rgb, depth_topic=camera.depth, every=every), count, 'frames')
        deep = [frame for frame in seen if frame.depth is not None and known_mask(frame.depth).any()]
    if not deep:
        raise InputError('bag_depth', f'{bag} has no frame with depth near in time; give another recording.')
    return Recording(bag.name, camera.rgb, camera.depth), deep


def views(folders: Sequence[Path]) -> tuple[Recording, list[Frame]]:
    """Read the views of folders.

    Raises:
        InputError: 'bag_depth' where none is usable.
    """
    found = []
    for folder in folders:
        for path in sorted(folder.glob('*depth*.png')):
            pattern = path.name.replace('raw_depth', 'rgb').replace('depth', 'rgb').replace('.png', '.*')
            colours = next(iter(sorted(folder.glob(pattern))), None)
            depth = metres(cv2.imread(str(path), cv2.IMREAD_UNCHANGED))
            if colours is not None and known_mask(depth).any() and np.nanmax(depth) <= FARTHEST:
                found.append(Frame(cv2.imread(str(colours), cv2.IMREAD_COLOR_RGB), depth))
    if not found:
        listed = ', '.join(map(str, folders))
        raise InputError('bag_depth', f'{listed} hold no view of colour and depth up to {FARTHEST:g} m')
    return Recording(', '.join(folder.name for folder in folders), 'rgb*', '*depth*.png'), found


def measure(engine: Engine, seen: Sequence[Frame], seed: int, *, apart: bool) -> dict[str, Any]:
    """Score all sizes of holes.

    Args:
        engine: the model.
        seen: frames with depth.
        seed: seed of the hidden pixels.
        apart: the frames are of different places, so that `auto` begins anew with each.
    """
    clusters = [str(number) for number in range(len(seen))]
    found = {
        size: measure_cut_holes(engine, seen, size, clusters=clusters if apart else (), seed=seed)
        for size in track(SIZES, len(SIZES), 'sizes of holes')
    }
    return cut_hole_scores(found, clusters)


def pictured(engine: Engine, seen: Sequence[Frame], seed: int, chosen: Sequence[int]) -> list[dict[str, np.ndarray]]:
    """Cut holes of a middle size into the chosen frames and fill them as the robot does, for the contact sheet."""
    found = []
    engine.reset_stream()
    for number in chosen:
        frame = seen[number]
        hidden = cut(frame.depth, np.random.default_rng((seed, number)), SHOWN)
        given = holed(frame, hidden)
        result = engine.reconstruct(engine.encode(given))
        error = np.where(hidden, np.abs(result.depth - frame.depth), np.nan)
        images = {'rgb': frame.rgb, 'holed': given.depth, 'filled': result.depth, 'truth': frame.depth}
        found.append({**images, 'error': error, 'labels': result.mask})
    return found


def costs(engine: Engine, frame: Frame, seed: int) -> dict[str, float]:
    """Return the CPU milliseconds of each depth_fill for one frame, the least of nine; set OMP_NUM_THREADS=1.

    That of 'auto' is between two checks, once it has chosen for this frame.
    """
    view = engine.encode(holed(frame, cut(frame.depth, np.random.default_rng((seed, 0)), SHOWN)))
    found = {}
    for way, fill in WAYS.items():
        spent = []
        for _ in range(9):
            view.decoded.clear()  # a view stores what was decoded from it
            start = time.thread_time()
            engine.reconstruct(view, mask=False, fill=fill)
            spent.append(1e3 * (time.thread_time() - start))
        found[way] = round(min(spent), 1)
    return found


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
    found.add_argument('data', type=Path, nargs='+', help='one rosbag2 folder, .mcap or .db3 file; or folders of views')
    found.add_argument('--out', type=Path, required=True, help='folder for the contact sheet')
    found.add_argument('--results', type=Path, default=RESULTS / 'real_kitchen.json')
    found.add_argument('--model', default=DEFAULT_MODEL, help='checkpoint folder or named size')
    found.add_argument('--every', type=int, default=5, help='only every n-th frame of a recording')
    found.add_argument('--pictures', type=int, default=6, help='frames on the contact sheet')
    found.add_argument('--device', default='cpu')
    found.add_argument('--seed', type=int, default=0, help='of the hidden pixels')
    return found.parse_args()


def main() -> None:
    """Measure a bag or folders, draw some of the frames and write the figures."""
    asked = options()
    first = asked.data[0]
    apart = first.is_dir() and not (first / 'metadata.yaml').exists()
    recording, seen = views(asked.data) if apart else recorded(first, asked.every)
    engine = Engine(open_checkpoint(asked.model), device=asked.device)
    scores = measure(engine, seen, asked.seed, apart=apart)
    made = made_by(
        'python benchmarks/real_kitchen.py', engine.checkpoint, recording, every=asked.every, seed=asked.seed
    )
    described = {'recording' if name == 'cache' else name: value for name, value in made.items()}
    write(asked.results, described | scores | {'cpu_ms': costs(engine, seen[0], asked.seed)})
    print(table(scores))
    shown = pictured(engine, seen, asked.seed, spread(len(seen), asked.pictures))
    title = f'{engine.model_id} on an unseen recording: {SHARE:.0%} of the depth hidden and filled'
    draw(shown, engine.labels, asked.out / 'real_kitchen.png', title)


def table(scores: dict[str, Any]) -> str:
    """Return the RMSE in metres of each way, a column for each size."""
    sizes = scores['rmse_m']
    rows = [('half axis of the holes, share of the width', *sizes)]
    for way in (*WAYS, *FILLERS):
        rows.append((way.replace('_', ' '), *(f'{found[way]["value"]:.3f}' for found in sizes.values())))
    return format_table(rows, right=range(1, len(rows[0])))


if __name__ == '__main__':
    run_script(main)
