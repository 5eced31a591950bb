"""Views as visual tokens on disk: those of the chosen frames, encoded once, and never taken for others."""

import json

import numpy as np
import pytest
import torch

from m3et_ros.data.errors import InputError
from m3et_ros.data.features.visual_tokens import encode_view_batch, encode_views
from m3et_ros.data.kitchen.cache.dataset import KitchenSamples
from m3et_ros.data.kitchen.cache.generate import generate
from m3et_ros.data.noise import steady
from m3et_ros.runtime.open_model import untrained


@pytest.fixture(scope='module')
def cache(tmp_path_factory):
    pytest.importorskip('mujoco')
    return generate(
        tmp_path_factory.mktemp('caches'),
        seeds=range(3),
        size=32,
        stride=25,
        frames=6,
        backend='raycast',
        workers=0,
        progress=False,
    )


def test_every_third_frame_is_encoded_and_only_once(cache, tmp_path):
    checkpoint = untrained('tiny', 0)
    views = encode_views(checkpoint, [cache], tmp_path, every=3, grid=(3, 3))
    samples = KitchenSamples(cache, questions=False)
    assert views.frames.tolist() == list(range(0, len(samples), 3)) and views.model_id == 'tiny-random-0'
    for place, frame in enumerate(views.frames):
        wanted = encode_view_batch([steady(samples[int(frame)])], checkpoint, grid=(3, 3))[0]
        torch.testing.assert_close(torch.from_numpy(views.features[place].copy()).float(), wanted, rtol=1e-2, atol=5e-3)
    stamp = (tmp_path / 'views.npy').stat().st_mtime_ns
    again = encode_views(checkpoint, [cache], tmp_path, every=3, grid=(3, 3))
    assert (tmp_path / 'views.npy').stat().st_mtime_ns == stamp and np.array_equal(again.features, views.features)
    for changes in ({'every': 2}, {'grid': (2, 2)}):
        with pytest.raises(InputError, match='another model, other kitchens or another grid'):
            encode_views(checkpoint, [cache], tmp_path, **{'every': 3, 'grid': (3, 3)} | changes)
    with pytest.raises(ValueError, match='every is 0'):
        encode_views(checkpoint, [cache], tmp_path, every=0)


def test_an_interrupted_call_leaves_nothing_that_could_be_read(cache, tmp_path):
    def breaking(items, *_):
        raise KeyboardInterrupt
        yield

    with pytest.raises(KeyboardInterrupt):
        encode_views(untrained('tiny', 0), [cache], tmp_path, every=3, progress=breaking)
    assert not (tmp_path / 'seen.json').exists() and not (tmp_path / 'views.npy').exists()
    encode_views(untrained('tiny', 0), [cache], tmp_path, every=3, grid=(3, 3))
    assert json.loads((tmp_path / 'seen.json').read_text())['every'] == 3


def test_options_reach_the_encoder(cache, tmp_path):
    checkpoint = untrained('tiny', 0)
    calls = []

    def progress(items, total, what, unit):
        calls.append((len(items), total, what, unit))
        return items

    plain = encode_views(checkpoint, [cache], tmp_path / 'plain', every=9, grid=(2, 3), progress=progress)
    bf16 = encode_views(checkpoint, [cache], tmp_path / 'bf16', every=9, grid=(2, 3), bf16=True)
    assert calls == [(1, 1, 'views encoded', 'batch')] and plain.grid == (2, 3) and plain.features.shape[1] == 6
    assert (plain.features != bf16.features).any()
    with pytest.raises(InputError, match='holds the views of another'):
        encode_views(untrained('tiny', 1), [cache], tmp_path / 'plain', every=9, grid=(2, 3))
