"""Cut holes into measured depth and fill them in every way: the test of depth_fill on data whose truth is measured.

    rows = measure_cut_holes(Engine(checkpoint), frames, 0.08)
    cut_hole_scores({0.08: rows}, clusters)

Of each frame 30 % of the measured pixels are hidden, in blobs of one size. Real and simulated depth are treated alike.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np

from m3et_ros.data.checkpoints.m3et import Checkpoint
from m3et_ros.data.frame import Frame
from m3et_ros.data.noise import Noise, disturb
from m3et_ros.data.progress import Progress, no_progress
from m3et_ros.data.sample import Sample
from m3et_ros.evaluation.batches import scored
from m3et_ros.evaluation.metrics.depth import depth_rates, depth_sums
from m3et_ros.evaluation.metrics.hole_filling import FILLERS, known_mask
from m3et_ros.runtime.engine import Engine

SHARE = 0.30
"""Share of the measured pixels to hide."""

SIZES = (0.015, 0.04, 0.08, 0.16)
"""Largest half axes of the blobs as shares of the width."""

FRAMES = 100
"""Most frames for this test: each is filled 24 times."""

WAYS = {'auto': 'auto', 'model': 'always', 'smooth': 'smooth'}
"""Name in reports to depth_fill; the names of FILLERS follow."""


def cut(depth: np.ndarray, rng: np.random.Generator, size: float, share: float = SHARE) -> np.ndarray:
    """Choose known pixels of depth (H, W) to hide, (H, W) bool: exactly this share, in blobs, the rest in specks.

    Blobs are drawn while they fit, then smaller ones, so that only the last few pixels are specks.

    Args:
        depth: metres, NaN unknown.
        rng: generator of the frame.
        size: largest half axis of a blob as a share of the width.
        share: share of the known pixels, 0 to 1.
    """
    known = known_mask(depth)
    hidden, missing, reach = np.zeros_like(known), round(share * known.sum()), size * depth.shape[1]
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


def holed(frame: Frame, hidden: np.ndarray) -> Frame:
    """Return the frame without the depth of the hidden pixels (H, W) bool, and of those that were never known."""
    lost = hidden | ~known_mask(frame.depth)
    return Frame(frame.rgb, np.where(lost, np.float32(np.nan), frame.depth), frame.stamp_ns, frame.instruction)


def noisy_frame(sample: Sample, noise: Noise, seed: int, number: int) -> Frame:
    """Return a sample as the frame of a noisy camera; the noise depends only on seed and number."""
    noisy = disturb(sample, noise, np.random.default_rng((seed, number)))
    return Frame(noisy.rgb, noisy.depth)


def cut_holes(
    checkpoint: Checkpoint,
    frames: Sequence[Frame],
    clusters: Sequence[str],
    seed: int = 0,
    progress: Progress = no_progress,
) -> dict[str, Any]:
    """Measure all sizes of holes.

    Args:
        checkpoint: the model, on its device.
        frames: frames in order; those without depth are left out.
        clusters: kitchen or recording of each frame.
        seed: see measure_cut_holes.
        progress: see data.progress.Progress.

    Returns:
        'cut_holes': see cut_hole_scores; nothing where the model predicts no depth or no frame has any.
    """
    deep = [i for i, frame in enumerate(frames) if frame.depth is not None and known_mask(frame.depth).any()]
    if not deep or 'depth' not in checkpoint.model.config.tasks:
        return {}
    engine = Engine(checkpoint, device=str(next(checkpoint.model.parameters()).device))
    chosen, own = [frames[i] for i in deep], [clusters[i] for i in deep]
    found = {
        size: measure_cut_holes(engine, chosen, size, clusters=own, seed=seed)
        for size in progress(SIZES, len(SIZES), 'sizes of holes', 'size')
    }
    return {'cut_holes': cut_hole_scores(found, own)}


def measure_cut_holes(
    engine: Engine, frames: Sequence[Frame], size: float, *, clusters: Sequence[str] = (), seed: int = 0
) -> dict[str, np.ndarray]:
    """Cut, fill and score frame by frame, as a robot that sees them one after the other.

    Args:
        engine: the model.
        frames: frames with depth, in order.
        size: see cut.
        clusters: kitchen or recording of each frame; `auto` begins anew with each. () means one for all.
        seed: seed of the hidden pixels, which depend only on it and the number of the frame.

    Returns:
        Way of filling (WAYS and FILLERS) to sums of depth.depth_sums on the hidden pixels, (n, 4). A hole that a way
        leaves open counts as 0 m.
    """
    rows: dict[str, list[np.ndarray]] = {way: [] for way in (*WAYS, *FILLERS)}
    previous = None
    for number, frame in enumerate(frames):
        if previous is None or (clusters and clusters[number] != previous):
            engine.reset_stream()
            previous = clusters[number] if clusters else ''
        hidden = cut(frame.depth, np.random.default_rng((seed, number)), size)
        given = holed(frame, hidden)
        view = engine.encode(given)
        filled = {way: engine.reconstruct(view, mask=False, fill=fill).depth for way, fill in WAYS.items()}
        filled |= {name: fill(given.depth) for name, fill in FILLERS.items()}
        for way, depth in filled.items():
            rows[way].append(depth_sums(np.nan_to_num(depth)[None], frame.depth[None], hidden[None])[0])
    return {way: np.array(own) for way, own in rows.items()}


def cut_hole_scores(found: Mapping[float, Mapping[str, np.ndarray]], clusters: Sequence[str]) -> dict[str, Any]:
    """Return the RMSE in metres of each way by size, and the share by which `auto` is below Navier-Stokes.

    Args:
        found: size to the result of measure_cut_holes.
        clusters: clusters of the frames, for the intervals.
    """

    def rmse(sums: np.ndarray) -> np.ndarray:
        return depth_rates(sums)[..., 0]

    sizes = {}
    for size, rows in found.items():
        both = np.concatenate([rows['auto'], rows['navier_stokes']], 1)
        sizes[f'{size:g}'] = {
            'pixels': int(rows['auto'][:, 0].sum()),
            **{way: scored(own, rmse, clusters) for way, own in rows.items()},
            'auto_below_navier_stokes': scored(both, lambda s: 1 - rmse(s[..., :4]) / rmse(s[..., 4:]), clusters),
        }
    return {'share': SHARE, 'frames': len(clusters), 'rmse_m': sizes}
