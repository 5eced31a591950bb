"""Whether anything is being done at all: what an action head is taught last, on top of all that it has learnt.

Between two actions a head names the likeliest all the same. So a small layer learns, from every frame of the episodes
and with the rest of the head as it is, to tell frames within an action from those between two.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from m3et_ros.data.kitchen.episodes import EpisodeFrames
from m3et_ros.models.mambavl import MambaVL

PASSES, BATCH, LR, WEIGHT_DECAY = 12, 512, 1e-3, 0.05


def frames_seen(head: MambaVL, tokens: np.ndarray, episodes: Sequence[EpisodeFrames]) -> tuple[Tensor, Tensor]:
    """What the head has seen after each frame (F, d), and whether an action is under way there (F,) bool."""
    device, seen = head.A_log.device, []
    with torch.no_grad():
        for episode in episodes:
            clip = torch.from_numpy(np.array(tokens[episode.first:episode.first + len(episode.stamps)])).float()
            seen.append(head.follow(clip.to(device)[None])[0])
    under_way = np.concatenate([episode.now() >= 0 for episode in episodes])
    return torch.cat(seen), torch.from_numpy(under_way).to(device)


def teach_busy(head: MambaVL, tokens: np.ndarray, episodes: Sequence[EpisodeFrames], *, seed: int = 0) -> float:
    """Teach it to a trained head in place; nothing else of the head changes.

    Args:
        head: built with busy > 0.
        tokens: of all frames (training.watched), (F, d_in).
        episodes: of these frames, of training.
        seed: of the layer's weights and the order.

    Returns:
        Cross-entropy of the last pass, nats.
    """
    head.eval()
    head.busy_head.requires_grad_(True)
    seen, under_way = frames_seen(head, tokens, episodes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for layer in head.busy_head:
            if hasattr(layer, 'reset_parameters'):
                layer.reset_parameters()
        optimiser = torch.optim.AdamW(head.busy_head.parameters(), LR, weight_decay=WEIGHT_DECAY)
        for _ in range(PASSES):
            losses = []
            for some in torch.randperm(len(seen)).to(seen.device).split(BATCH):
                loss = F.binary_cross_entropy_with_logits(head.busy(seen[some]), under_way[some].float())
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                losses.append(loss.item())
    head.busy_head.requires_grad_(False)
    return float(np.mean(losses))
