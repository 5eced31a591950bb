"""What heads learn from: every frame of cached episodes as a frozen M3ET saw it, encoded once and read many times.

A folder holds, for each shard of the caches, tokens.npy, (f, frame_width) float16, for a memory also patches.npy,
(f, n, patch_width) float16, and one index that names the model. Shards that are there already are not encoded again.

Symbols: f frames of a shard, n colour patches of a frame, g grid side (n = g^2), C classes.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from m3et_ros.data.checkpoints.m3et import Checkpoint
from m3et_ros.data.errors import InputError
from m3et_ros.data.kitchen.cache.dataset import KitchenSamples
from m3et_ros.data.kitchen.cache.episodes import EpisodeFrames, open_episodes
from m3et_ros.data.kitchen.cache.recipe import read_shards
from m3et_ros.data.noise import steady
from m3et_ros.data.progress import Progress, no_progress
from m3et_ros.data.sample import Sample, collate
from m3et_ros.data.shards import open_shard
from m3et_ros.models.actions.frame_token import GUIDES, frame_token, frame_width
from m3et_ros.models.episode.action_log import ActionLog, empty_diary, kept_diaries
from m3et_ros.models.episode.model import EpisodeHead
from m3et_ros.models.episode.percepts import patch_features, patch_width
from m3et_ros.models.vlm.variants import SIDE, SIGHTS, vision_width, visual_tokens

FRAMES_INDEX, PATCHES, TOKENS = 'remembered.json', 'patches.npy', 'tokens.npy'
FRAME_BATCH = 25


def remember_frames(
    checkpoint: Checkpoint,
    folders: Sequence[Path],
    out: Path,
    *,
    bf16: bool = False,
    noisy: bool = True,
    patches: bool = True,
    progress: Progress = no_progress,
) -> list[Path]:
    """Encode all frames of caches.

    Args:
        checkpoint: whose model looks, on its device, with colours and depth.
        folders: caches of one split.
        out: folder of what is encoded.
        bf16: matrix products in bfloat16.
        noisy: every second kitchen is seen through a disturbed camera; False leaves all of them clean.
        patches: False keeps the tokens of frames alone.
        progress: hands on items while it tells how far along they are.

    Returns:
        A folder for each shard, in the order of data.kitchen.episodes.open_episodes.

    Raises:
        InputError: a folder is no cache, or `out` holds the frames of others.
    """
    asked = {
        'model': checkpoint.model_id,
        'noisy': noisy,
        'guides': list(GUIDES),
        'widths': [patch_width(checkpoint.model.config), frame_width(checkpoint.model.config)],
    }
    out.mkdir(parents=True, exist_ok=True)
    if (out / FRAMES_INDEX).exists():
        if json.loads((out / FRAMES_INDEX).read_text(encoding='utf-8')) != asked:
            raise InputError('other_run', f'{out} holds what another model saw; give another folder or delete it.')
    (out / FRAMES_INDEX).write_text(json.dumps(asked, indent=2) + '\n', encoding='utf-8')
    frames, shards = KitchenSamples(folders, questions=False), [p for folder in folders for p in read_shards(folder)]
    counts = [len(open_shard(path).frames) for path in shards]
    jobs = [
        (path, range(sum(counts[:i]), sum(counts[: i + 1])), out / path.parent.name / path.name)
        for i, path in enumerate(shards)
    ]
    for _, numbers, target in progress(jobs, len(jobs), 'shards encoded', 'shard'):
        if not (target / TOKENS).exists() or (patches and not (target / PATCHES).exists()):
            _encode_shard(checkpoint, frames, numbers, target, bf16=bf16, noisy=noisy, keep=patches)
    return [target for *_, target in jobs]


def _encode_shard(
    checkpoint: Checkpoint, frames: KitchenSamples, numbers: range, target: Path, *, bf16: bool, noisy: bool, keep: bool
) -> None:
    """Write the arrays of a shard, the one that tells of its end last; `keep` wants the patches."""
    (target / TOKENS).unlink(missing_ok=True)
    target.mkdir(parents=True, exist_ok=True)
    config = checkpoint.model.config
    patches = (
        np.lib.format.open_memmap(
            target / PATCHES, 'w+', np.float16, (len(numbers), config.image_tokens, patch_width(config))
        )
        if keep
        else None
    )
    tokens = np.empty((len(numbers), frame_width(config)), np.float16)
    for start in range(0, len(numbers), FRAME_BATCH):
        samples = [seen(frames[i], noisy) for i in numbers[start : start + FRAME_BATCH]]
        seen_patches, tokens[start : start + FRAME_BATCH] = look(samples, checkpoint, bf16=bf16)
        if keep:
            patches[start : start + FRAME_BATCH] = seen_patches
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
        sight = model.encode_images(inputs)
        token = frame_token(model, sight, ids[:, :longest], mask[:, :longest])[:, 0]
        patches = patch_features(model.config, sight, inputs)
    return patches.half().cpu().numpy(), token.half().cpu().numpy()


# MERGED from m3et_ros/training/episode
@dataclass(frozen=True)
class EncodedEpisodes:
    """Episodes as the eye saw them."""

    episodes: Sequence[EpisodeFrames]
    # Percepts (F, C, P) and tokens (F, d_in) of all frames, float16.
    percepts: np.ndarray
    tokens: np.ndarray

    def frames(self, episode: EpisodeFrames) -> slice:
        """Where the frames of an episode stand."""
        return slice(episode.first, episode.first + len(episode.stamps))


@torch.inference_mode()
def diaries(head: EpisodeHead, watched: EncodedEpisodes, episode: EpisodeFrames) -> ActionLog:
    """The diaries of an episode at its moments, of batch M; nothing is written in those of the blind."""
    config, count = head.config, len(episode.moments)
    if config.blind:
        return empty_diary(count, config.entries, config.verbs, config.nouns, torch.zeros(1))
    here = watched.frames(episode)
    tokens, percepts = (torch.from_numpy(part[here]).float()[None] for part in (watched.tokens, watched.percepts))
    told, _ = head.tell(tokens, percepts)
    all_of_them = kept_diaries(told, empty_diary(1, config.entries, config.verbs, config.nouns, tokens))
    return ActionLog(*(torch.cat(parts) for parts in zip(*(all_of_them[moment.frame] for moment in episode.moments))))


# MERGED m3et_ros/training/seen: Views as a frozen M3ET sees them: each is encoded once, to visual tokens, and read many times.
#
# MERGED A folder of views holds views.npy, (F, n, d_vision) float16, and seen.json, which names the model, the caches and the
# MERGED frames.
#
# MERGED Symbols: F chosen frames, n visual tokens of a view, d_vision their width (models.talk).
VIEWS, VIEWS_INDEX = 'views.npy', 'seen.json'
VIEW_BATCH = 32


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


def see_views(
    checkpoint: Checkpoint,
    folders: Sequence[Path],
    out: Path,
    *,
    every: int = 5,
    grid: tuple[int, int] = (SIDE, SIDE),
    bf16: bool = False,
    progress: Progress = no_progress,
) -> Views:
    """The views of every n-th frame of caches; what was encoded before is not encoded again.

    Args:
        checkpoint: whose model looks, on its device, with colours and depth.
        folders: caches of one split.
        out: folder of the views.
        every: n; each episode has frames enough that look alike.
        grid: rows and columns of the visual tokens.
        bf16: matrix products in bfloat16.
        progress: hands on items while it tells how far along they are.

    Raises:
        InputError: a folder is no cache, or `out` holds the views of others.
        ValueError: every is below 1.
    """
    if every < 1:
        raise ValueError(f'every is {every}; give at least 1')
    samples = KitchenSamples(folders, questions=False)
    frames = np.arange(0, len(samples), every)
    width = vision_width(checkpoint.model.config)
    asked = {
        'model': checkpoint.model_id,
        'caches': [Path(folder).name for folder in folders],
        'frames': len(samples),
        'every': every,
        'grid': list(grid),
        'width': width,
    }
    views = Views(np.empty(0), frames, grid, checkpoint.model_id)
    if (out / VIEWS_INDEX).exists():
        if json.loads((out / VIEWS_INDEX).read_text(encoding='utf-8')) != asked:
            raise InputError(
                'other_run',
                f'{out} holds the views of another model, other kitchens or another grid; '
                'give another folder or delete it.',
            )
        return replace(views, features=_mapped(out))
    out.mkdir(parents=True, exist_ok=True)
    part = out / f'part-{VIEWS}'
    features = np.lib.format.open_memmap(part, 'w+', np.float16, (len(frames), grid[0] * grid[1], width))
    starts = range(0, len(frames), VIEW_BATCH)
    for start in progress(starts, len(starts), 'views encoded', 'batch'):
        chosen = frames[start : start + VIEW_BATCH]
        features[start : start + len(chosen)] = (
            see([steady(samples[int(i)]) for i in chosen], checkpoint, grid=grid, bf16=bf16).half().cpu().numpy()
        )
    features.flush()
    part.replace(out / VIEWS)
    (out / VIEWS_INDEX).write_text(json.dumps(asked, indent=2) + '\n', encoding='utf-8')
    return replace(views, features=_mapped(out))


def see(samples: Sequence[Sample], checkpoint: Checkpoint, *, grid: tuple[int, int], bf16: bool = False) -> Tensor:
    """Visual tokens (B, n, d_vision) of samples that all have depth or all lack it."""
    model = checkpoint.model.eval()
    device = next(model.parameters()).device
    batch = collate([replace(sample, semseg=None) for sample in samples], model.config)
    shown = {name: batch.inputs[name].to(device) for name in SIGHTS if name in batch.inputs}
    with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=bf16):
        return visual_tokens(model.encode_images(shown), model.config, rows=grid[0], cols=grid[1])


def _mapped(folder: Path) -> np.ndarray:
    return np.load(folder / VIEWS, mmap_mode='r', allow_pickle=False)


# MERGED m3et_ros/training/watched: Episodes as an action head reads them: one token a frame, from what a frozen M3ET saw (training.remembered).
def watch_episodes(
    checkpoint: Checkpoint, folders: Sequence[Path], out: Path, *, bf16: bool = False, progress: Progress = no_progress
) -> tuple[np.ndarray, list[EpisodeFrames]]:
    """The tokens of all frames of caches, (F, frame_width) float16, and their episodes.

    Args:
        checkpoint: whose model looks, on its device, with colours and depth.
        folders: caches of one split.
        out: folder of the tokens; may be one that a memory has learnt from.
        bf16: matrix products in bfloat16.
        progress: hands on items while it tells how far along they are.

    Raises:
        InputError: a folder is no cache with actions, or `out` holds the frames of others.
    """
    episodes = open_episodes(folders)
    parts = remember_frames(checkpoint, folders, out, bf16=bf16, patches=False, progress=progress)
    return np.concatenate([np.load(part / TOKENS, allow_pickle=False) for part in parts]), episodes
