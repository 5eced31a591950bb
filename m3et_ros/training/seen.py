"""Views as a frozen M3ET sees them: each is encoded once, to visual tokens, and read many times.

A folder of views holds views.npy, (F, n, d_vision) float16, and seen.json, which names the model, the caches and the
frames.

Symbols: F chosen frames, n visual tokens of a view, d_vision their width (models.talk).
"""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from m3et_ros.data.checkpoint import Checkpoint
from m3et_ros.data.errors import InputError
from m3et_ros.data.kitchen.dataset import KitchenSamples
from m3et_ros.data.noise import steady
from m3et_ros.data.samples import Sample, collate
from m3et_ros.models.talk import SIDE, SIGHTS, vision_width, visual_tokens

VIEWS, INDEX = 'views.npy', 'seen.json'
BATCH = 32

Watch = Callable[[Iterable[Any], int, str, str], Iterable[Any]]


@dataclass(frozen=True)
class Views:
    """Encoded views of caches."""

    # (F, n, d_vision) float16, memory-mapped.
    features: np.ndarray
    # Number of each view among all frames of the caches, rising, (F,) int64.
    frames: np.ndarray
    # Rows and columns of the visual tokens.
    grid: tuple[int, int]
    # Id of the M3ET that looked.
    model_id: str


def see_views(checkpoint: Checkpoint, folders: Sequence[Path], out: Path, *, every: int = 5,
              grid: tuple[int, int] = (SIDE, SIDE), bf16: bool = False,
              watch: Watch = lambda items, *_: items) -> Views:
    """The views of every n-th frame of caches; what was encoded before is not encoded again.

    Args:
        checkpoint: whose model looks, on its device, with colours and depth.
        folders: caches of one split.
        out: folder of the views.
        every: n; each episode has frames enough that look alike.
        grid: rows and columns of the visual tokens.
        bf16: matrix products in bfloat16.
        watch: hands on items while it tells how far along they are.

    Raises:
        InputError: a folder is no cache, or `out` holds the views of others.
        ValueError: every is below 1.
    """
    if every < 1:
        raise ValueError(f'every is {every}; give at least 1')
    samples = KitchenSamples(folders, questions=False)
    frames = np.arange(0, len(samples), every)
    width = vision_width(checkpoint.model.config)
    asked = {'model': checkpoint.model_id, 'caches': [Path(folder).name for folder in folders],
             'frames': len(samples), 'every': every, 'grid': list(grid), 'width': width}
    views = Views(np.empty(0), frames, grid, checkpoint.model_id)
    if (out / INDEX).exists():
        if json.loads((out / INDEX).read_text(encoding='utf-8')) != asked:
            raise InputError('other_run', f'{out} holds the views of another model, other kitchens or another grid; '
                             'give another folder or delete it.')
        return replace(views, features=_mapped(out))
    out.mkdir(parents=True, exist_ok=True)
    part = out / f'part-{VIEWS}'
    features = np.lib.format.open_memmap(part, 'w+', np.float16, (len(frames), grid[0] * grid[1], width))
    starts = range(0, len(frames), BATCH)
    for start in watch(starts, len(starts), 'views encoded', 'batch'):
        chosen = frames[start:start + BATCH]
        features[start:start + len(chosen)] = see(
            [steady(samples[int(i)]) for i in chosen], checkpoint, grid=grid, bf16=bf16).half().cpu().numpy()
    features.flush()
    part.replace(out / VIEWS)
    (out / INDEX).write_text(json.dumps(asked, indent=2) + '\n', encoding='utf-8')
    return replace(views, features=_mapped(out))


def see(samples: Sequence[Sample], checkpoint: Checkpoint, *, grid: tuple[int, int], bf16: bool = False) -> Tensor:
    """Visual tokens (B, n, d_vision) of samples that all have depth or all lack it."""
    model = checkpoint.model.eval()
    device = next(model.parameters()).device
    batch = collate([replace(sample, semseg=None) for sample in samples], model.config)
    shown = {name: batch.inputs[name].to(device) for name in SIGHTS if name in batch.inputs}
    with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=bf16):
        return visual_tokens(model.see(shown), model.config, rows=grid[0], cols=grid[1])


def _mapped(folder: Path) -> np.ndarray:
    return np.load(folder / VIEWS, mmap_mode='r', allow_pickle=False)
