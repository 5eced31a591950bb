"""Episodes through the eyes of a frozen model."""

import numpy as np
import pytest
import torch

from m3et_ros.data.errors import InputError
from m3et_ros.data.features.episodes import PATCHES, disturbed, encode_episodes, encode_frames
from m3et_ros.data.kitchen.cache.dataset import KitchenSamples
from m3et_ros.data.kitchen.cache.generate import generate
from m3et_ros.data.preprocess import depth_input, depth_scale, rgb_input
from m3et_ros.models.actions.frame_token import GUIDES, frame_token, frame_width
from m3et_ros.runtime.open_model import untrained


@pytest.fixture(scope='module')
def cache(tmp_path_factory):
    pytest.importorskip('mujoco')
    return generate(
        tmp_path_factory.mktemp('caches'),
        seeds=range(20_003, 20_005),
        size=32,
        stride=25,
        frames=20,
        backend='raycast',
        workers=0,
        progress=False,
    )


@pytest.mark.parametrize('frame', [5, 25])
def test_tokens_are_what_the_robot_would_make_of_the_frames(cache, tmp_path, frame):
    """The first kitchen is seen by a disturbed camera, the second by a clean one."""
    checkpoint = untrained('tiny', 0)
    tokens, episodes = encode_episodes(checkpoint, [cache], tmp_path / 'tokens')
    sample = KitchenSamples(cache, questions=False)[frame]
    assert tokens.shape == (40, frame_width(checkpoint.model.config)) and len(episodes) == 2
    assert (disturbed(sample, True) is sample) == (frame == 25)
    sample, config = disturbed(sample, True), checkpoint.model.config
    with torch.inference_mode():
        sight = checkpoint.model.encode_images(
            {
                'rgb': rgb_input(sample.rgb, config.image_size),
                'depth': depth_input(sample.depth, config.image_size, depth_scale(sample.depth, config)),
            }
        )
        live = frame_token(checkpoint.model, sight, *checkpoint.tokenizer.encode(GUIDES, config.text_length))
    np.testing.assert_allclose(tokens[frame], live[0, 0], rtol=0.01, atol=0.01)


def test_what_was_encoded_is_not_encoded_again_nor_taken_for_another_models(cache, tmp_path):
    first, _ = encode_episodes(untrained('tiny', 0), [cache], tmp_path / 'tokens')
    written = {path: path.stat().st_mtime_ns for path in (tmp_path / 'tokens').rglob('tokens.npy')}
    again, _ = encode_episodes(untrained('tiny', 0), [cache], tmp_path / 'tokens')
    assert np.array_equal(first, again) and all(path.stat().st_mtime_ns == then for path, then in written.items())
    with pytest.raises(InputError, match='that another model encoded'):
        encode_episodes(untrained('tiny', 1), [cache], tmp_path / 'tokens')


def test_an_action_head_reads_what_a_memory_has_seen(cache, tmp_path):
    checkpoint = untrained('tiny', 0)
    tokens, _ = encode_episodes(checkpoint, [cache], tmp_path / 'both')
    assert not list((tmp_path / 'both').rglob(PATCHES))
    folders = encode_frames(checkpoint, [cache], tmp_path / 'both')
    assert all((folder / PATCHES).exists() for folder in folders)
    assert np.array_equal(encode_episodes(checkpoint, [cache], tmp_path / 'both')[0], tokens)
