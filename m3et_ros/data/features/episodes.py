"""Frames of cached episodes encoded by a frozen M3ET: encoded once, read many times by the heads that learn from them.

A folder holds, for each shard of the caches, tokens.npy, (f, frame_width) float16, for a memory also patches.npy,
(f, n, patch_width) float16, and one index that names the model. For an action head in the form of the paper the tokens
of a frame are all its patches in a row, (f, n * d). Shards that are there already are not encoded again.

Symbols: f frames of a shard, F frames of all shards, n colour patches of a frame, C percepts of a frame and P their
    width, B batch, M questions of an episode at their moments.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from m3et_ros.data.checkpoints.m3et import Checkpoint
from m3et_ros.data.errors import InputError
from m3et_ros.data.files import write_atomically
from m3et_ros.data.kitchen.cache.dataset import KitchenSamples
from m3et_ros.data.kitchen.cache.episodes import EpisodeFrames, open_episodes
from m3et_ros.data.kitchen.cache.recipe import read_shards
from m3et_ros.data.noise import steady
from m3et_ros.data.progress import Progress, no_progress
from m3et_ros.data.sample import Sample, collate
from m3et_ros.data.shards import open_shard
from m3et_ros.models.actions.frame_token import GUIDES, frame_token, frame_width, patch_tokens
from m3et_ros.models.episode.action_log import ActionLog, action_logs, empty_action_log
from m3et_ros.models.episode.model import EpisodeHead
from m3et_ros.models.episode.percepts import patch_features, patch_width

INDEX, PATCHES, TOKENS = 'remembered.json', 'patches.npy', 'tokens.npy'
BATCH = 25


def encode_frames(
    checkpoint: Checkpoint,
    folders: Sequence[Path],
    out: Path,
    *,
    bf16: bool = False,
    noisy: bool = True,
    patches: bool = True,
    whole: bool = False,
    progress: Progress = no_progress,
) -> list[Path]:
    """Encode all frames of caches.

    Args:
        checkpoint: the encoder, on its device; it reads colours and depth.
        folders: caches of one split.
        out: folder of the features.
        bf16: matrix products in bfloat16.
        noisy: read every second kitchen through a disturbed camera; False leaves all of them clean.
        patches: False stores the tokens of frames alone.
        whole: True stores all patches of a frame as its tokens.
        progress: reports encoded shards.

    Returns:
        A folder for each shard, in the order of data.kitchen.cache.episodes.open_episodes.

    Raises:
        InputError: a folder is not a cache, or `out` holds the features of another model.
    """
    config = checkpoint.model.config
    width = config.image_tokens * config.d if whole else frame_width(config)
    index = {
        'model': checkpoint.model_id,
        'noisy': noisy,
        'guides': [] if whole else list(GUIDES),
        'widths': [patch_width(config), width],
    }
    out.mkdir(parents=True, exist_ok=True)
    if (out / INDEX).exists() and json.loads((out / INDEX).read_text(encoding='utf-8')) != index:
        raise InputError(
            'other_run',
            f'{out} holds frames that another model encoded, or in another form; give another folder or delete it.',
        )
    with write_atomically(out / INDEX) as part:
        part.write_text(json.dumps(index, indent=2) + '\n', encoding='utf-8')
    samples, shards = KitchenSamples(folders, questions=False), [p for folder in folders for p in read_shards(folder)]
    counts = [len(open_shard(path).frames) for path in shards]
    jobs = [
        (range(sum(counts[:i]), sum(counts[: i + 1])), out / path.parent.name / path.name)
        for i, path in enumerate(shards)
    ]
    for numbers, target in progress(jobs, len(jobs), 'shards encoded', 'shard'):
        if not (target / TOKENS).exists() or (patches and not (target / PATCHES).exists()):
            _encode_shard(checkpoint, samples, numbers, target, width, bf16=bf16, noisy=noisy, patches=patches)
    return [target for _, target in jobs]


def _encode_shard(
    checkpoint: Checkpoint,
    samples: KitchenSamples,
    numbers: range,
    target: Path,
    width: int,
    *,
    bf16: bool,
    noisy: bool,
    patches: bool,
) -> None:
    """Write the arrays of a shard, the tokens of `width` last: their file marks the shard as complete."""
    (target / TOKENS).unlink(missing_ok=True)
    target.mkdir(parents=True, exist_ok=True)
    config = checkpoint.model.config
    stored = None
    if patches:
        shape = len(numbers), config.image_tokens, patch_width(config)
        stored = np.lib.format.open_memmap(target / PATCHES, 'w+', np.float16, shape)
    tokens = np.empty((len(numbers), width), np.float16)
    for start in range(0, len(numbers), BATCH):
        batch = [disturbed(samples[i], noisy) for i in numbers[start : start + BATCH]]
        values, tokens[start : start + BATCH] = encode_samples(
            batch, checkpoint, bf16=bf16, whole=width != frame_width(config)
        )
        if stored is not None:
            stored[start : start + BATCH] = values
    if stored is not None:
        stored.flush()
    with write_atomically(target / TOKENS) as part, part.open('wb') as file:
        np.save(file, tokens)


def disturbed(sample: Sample, noisy: bool) -> Sample:
    """Return the sample of a kitchen, disturbed in every second kitchen if `noisy`."""
    return steady(sample) if noisy and sample.seed is not None and sample.seed % 2 else sample


def encode_samples(
    samples: Sequence[Sample], checkpoint: Checkpoint, *, bf16: bool = False, whole: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Encode samples to patches (B, n, patch_width) and a token (B, frame_width) each, float16.

    With `whole` the token is all patches of the frame, (B, n * d).
    """
    model = checkpoint.model.eval()
    device = next(model.parameters()).device
    batch = collate([replace(sample, semseg=None) for sample in samples], model.config)
    inputs = {name: value.to(device) for name, value in batch.inputs.items()}
    ids, mask = (part.to(device) for part in checkpoint.tokenizer.encode(GUIDES, model.config.text_length))
    longest = int(mask.sum(1).max())
    with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=bf16):
        images = model.encode_images(inputs)
        token = patch_tokens(images) if whole else frame_token(model, images, ids[:, :longest], mask[:, :longest])
        patches = patch_features(model.config, images, inputs)
    return patches.half().cpu().numpy(), token[:, 0].half().cpu().numpy()


def encode_episodes(
    checkpoint: Checkpoint,
    folders: Sequence[Path],
    out: Path,
    *,
    bf16: bool = False,
    whole: bool = False,
    progress: Progress = no_progress,
) -> tuple[np.ndarray, list[EpisodeFrames]]:
    """Encode caches for an action head.

    Args:
        checkpoint: the encoder, on its device; it reads colours and depth.
        folders: caches of one split.
        out: folder of the features; it may be the one that a memory was trained on.
        bf16: matrix products in bfloat16.
        whole: True for all patches of a frame as its tokens.
        progress: reports encoded shards.

    Returns:
        The tokens of all frames, (F, frame_width) or (F, n * d) float16, and the episodes.

    Raises:
        InputError: a folder is not a cache with actions, or `out` holds the features of another model.
    """
    episodes = open_episodes(folders)
    parts = encode_frames(checkpoint, folders, out, bf16=bf16, patches=False, whole=whole, progress=progress)
    return np.concatenate([np.load(part / TOKENS, allow_pickle=False) for part in parts]), episodes


@dataclass(frozen=True)
class EncodedEpisodes:
    """Episodes with the percepts and tokens of their frames."""

    episodes: Sequence[EpisodeFrames]
    # Percepts (F, C, P) and tokens (F, d_in) of all frames, float16.
    percepts: np.ndarray
    tokens: np.ndarray

    def frames(self, episode: EpisodeFrames) -> slice:
        """Return the positions of the frames of an episode."""
        return slice(episode.first, episode.first + len(episode.stamps))


@torch.inference_mode()
def logs_at_questions(head: EpisodeHead, encoded: EncodedEpisodes, episode: EpisodeFrames) -> ActionLog:
    """Return the action logs of an episode at the moments of its questions, of batch M; empty for a blind head."""
    config, count = head.config, len(episode.question_points)
    if config.blind:
        return empty_action_log(count, config.entries, config.verbs, config.nouns, torch.zeros(1))
    own = encoded.frames(episode)
    tokens, percepts = (torch.from_numpy(part[own]).float()[None] for part in (encoded.tokens, encoded.percepts))
    readout, _ = head.recognise_actions(tokens, percepts)
    logs = action_logs(readout, empty_action_log(1, config.entries, config.verbs, config.nouns, tokens))
    asked = (logs[point.frame] for point in episode.question_points)
    return ActionLog(*(torch.cat(parts) for parts in zip(*asked, strict=True)))
