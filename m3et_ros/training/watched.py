"""Episodes as an action head reads them: one token a frame, from what a frozen M3ET saw (training.remembered)."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from m3et_ros.data.checkpoint import Checkpoint
from m3et_ros.data.kitchen.episodes import EpisodeFrames, open_episodes
from m3et_ros.training.remembered import TOKENS, Watch, remember_frames


def watch_episodes(checkpoint: Checkpoint, folders: Sequence[Path], out: Path, *, bf16: bool = False,
                   watch: Watch = lambda items, *_: items) -> tuple[np.ndarray, list[EpisodeFrames]]:
    """The tokens of all frames of caches, (F, frame_width) float16, and their episodes.

    Args:
        checkpoint: whose model looks, on its device, with colours and depth.
        folders: caches of one split.
        out: folder of the tokens; may be one that a memory has learnt from.
        bf16: matrix products in bfloat16.
        watch: hands on items while it tells how far along they are.

    Raises:
        InputError: a folder is no cache with actions, or `out` holds the frames of others.
    """
    episodes = open_episodes(folders)
    parts = remember_frames(checkpoint, folders, out, bf16=bf16, patches=False, watch=watch)
    return np.concatenate([np.load(part / TOKENS, allow_pickle=False) for part in parts]), episodes
