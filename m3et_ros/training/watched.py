"""Episodes as a frozen M3ET sees them: each frame is encoded once, to one token, and read many times.

A folder of tokens holds tokens.npy, (F, width) float16, and watched.json, which names the model and the caches.

Symbols: F frames of all caches, width of a frame's token (models.frame_token).
"""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from m3et_ros.data.checkpoint import Checkpoint
from m3et_ros.data.errors import InputError
from m3et_ros.data.kitchen.dataset import KitchenSamples
from m3et_ros.data.kitchen.episodes import EpisodeFrames, open_episodes
from m3et_ros.data.noise import Noise, disturb
from m3et_ros.data.samples import Sample, collate
from m3et_ros.models.frame_token import GUIDES, frame_token, frame_width

TOKENS, INDEX = 'tokens.npy', 'watched.json'
BATCH = 32
STEADY = Noise(mirror=0.)
"""A camera's disturbances; in a mirror only half of an episode would be stranger than none of it."""

Watch = Callable[[Iterable[Any], int, str, str], Iterable[Any]]


def watch_episodes(checkpoint: Checkpoint, folders: Sequence[Path], out: Path, *, bf16: bool = False,
                   watch: Watch = lambda items, *_: items) -> tuple[np.ndarray, list[EpisodeFrames]]:
    """The tokens of all frames of caches, and their episodes; what was encoded before is not encoded again.

    Args:
        checkpoint: whose model looks, on its device, with colours and depth.
        folders: caches of one split.
        out: folder of the tokens.
        bf16: matrix products in bfloat16.
        watch: hands on items while it tells how far along they are.

    Raises:
        InputError: a folder is no cache with actions, or `out` holds the tokens of others.
    """
    frames, episodes = KitchenSamples(folders, questions=False), open_episodes(folders)
    asked = {'model': checkpoint.model_id, 'caches': [Path(folder).name for folder in folders],
             'frames': len(frames), 'width': frame_width(checkpoint.model.config), 'guides': list(GUIDES)}
    if (out / INDEX).exists():
        if json.loads((out / INDEX).read_text(encoding='utf-8')) != asked:
            raise InputError('other_run', f'{out} holds the tokens of another model or other kitchens; give another '
                             'folder or delete it.')
        return np.load(out / TOKENS, mmap_mode='r', allow_pickle=False), episodes
    out.mkdir(parents=True, exist_ok=True)
    part = out / f'part-{TOKENS}'
    tokens = np.lib.format.open_memmap(part, 'w+', np.float16, (len(frames), asked['width']))
    starts = range(0, len(frames), BATCH)
    for start in watch(starts, len(starts), 'frames encoded', 'batch'):
        chosen = range(start, min(start + BATCH, len(frames)))
        tokens[chosen.start:chosen.stop] = encode([steady(frames[i]) for i in chosen], checkpoint, bf16=bf16)
    tokens.flush()
    part.replace(out / TOKENS)
    (out / INDEX).write_text(json.dumps(asked, indent=2) + '\n', encoding='utf-8')
    return np.load(out / TOKENS, mmap_mode='r', allow_pickle=False), episodes


def steady(sample: Sample) -> Sample:
    """The sample as a camera sees it whose faults stay the same throughout an episode."""
    seed = int(sample.key.split()[1])
    return disturb(sample, STEADY, np.random.default_rng((seed, 3)))


def encode(samples: Sequence[Sample], checkpoint: Checkpoint, *, bf16: bool = False) -> np.ndarray:
    """The tokens of frames: (B, width) float16."""
    model = checkpoint.model.eval()
    device = next(model.parameters()).device
    batch = collate([replace(sample, semseg=None) for sample in samples], model.config)
    ids, mask = (part.to(device) for part in checkpoint.tokenizer.encode(GUIDES, model.config.text_length))
    longest = int(mask.sum(1).max())
    with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=bf16):
        sight = model.see({name: value.to(device) for name, value in batch.inputs.items()})
        token: Tensor = frame_token(model, sight, ids[:, :longest], mask[:, :longest])
    return token[:, 0].half().cpu().numpy()
