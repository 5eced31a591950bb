"""Views of cached kitchens as the visual tokens of a language model: encoded once by a frozen encoder, read many times.

The encoder is an M3ET, or DINOv2 and SigLIP.

A folder of views holds views.npy, (F, n, d_vision) float16, and seen.json, which names the model, the caches and the
frames.

Symbols: F chosen frames, n visual tokens of a view, d_vision their width (models.vlm.variants), B batch.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from m3et_ros.data.checkpoints.image_encoders import ImageEncoders
from m3et_ros.data.checkpoints.m3et import Checkpoint
from m3et_ros.data.errors import InputError
from m3et_ros.data.files import write_atomically
from m3et_ros.data.kitchen.cache.dataset import KitchenSamples
from m3et_ros.data.noise import steady
from m3et_ros.data.progress import Progress, no_progress
from m3et_ros.data.sample import Sample, collate
from m3et_ros.models.vlm.variants import SIDE, VISION_MODALITIES, vision_width, visual_tokens

VIEWS, INDEX = 'views.npy', 'seen.json'
BATCH = 32


@dataclass(frozen=True)
class Views:
    """Encoded views of caches."""

    # (F, n, d_vision) float16, memory-mapped.
    features: np.ndarray
    # Number of each view among all frames of the caches, rising, (F,) int64.
    frames: np.ndarray
    # Rows and columns of the visual tokens.
    grid: tuple[int, int]
    # Id of the encoder.
    model_id: str


def encode_views(
    encoder: Checkpoint | ImageEncoders,
    folders: Sequence[Path],
    out: Path,
    *,
    every: int = 5,
    grid: tuple[int, int] = (SIDE, SIDE),
    bf16: bool = False,
    progress: Progress = no_progress,
) -> Views:
    """Encode every n-th frame of caches, or open the views that an earlier call has encoded.

    Args:
        encoder: on its device; an M3ET reads colours and depth, DINOv2 and SigLIP colours.
        folders: caches of one split.
        out: folder of the views.
        every: n; the frames of an episode resemble each other.
        grid: rows and columns of the visual tokens.
        bf16: matrix products in bfloat16.
        progress: reports encoded batches.

    Raises:
        InputError: a folder is not a cache, or `out` holds other views.
        ValueError: every is below 1, or the grid is finer than that of DINOv2 and SigLIP.
    """
    if every < 1:
        raise ValueError(f'every is {every}; give at least 1')
    samples = KitchenSamples(folders, questions=False)
    frames = np.arange(0, len(samples), every)
    width = encoder.width if isinstance(encoder, ImageEncoders) else vision_width(encoder.model.config)
    index = {
        'model': encoder.model_id,
        'caches': [Path(folder).name for folder in folders],
        'frames': len(samples),
        'every': every,
        'grid': list(grid),
        'width': width,
    }
    if not (out / INDEX).exists():
        out.mkdir(parents=True, exist_ok=True)
        with write_atomically(out / VIEWS) as part:
            shape = len(frames), grid[0] * grid[1], width
            features = np.lib.format.open_memmap(part, 'w+', np.float16, shape)
            starts = range(0, len(frames), BATCH)
            for start in progress(starts, len(starts), 'views encoded', 'batch'):
                batch = [steady(samples[int(i)]) for i in frames[start : start + BATCH]]
                tokens = encode_view_batch(batch, encoder, grid=grid, bf16=bf16)
                features[start : start + BATCH] = tokens.half().cpu().numpy()
            features.flush()
        with write_atomically(out / INDEX) as part:
            part.write_text(json.dumps(index, indent=2) + '\n', encoding='utf-8')
    elif json.loads((out / INDEX).read_text(encoding='utf-8')) != index:
        raise InputError(
            'other_run',
            f'{out} holds the views of another model, other kitchens or another grid; '
            'give another folder or delete it.',
        )
    return Views(np.load(out / VIEWS, mmap_mode='r', allow_pickle=False), frames, grid, encoder.model_id)


def encode_view_batch(
    samples: Sequence[Sample], encoder: Checkpoint | ImageEncoders, *, grid: tuple[int, int], bf16: bool = False
) -> Tensor:
    """Encode samples to visual tokens (B, n, d_vision); for an M3ET all have depth, or all lack it."""
    network = encoder.tower if isinstance(encoder, ImageEncoders) else encoder.model.eval()
    device = next(network.parameters()).device
    with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=bf16):
        if isinstance(encoder, ImageEncoders):
            return encoder.encode([sample.rgb for sample in samples], rows=grid[0], cols=grid[1])
        config = encoder.model.config
        batch = collate([replace(sample, semseg=None) for sample in samples], config)
        inputs = {name: batch.inputs[name].to(device) for name in VISION_MODALITIES if name in batch.inputs}
        return visual_tokens(encoder.model.encode_images(inputs), config, rows=grid[0], cols=grid[1])
