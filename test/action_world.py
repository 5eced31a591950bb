"""A world of episodes in which a token says what is done, and a small head for it; for tests of several rooms."""

import numpy as np
import torch

from m3et_ros.data.frame import Labels
from m3et_ros.data.kitchen.cache.episodes import Action, EpisodeFrames
from m3et_ros.models.actions.mambavl import MambaVL, MambaVLConfig

LABELS = Labels((), (), (), ('take', 'put', 'wash'), ('cup', 'pan', 'plate'))
RATE, WIDTH = 5.0, 12


def world(count, seed):
    """Episodes in which wash follows put follows take; tokens show verb and noun while something is done."""
    rng = np.random.default_rng(seed)
    episodes, tokens = [], []
    for number in range(count):
        start, actions, first = 1.0, [], int(rng.integers(9))
        for k in range(8):
            actions.append(Action(start, start + 1.4, (first + k) % 3, (first + k) // 3 % 3))
            start += 1.4 + float(rng.uniform(0.6, 1.6))
        stamps = np.arange(100) / RATE
        episode = EpisodeFrames(str(number), 100 * number, stamps, tuple(actions))
        rows = rng.normal(0, 0.3, (100, WIDTH))
        for place, now in enumerate(episode.now()):
            if now >= 0:
                rows[place, actions[now].verb] += 2
                rows[place, 3 + actions[now].noun] += 2
        episodes.append(episode)
        tokens.append(rows)
    return np.concatenate(tokens).astype(np.float16), episodes


def build(tokenizer, **changes):
    torch.manual_seed(0)
    return MambaVL(
        MambaVLConfig(
            **{
                'd_in': WIDTH,
                'd': 24,
                'd_word': 16,
                'vocabulary': tokenizer.vocabulary,
                'N': 4,
                'verbs': 3,
                'nouns': 3,
                'fade': 5,
                'hidden': 32,
                **changes,
            }
        )
    )
