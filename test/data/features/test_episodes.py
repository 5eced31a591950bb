"""Frames and episodes as a frozen model encodes them."""

import numpy as np
import pytest
import torch

from m3et_ros.data.errors import InputError
from m3et_ros.data.features import episodes
from m3et_ros.data.features.episodes import PATCHES, TOKENS, disturbed, encode_episodes, encode_frames, encode_samples
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
    """The first kitchen is recorded by a disturbed camera, the second by a clean one."""
    checkpoint = untrained('tiny', 0)
    tokens, found = encode_episodes(checkpoint, [cache], tmp_path / 'tokens')
    sample = KitchenSamples(cache, questions=False)[frame]
    assert tokens.shape == (40, frame_width(checkpoint.model.config)) and len(found) == 2
    assert (disturbed(sample, True) is sample) == (frame == 25)
    sample, config = disturbed(sample, True), checkpoint.model.config
    with torch.inference_mode():
        images = checkpoint.model.encode_images(
            {
                'rgb': rgb_input(sample.rgb, config.image_size),
                'depth': depth_input(sample.depth, config.image_size, depth_scale(sample.depth, config)),
            }
        )
        live = frame_token(checkpoint.model, images, *checkpoint.tokenizer.encode(GUIDES, config.text_length))
    np.testing.assert_allclose(tokens[frame], live[0, 0], rtol=0.01, atol=0.01)


def test_frames_are_encoded_once_and_not_taken_for_another_models(cache, tmp_path):
    first, _ = encode_episodes(untrained('tiny', 0), [cache], tmp_path / 'tokens')
    written = {path: path.stat().st_mtime_ns for path in (tmp_path / 'tokens').rglob('tokens.npy')}
    again, _ = encode_episodes(untrained('tiny', 0), [cache], tmp_path / 'tokens')
    assert np.array_equal(first, again) and all(path.stat().st_mtime_ns == then for path, then in written.items())
    with pytest.raises(InputError, match='that another model encoded'):
        encode_episodes(untrained('tiny', 1), [cache], tmp_path / 'tokens')


def test_an_action_head_reads_the_features_of_a_memory(cache, tmp_path):
    checkpoint = untrained('tiny', 0)
    tokens, _ = encode_episodes(checkpoint, [cache], tmp_path / 'both')
    assert not list((tmp_path / 'both').rglob(PATCHES))
    folders = encode_frames(checkpoint, [cache], tmp_path / 'both')
    assert all((folder / PATCHES).exists() for folder in folders)
    assert np.array_equal(encode_episodes(checkpoint, [cache], tmp_path / 'both')[0], tokens)


def test_options_reach_the_encoder(cache, tmp_path):
    """Frame 5 is of the kitchen that noise disturbs, frame 25 of the clean one."""
    checkpoint = untrained('tiny', 0)
    samples = KitchenSamples(cache, questions=False)
    for name, options in (('plain', {}), ('bf16', {'bf16': True}), ('clean', {'noisy': False})):
        folders = encode_frames(checkpoint, [cache], tmp_path / name, **options)
        tokens = np.concatenate([np.load(folder / TOKENS) for folder in folders])
        patches = np.concatenate([np.load(folder / PATCHES) for folder in folders])
        for frame in (5, 25):
            sample = disturbed(samples[frame], options.get('noisy', True))
            wanted = encode_samples([sample], checkpoint, bf16=options.get('bf16', False))
            for stored, one in zip((patches, tokens), wanted):
                np.testing.assert_allclose(stored[frame], one[0], rtol=0.02, atol=0.02)
    stored = {name: np.load(next((tmp_path / name).rglob(TOKENS))) for name in ('plain', 'bf16', 'clean')}
    assert (stored['plain'] != stored['bf16']).any() and (stored['plain'] != stored['clean']).any()
    with pytest.raises(InputError, match='another model encoded'):
        encode_frames(checkpoint, [cache], tmp_path / 'clean', noisy=True)
    plain, bf16 = (encode_episodes(checkpoint, [cache], tmp_path / name)[0] for name in ('plain', 'bf16'))
    assert (plain != bf16).any()
    fresh, _ = encode_episodes(checkpoint, [cache], tmp_path / 'fresh', bf16=True)
    assert np.array_equal(fresh, bf16)


def test_only_odd_kitchens_are_disturbed_and_only_if_asked_for(cache):
    samples = KitchenSamples(cache, questions=False)
    odd, even = samples[0], samples[20]
    assert (odd.seed, odd.tick, odd.key, even.seed) == (20_003, 0, 'seed 20003 tick 0', 20_004)
    assert disturbed(odd, False) is odd and disturbed(even, True) is even
    assert (disturbed(odd, True).rgb != odd.rgb).any()


def test_progress_counts_the_shards(cache, tmp_path):
    calls = []

    def progress(items, total, what, unit):
        calls.append((len(items), total, what, unit))
        return items

    encode_episodes(untrained('tiny', 0), [cache], tmp_path, progress=progress)
    assert calls == [(1, 1, 'shards encoded', 'shard')]


def test_an_interrupted_shard_is_encoded_again(cache, tmp_path, monkeypatch):
    checkpoint = untrained('tiny', 0)
    (whole,) = encode_frames(checkpoint, [cache], tmp_path / 'whole')
    monkeypatch.setattr(episodes, 'encode_samples', lambda *_, **__: pytest.fail('stopped'))
    with pytest.raises(BaseException, match='stopped'):
        encode_frames(checkpoint, [cache], tmp_path / 'cut')
    monkeypatch.undo()
    assert not list((tmp_path / 'cut').rglob(TOKENS))
    (again,) = encode_frames(checkpoint, [cache], tmp_path / 'cut')
    for name in (TOKENS, PATCHES):
        assert np.array_equal(np.load(again / name), np.load(whole / name))
