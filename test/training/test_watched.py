"""Episodes through the eyes of a frozen model."""

import numpy as np
import pytest
import torch

from m3et_ros.data.errors import InputError
from m3et_ros.data.kitchen.dataset import KitchenSamples
from m3et_ros.data.kitchen.generate import generate
from m3et_ros.models.frame_token import GUIDES, frame_token, frame_width
from m3et_ros.runtime.models import untrained
from m3et_ros.runtime.preprocess import depth_input, depth_scale, rgb_input
from m3et_ros.training.watched import encode, steady, watch_episodes


@pytest.fixture(scope='module')
def cache(tmp_path_factory):
    pytest.importorskip('mujoco')
    return generate(tmp_path_factory.mktemp('caches'), seeds=range(20_003, 20_005), size=32, stride=25, frames=20,
                    backend='raycast', workers=0, progress=False)


def test_tokens_are_what_the_robot_would_make_of_the_frames(cache, tmp_path):
    checkpoint = untrained('tiny', 0)
    tokens, episodes = watch_episodes(checkpoint, [cache], tmp_path / 'tokens')
    frames = KitchenSamples(cache, questions=False)
    assert tokens.shape == (40, frame_width(checkpoint.model.config)) and len(episodes) == 2
    sample = steady(frames[25])
    np.testing.assert_allclose(tokens[25], encode([sample], checkpoint)[0], rtol=0.01, atol=0.01)
    config = checkpoint.model.config
    with torch.inference_mode():
        sight = checkpoint.model.see({'rgb': rgb_input(sample.rgb, config.image_size), 'depth': depth_input(
            sample.depth, config.image_size, depth_scale(sample.depth, config))})
        live = frame_token(checkpoint.model, sight, *checkpoint.tokenizer.encode(GUIDES, config.text_length))
    np.testing.assert_allclose(tokens[25], live[0, 0], rtol=0.01, atol=0.01)


def test_what_was_encoded_is_not_encoded_again_nor_taken_for_another_models(cache, tmp_path):
    first, _ = watch_episodes(untrained('tiny', 0), [cache], tmp_path / 'tokens')
    calls = []
    again, _ = watch_episodes(untrained('tiny', 0), [cache], tmp_path / 'tokens',
                              watch=lambda items, *_: calls.append(1) or items)
    assert not calls and np.array_equal(first, again)
    with pytest.raises(InputError, match='tokens of another model'):
        watch_episodes(untrained('tiny', 1), [cache], tmp_path / 'tokens')
