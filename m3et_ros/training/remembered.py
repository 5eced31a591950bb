"""What heads learn from: every frame of cached episodes as a frozen M3ET saw it, encoded once and read many times.

A folder holds, for each shard of the caches, tokens.npy, (f, frame_width) float16, for a memory also patches.npy,
(f, n, patch_width) float16, and one index that names the model. Shards that are there already are not encoded again.

Symbols: f frames of a shard, n colour patches of a frame, g grid side (n = g^2), C classes.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from m3et_ros.data.checkpoint import Checkpoint
from m3et_ros.data.errors import InputError
from m3et_ros.data.kitchen.cache import read_shards
from m3et_ros.data.kitchen.dataset import KitchenSamples
from m3et_ros.data.noise import steady
from m3et_ros.data.samples import Sample, collate
from m3et_ros.data.shards import open_shard
from m3et_ros.models.eye import patch_features, patch_width
from m3et_ros.models.frame_token import GUIDES, frame_token, frame_width

INDEX, PATCHES, TOKENS = 'remembered.json', 'patches.npy', 'tokens.npy'
BATCH = 25

Watch = Callable[[Iterable[Any], int, str, str], Iterable[Any]]


def remember_frames(checkpoint: Checkpoint, folders: Sequence[Path], out: Path, *, bf16: bool = False,
                    noisy: bool = True, patches: bool = True, watch: Watch = lambda items, *_: items) -> list[Path]:
    """Encode all frames of caches.

    Args:
        checkpoint: whose model looks, on its device, with colours and depth.
        folders: caches of one split.
        out: folder of what is encoded.
        bf16: matrix products in bfloat16.
        noisy: every second kitchen is seen through a disturbed camera; False leaves all of them clean.
        patches: False keeps the tokens of frames alone.
        watch: hands on items while it tells how far along they are.

    Returns:
        A folder for each shard, in the order of data.kitchen.episodes.open_episodes.

    Raises:
        InputError: a folder is no cache, or `out` holds the frames of others.
    """
    asked = {'model': checkpoint.model_id, 'noisy': noisy, 'guides': list(GUIDES),
             'widths': [patch_width(checkpoint.model.config), frame_width(checkpoint.model.config)]}
    out.mkdir(parents=True, exist_ok=True)
    if (out / INDEX).exists():
        if json.loads((out / INDEX).read_text(encoding='utf-8')) != asked:
            raise InputError('other_run', f'{out} holds what another model saw; give another folder or delete it.')
    (out / INDEX).write_text(json.dumps(asked, indent=2) + '\n', encoding='utf-8')
    frames, shards = KitchenSamples(folders, questions=False), [p for folder in folders for p in read_shards(folder)]
    counts = [len(open_shard(path).frames) for path in shards]
    jobs = [(path, range(sum(counts[:i]), sum(counts[:i + 1])), out / path.parent.name / path.name)
            for i, path in enumerate(shards)]
    for _, numbers, target in watch(jobs, len(jobs), 'shards encoded', 'shard'):
        if not (target / TOKENS).exists() or patches and not (target / PATCHES).exists():
            _encode_shard(checkpoint, frames, numbers, target, bf16=bf16, noisy=noisy, keep=patches)
    return [target for *_, target in jobs]


def _encode_shard(checkpoint: Checkpoint, frames: KitchenSamples, numbers: range, target: Path, *, bf16: bool,
                  noisy: bool, keep: bool) -> None:
    """Write the arrays of a shard, the one that tells of its end last; `keep` wants the patches."""
    (target / TOKENS).unlink(missing_ok=True)
    target.mkdir(parents=True, exist_ok=True)
    config = checkpoint.model.config
    patches = np.lib.format.open_memmap(target / PATCHES, 'w+', np.float16, (
        len(numbers), config.image_tokens, patch_width(config))) if keep else None
    tokens = np.empty((len(numbers), frame_width(config)), np.float16)
    for start in range(0, len(numbers), BATCH):
        samples = [seen(frames[i], noisy) for i in numbers[start:start + BATCH]]
        seen_patches, tokens[start:start + BATCH] = look(samples, checkpoint, bf16=bf16)
        if keep:
            patches[start:start + BATCH] = seen_patches
    if keep:
        patches.flush()
    part = target / f'part-{TOKENS}'
    np.save(part, tokens)
    part.replace(target / TOKENS)


def seen(sample: Sample, noisy: bool) -> Sample:
    """The sample, disturbed in every second kitchen where asked for."""
    return steady(sample) if noisy and int(sample.key.split()[1]) % 2 else sample


def look(samples: Sequence[Sample], checkpoint: Checkpoint, *, bf16: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Patches (B, n, patch_width) and token (B, frame_width) of frames, float16."""
    model = checkpoint.model.eval()
    device = next(model.parameters()).device
    batch = collate([replace(sample, semseg=None) for sample in samples], model.config)
    inputs = {name: value.to(device) for name, value in batch.inputs.items()}
    ids, mask = (part.to(device) for part in checkpoint.tokenizer.encode(GUIDES, model.config.text_length))
    longest = int(mask.sum(1).max())
    with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=bf16):
        sight = model.see(inputs)
        token = frame_token(model, sight, ids[:, :longest], mask[:, :longest])[:, 0]
        patches = patch_features(model.config, sight, inputs)
    return patches.half().cpu().numpy(), token.half().cpu().numpy()
