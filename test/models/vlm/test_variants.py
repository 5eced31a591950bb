"""Sizes of the generative family and the visual tokens that M3ET's sight becomes."""

import json

import pytest
import torch

from m3et_ros.models.m3et.sizes import SIZES, build
from m3et_ros.models.vlm.variants import VARIANTS, TalkConfig, emma_config, kitchen_config, vision_width, visual_tokens


@pytest.fixture(scope='module')
def model():
    return build('tiny').eval()


@pytest.mark.parametrize('variant', VARIANTS)
def test_a_config_survives_json_and_builds_its_variant(variant):
    config = kitchen_config(variant, d_vision=96, vocabulary=100, d=64, share=0.5 if variant == 'matvlm' else 0)
    again = TalkConfig.from_dict(json.loads(json.dumps(config.to_dict())))
    assert again == config and type(again.build()) is VARIANTS[variant]
    assert set(config.model.language.schedule) == (set('ST') if variant == 'matvlm' else {'M'})


def test_the_shipped_size_fits(capsys):
    for variant in VARIANTS:
        with torch.device('meta'):
            built = kitchen_config(variant, d_vision=384, vocabulary=528).build()
        assert 2 * sum(p.numel() for p in built.parameters()) < 15e6


@pytest.mark.parametrize(
    ('change', 'sentence'),
    [
        ({'variant': 'gpt'}, 'variant'),
        ({'language': {'d': 32, 'size': 1}}, "no field 'size'"),
        ({'connector': {'d': 32}}, 'connector.d is 32'),
        ({'language': 3}, 'give its fields'),
        ({'more': 1}, "'more'"),
    ],
)
def test_other_configs_are_refused(change, sentence):
    values = kitchen_config('emma', d_vision=96, vocabulary=100, d=64).to_dict()
    with pytest.raises(ValueError, match=sentence):
        TalkConfig.from_dict(values | change)


def test_a_grid_without_blocks_of_three_is_refused_for_emma():
    with pytest.raises(ValueError, match='multiples of 3'):
        emma_config(kitchen_config('emma', d_vision=96, vocabulary=100, d=64, side=8).model)


def test_visual_tokens_are_averages_of_patches_beside_each_other(model):
    config = SIZES['tiny']
    images = {
        'rgb': torch.randn(2, 3, config.image_size, config.image_size),
        'depth': torch.randn(2, 1, config.image_size, config.image_size),
    }
    with torch.no_grad():
        sight = model.encode_images(images)
        whole = visual_tokens(sight, config, rows=config.grid, cols=config.grid)
        one = visual_tokens(sight, config, rows=1, cols=1)
        depth = visual_tokens(model.encode_images({'depth': images['depth']}), config, rows=2, cols=2)
    n = config.grid**2
    assert whole.shape == (2, n, vision_width(config))
    torch.testing.assert_close(whole, torch.cat([sight.stages[-1][:, :n], sight.stages[-1][:, n:]], 2))
    torch.testing.assert_close(one[:, 0], whole.mean(1))
    assert not depth[..., : config.d].any() and depth[..., config.d :].any()
