"""A tiny checkpoint with a random episode head."""

from dataclasses import replace

import pytest
import torch

from m3et_ros.models.episode.model import EpisodeHead
from m3et_ros.runtime.open_model import untrained
from m3et_ros.training.memory.run import episode_config


@pytest.fixture(scope='module')
def episode_checkpoint():
    plain = untrained('tiny', 0)
    torch.manual_seed(0)
    config = episode_config(
        plain, ('yes', 'no', 'on the table'), rate_hz=2.5, d=16, d_eye=16, d_value=8, d_slot=8, d_stream=16
    )
    return replace(plain, heads={**plain.heads, 'episode': EpisodeHead(config).eval()})
