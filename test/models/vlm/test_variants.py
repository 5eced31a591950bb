"""Sizes of the variants, and visual tokens made of M3ET's image encoding."""

import json

import pytest
import torch

from m3et_ros.models.m3et.sizes import SIZES, build
from m3et_ros.models.vlm.matvlm import MaTVLM
from m3et_ros.models.vlm.variants import (
    VARIANTS,
    TalkConfig,
    emma_config,
    kitchen_config,
    read_texts,
    set_trainable,
    vision_width,
    visual_tokens,
)


@pytest.fixture(scope='module')
def model():
    return build('tiny').eval()


@pytest.mark.parametrize('variant', VARIANTS)
def test_a_config_survives_json_and_builds_its_variant(variant):
    config = kitchen_config(variant, d_vision=96, vocabulary=100, d=64, share=0.5 if variant == 'matvlm' else 0)
    again = TalkConfig.from_dict(json.loads(json.dumps(config.to_dict())))
    assert again == config and type(again.build()) is VARIANTS[variant]
    assert set(config.model.language.schedule) == (set('ST') if variant == 'matvlm' else {'M'})


def test_the_paths_that_are_dropped_reach_the_connector():
    config = kitchen_config('ml_mamba', d_vision=96, vocabulary=100, d=64, drop_path=0.25)
    assert [layer.drop_path for layer in config.build().connector.layers] == [0.0, 0.25]


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
        image_encoding = model.encode_images(images)
        whole = visual_tokens(image_encoding, config, rows=config.grid, cols=config.grid)
        one = visual_tokens(image_encoding, config, rows=1, cols=1)
        depth = visual_tokens(model.encode_images({'depth': images['depth']}), config, rows=2, cols=2)
    n = config.grid**2
    assert whole.shape == (2, n, vision_width(config))
    torch.testing.assert_close(
        whole, torch.cat([image_encoding.stages[-1][:, :n], image_encoding.stages[-1][:, n:]], 2)
    )
    torch.testing.assert_close(one[:, 0], whole.mean(1))
    assert not depth[..., : config.d].any() and depth[..., config.d :].any()


def test_a_grid_that_is_not_square_keeps_its_rows_and_columns(model):
    config = SIZES['tiny']
    with torch.no_grad():
        image_encoding = model.encode_images({'rgb': torch.randn(1, 3, config.image_size, config.image_size)})
        found = visual_tokens(image_encoding, config, rows=2, cols=1)
    grid = image_encoding.stages[-1].transpose(1, 2).unflatten(2, (config.grid, config.grid))
    upper, lower = (
        grid[:, :, rows].flatten(2).mean(2) for rows in (slice(config.grid // 2), slice(config.grid // 2, None))
    )
    torch.testing.assert_close(found[0, :, : config.d], torch.cat([upper, lower]))


def test_options_of_the_kitchen_config_arrive():
    config = kitchen_config(
        'emma', d_vision=96, vocabulary=100, d=128, layers=3, side=6, connector='basic', scan='cross'
    ).model
    connector, language = config.connector, config.language
    assert (connector.kind, connector.scan, connector.d_vision, connector.d) == ('basic', 'cross', 96, 128)
    assert (connector.rows, connector.cols, language.vocabulary, language.d, language.schedule) == (
        6,
        6,
        100,
        128,
        'MMM',
    )
    teacher, student = (
        kitchen_config('matvlm', d_vision=96, vocabulary=100, d=128, layers=4, share=share).model for share in (0, 0.5)
    )
    assert (teacher.language.schedule, student.language.schedule) == ('TTTT', 'STST')
    assert (teacher.connector.kind, teacher.language.heads, teacher.language.hidden) == ('short', 2, 512)
    assert kitchen_config('ml_mamba', d_vision=96, vocabulary=100).model.connector.kind == 'advanced'


def test_emma_may_have_mamba_1_and_the_others_not():
    language = kitchen_config('emma', d_vision=96, vocabulary=100, layers=3, mixer='mamba1').model.language
    assert (language.schedule, language.N) == ('OOO', 16)
    for variant in ('ml_mamba', 'matvlm'):
        with pytest.raises(ValueError, match='only emma was published with Mamba-1'):
            kitchen_config(variant, d_vision=96, vocabulary=100, mixer='mamba1')
    with pytest.raises(ValueError, match="mixer is 'mamba3'; give mamba2 or mamba1"):
        kitchen_config('emma', d_vision=96, vocabulary=100, mixer='mamba3')


@pytest.mark.parametrize(
    ('layers', 'fusion', 'taps'), [(6, True, (2, 3, 4, 5)), (3, True, (0, 1, 2)), (6, False, (5,))]
)
def test_emma_reads_the_last_layers_or_the_last_alone(layers, fusion, taps):
    model = kitchen_config('emma', d_vision=96, vocabulary=100, d=128, layers=layers, side=9).model
    head = emma_config(model, fusion=fusion).alignment
    assert (head.taps, head.rows, head.cols, head.d, head.heads) == (taps, 9, 9, 128, 2)
    assert (head.segment, head.target, head.d_target) == (27, 'pixels', 3 * head.patch**2)
    assert emma_config(kitchen_config('emma', d_vision=96, vocabulary=100, d=64, side=6).model).alignment.segment == 9


@pytest.mark.parametrize(('variant', 'mixer'), [*((v, 'mamba2') for v in VARIANTS), ('emma', 'mamba1')])
@pytest.mark.parametrize('system', [(), (7, 3)], ids=['no system message', 'system message'])
def test_texts_after_one_image_have_the_logits_of_each_alone(variant, mixer, system):
    torch.manual_seed(0)
    share = 0.5 if variant == 'matvlm' else 0
    sizes = {'d_vision': 12, 'vocabulary': 50, 'd': 64, 'layers': 2, 'side': 3}
    model = kitchen_config(variant, **sizes, mixer=mixer, share=share, system=system).build().eval()
    features, ids = torch.randn(2, 9, 12), torch.randint(0, 50, (6, 4))
    output = read_texts(model, features, ids, keep=(0,))
    assert (
        set(output.hidden) == {0}
        and output.hidden[0].shape == (2, 9, 64)
        and read_texts(model, features, ids).hidden == {}
    )
    for row in range(6):
        alone = model(features[row // 3 : row // 3 + 1], ids[row : row + 1], keep=(0,))
        torch.testing.assert_close(output.logits[row], alone.logits[0], atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(output.hidden[0][row // 3], alone.hidden[0][0, :9], atol=1e-4, rtol=1e-4)


def test_a_system_message_stands_in_front_of_the_image():
    torch.manual_seed(0)
    sizes = {'d_vision': 12, 'vocabulary': 50, 'd': 64, 'layers': 2, 'side': 3}
    config = kitchen_config('matvlm', **sizes, system=(7, 3))
    assert TalkConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    model, bare = config.build().eval(), kitchen_config('matvlm', **sizes).build().eval()
    bare.load_state_dict(model.state_dict())
    features, ids = torch.randn(2, 9, 12), torch.randint(0, 50, (2, 4))
    # The released form is given the message with the words.
    whole = torch.cat([torch.tensor([[7, 3]] * 2), ids], 1)
    expected = bare(features, whole, before=2).logits[:, 2:]
    torch.testing.assert_close(model(features, ids).logits, expected)
    mask = torch.tensor([[True, True, False, False], [True] * 4])
    torch.testing.assert_close(model(features, ids, mask=mask).logits[1], expected[1], atol=1e-5, rtol=1e-5)
    assert (model(features, ids).logits - bare(features, ids).logits).abs().max() > 1e-3
    student = MaTVLM.from_teacher(model, (1,))
    assert student.config.system == (7, 3)
    for wrong in ([50], [-1], '73', [True]):
        with pytest.raises(ValueError, match='system is'):
            TalkConfig.from_dict(config.to_dict() | {'system': wrong})


@pytest.mark.parametrize('language', [False, True])
def test_the_language_model_learns_only_where_it_should(language):
    model = kitchen_config('matvlm', d_vision=12, vocabulary=50, d=64, layers=2, side=3).build()
    assert set_trainable(model.requires_grad_(False), language=language) is model
    assert all(values.requires_grad for values in model.connector.parameters())
    assert {values.requires_grad for values in model.language.parameters()} == {language}
