"""Weights by name: released Mamba-2 and MaTVLM keys and shapes, configs, and missing or unknown tensors."""

from dataclasses import replace

import pytest
import torch
from released_names import mamba_tensors, matvlm_tensors
from transformers import Mamba2Config, MambaConfig, PhiConfig

from m3et_ros.models.vlm.import_weights import (
    config_from,
    fill,
    language_tensors,
    schedule_of,
    visual_config_from,
    visual_language_tensors,
)
from m3et_ros.models.vlm.language_model import MAMBA2_2B7, PHI2, LanguageConfig, LanguageModel

MAMBA = LanguageConfig(d=32, schedule='MM', N=8, P=8, vocabulary=48)
HYBRID = LanguageConfig(
    d=32, schedule='STT', heads=4, channels=4, hidden=48, norm='layer', tied=False, head_bias=True, vocabulary=48
)


def test_released_mamba2_is_read_by_name():
    tensors = mamba_tensors(MAMBA)
    model = fill(LanguageModel(MAMBA), language_tensors(tensors, MAMBA))
    assert torch.equal(model.layers[1].mixer.A_log, tensors['backbone.layers.1.mixer.A_log'])
    assert torch.equal(model.embedding.weight, tensors['backbone.embedding.weight'])
    assert torch.equal(model.norm.weight, tensors['backbone.norm_f.weight'])
    assert schedule_of(list(tensors)) == 'MM'


def test_a_hybrid_phi_is_read_by_name():
    tensors = {
        name.removeprefix('language_model.'): value
        for name, value in matvlm_tensors(HYBRID, 12).items()
        if name.startswith('language_model')
    }
    tensors['model.layers.1.self_attn.rotary_emb.inv_freq'] = torch.zeros(2)  # older versions store this table
    model = fill(LanguageModel(HYBRID), language_tensors(tensors, HYBRID))
    assert torch.equal(model.layers[0].mixer.in_proj.weight, tensors['model.layers.0.mamba.in_proj.weight'])
    assert torch.equal(model.layers[2].mixer.dense.bias, tensors['model.layers.2.self_attn.dense.bias'])
    assert torch.equal(model.layers[2].fc2.bias, tensors['model.layers.2.mlp.fc2.bias'])
    assert torch.equal(model.head_bias, tensors['lm_head.bias'])
    assert schedule_of(list(tensors)) == 'STT'


def test_names_and_shapes_of_the_published_sizes_fit():
    with torch.device('meta'):
        hybrid = replace(PHI2, schedule=''.join('S' if index in (0, 6, 12, 18) else 'T' for index in range(32)))
        for config, tensors in (
            (MAMBA2_2B7, mamba_tensors(MAMBA2_2B7)),
            (
                hybrid,
                {
                    name.removeprefix('language_model.'): value
                    for name, value in matvlm_tensors(hybrid, 1152).items()
                    if name.startswith('language_model')
                },
            ),
        ):
            wanted = LanguageModel(config).state_dict()
            found = language_tensors(tensors, replace(config, tied=False))
            found.pop('head.weight') if config.tied else None
            assert {name: value.shape for name, value in found.items()} == {
                name: value.shape for name, value in wanted.items()
            }
            assert schedule_of(list(tensors)) == config.schedule


def test_a_missing_an_extra_and_a_misshapen_tensor_are_named():
    good = language_tensors(mamba_tensors(MAMBA), MAMBA)
    model = LanguageModel(MAMBA)
    with pytest.raises(ValueError, match=r'no tensor for layers\.1\.mixer\.D; give a complete checkpoint'):
        fill(model, {name: value for name, value in good.items() if name != 'layers.1.mixer.D'})
    with pytest.raises(ValueError, match=r'a tensor for layers\.2\.norm\.weight, which the config does not describe'):
        fill(model, good | {'layers.2.norm.weight': torch.ones(32)})
    with pytest.raises(ValueError, match=r'norm\.weight as \(33,\) and the config asks for \(32,\)'):
        fill(model, good | {'norm.weight': torch.ones(33)})
    with pytest.raises(ValueError, match=r'a tensor backbone\.gate, which this model has no place for'):
        language_tensors({'backbone.gate': torch.ones(1)}, MAMBA)
    with pytest.raises(ValueError, match=r'a tensor projector\.weight, which this model has no place for'):
        visual_language_tensors({'projector.weight': torch.ones(1)}, HYBRID)
    twice = {'backbone.embedding.weight': torch.ones(1), 'backbone.embeddings.weight': torch.ones(1)}
    with pytest.raises(ValueError, match=r'two tensors for embedding\.weight, the second of them backbone\.embeddings'):
        language_tensors(twice, MAMBA)
    with pytest.raises(ValueError, match='layer 1 of the checkpoint has 0 mixers'):
        schedule_of(['backbone.layers.0.mixer.D', 'backbone.layers.2.mixer.D'])


def test_a_head_of_its_own_does_not_fit_a_tied_config():
    tensors = mamba_tensors(MAMBA) | {'lm_head.weight': torch.randn(48, 32)}
    with pytest.raises(ValueError, match=r'lm_head\.weight that differs from its word table'):
        language_tensors(tensors, MAMBA)
    untied = replace(MAMBA, tied=False)
    model = fill(LanguageModel(untied), language_tensors(tensors, untied))
    assert torch.equal(model.head.weight, tensors['lm_head.weight'])


def test_configs_of_the_published_models():
    stored = {
        'd_model': 2560,
        'd_intermediate': 0,
        'n_layer': 64,
        'vocab_size': 50277,
        'ssm_cfg': {'layer': 'Mamba2'},
        'attn_layer_idx': [],
        'attn_cfg': {},
        'rms_norm': True,
        'residual_in_fp32': True,
        'fused_add_norm': True,
        'pad_vocab_size_multiple': 16,
        'tie_embeddings': True,
    }
    assert config_from(stored, name='mamba2_2.7b') == MAMBA2_2B7
    phi2 = PhiConfig(
        vocab_size=51200,
        hidden_size=2560,
        intermediate_size=10240,
        num_hidden_layers=32,
        num_attention_heads=32,
        partial_rotary_factor=0.4,
        resid_pdrop=0.1,
    )
    assert config_from(phi2.to_dict(), name='phi2') == replace(PHI2, kv_heads=32)
    old = {
        'model_type': 'phi',
        'vocab_size': 51200,
        'hidden_size': 2560,
        'intermediate_size': 10240,
        'num_hidden_layers': 32,
        'num_attention_heads': 32,
        'partial_rotary_factor': 0.4,
        'rope_theta': 10000.0,
        'resid_pdrop': 0.1,
        'layer_norm_eps': 1e-5,
    }
    assert config_from(old, name='phi2') == PHI2


@pytest.mark.parametrize(
    'config',
    [
        Mamba2Config(),
        Mamba2Config(n_groups=1, hidden_size=64, num_heads=2),
        MambaConfig(),
        PhiConfig(),
        PhiConfig(hidden_size=64, num_attention_heads=2, resid_pdrop=0.1),
    ],
)
def test_a_stored_config_holds_what_differs_from_the_defaults_alone(config):
    assert config_from(config.to_diff_dict(), name='x') == config_from(config.to_dict(), name='x')


def test_the_config_of_a_released_matvlm():
    tensors = matvlm_tensors(HYBRID, 12)
    text = {
        'model_type': 'phi',
        'hidden_size': 32,
        'num_attention_heads': 4,
        'intermediate_size': 48,
        'vocab_size': 48,
        'num_hidden_layers': 3,
        'partial_rotary_factor': 0.5,
        'resid_pdrop': 0.1,
    }
    values = {
        'model_type': 'tinyllava',
        'connector_type': 'mlp2x_gelu',
        'text_config': text,
        'vision_config': {'hidden_size': 12, 'image_size': 384, 'patch_size': 14},
    }
    config = visual_config_from(values, list(tensors), name='copy')
    assert config.language == replace(HYBRID, name='copy', dropout=0.1)
    assert (config.connector.kind, config.connector.rows, config.connector.d_vision) == ('short', 27, 12)
    with pytest.raises(ValueError, match='connector_type is .resampler.; this package implements .mlp2x_gelu. only'):
        visual_config_from(values | {'connector_type': 'resampler'}, list(tensors), name='copy')
    with pytest.raises(ValueError, match='the config has no vision_config'):
        visual_config_from({'text_config': text}, list(tensors), name='copy')


def test_a_model_without_memory_takes_the_tensors_themselves():
    tensors = language_tensors(mamba_tensors(MAMBA), MAMBA)
    with torch.device('meta'):
        model = LanguageModel(MAMBA)
    fill(model, tensors)
    assert model.layers[0].mixer.in_proj.weight.data_ptr() == tensors['layers.0.mixer.in_proj.weight'].data_ptr()
    assert model.layers[0].mixer.A_log._no_weight_decay and model.layers[1].mixer.D._no_weight_decay
    assert torch.isfinite(model(torch.zeros(1, 3, dtype=torch.int64)).logits).all()


@pytest.mark.parametrize(
    ('values', 'words'),
    [
        ({'model_type': 'llama'}, "model_type is 'llama'; give a config of mamba, mamba2, phi or state-spaces"),
        ({'model_type': 'phi', 'qk_layernorm': True}, 'qk_layernorm is True; this package implements False only'),
        ({'ssm_cfg': {'layer': 'Mamba2'}}, 'the config has no vocab_size; give the whole config.json'),
        (Mamba2Config(time_step_limit=(0.0, 0.5)).to_dict(), r'time_step_limit is \[0.0, 0.5\]'),
        ({'model_type': 'mamba2', 'time_step_limit': [0.0, {'__float__': '0.5'}]}, 'this package implements no limits'),
        (Mamba2Config(use_bias=True).to_dict(), 'use_bias is True; this package implements False only'),
        ({'ssm_cfg': {'layer': 'Mamba3'}}, "layer is 'Mamba3'; this package implements 'Mamba2' only"),
        ({'ssm_cfg': {'dt_rank': 4}}, "dt_rank is 4; this package implements 'auto' only"),
        ({'model_type': 'mamba', 'time_step_rank': 4}, 'time_step_rank is 4; this package implements 48'),
    ],
)
def test_configs_of_other_models_are_refused(values, words):
    with pytest.raises(ValueError, match=words):
        config_from(values, name='other')


def test_every_size_of_a_state_spaces_config_arrives():
    options = {'layer': 'Mamba2', 'expand': 4, 'd_state': 8, 'headdim': 16, 'ngroups': 2, 'd_conv': 3, 'chunk_size': 32}
    values = {'d_model': 32, 'n_layer': 3, 'vocab_size': 50, 'ssm_cfg': options, 'tie_embeddings': False}
    values['pad_vocab_size_multiple'] = 1
    assert config_from(values, name='x') == LanguageConfig(
        name='x', vocabulary=50, d=32, schedule='MMM', expand=4, N=8, P=16, G=2, d_conv=3, chunk=32, tied=False
    )


def test_a_state_spaces_config_without_a_layer_is_mamba_1():
    values = {'d_model': 768, 'n_layer': 2, 'vocab_size': 50277, 'ssm_cfg': {}}
    assert config_from(values, name='x') == LanguageConfig(
        name='x', vocabulary=50280, d=768, schedule='OO', N=16, P=64, chunk=256
    )


def test_every_size_of_a_mamba2_config_arrives():
    values = {
        'model_type': 'mamba2',
        'vocab_size': 50,
        'hidden_size': 32,
        'num_hidden_layers': 3,
        'expand': 4,
        'state_size': 8,
        'head_dim': 16,
        'num_heads': 8,
        'n_groups': 2,
        'conv_kernel': 3,
        'chunk_size': 32,
        'tie_word_embeddings': True,
    }
    assert config_from(values, name='x') == LanguageConfig(
        name='x', vocabulary=50, d=32, schedule='MMM', expand=4, N=8, P=16, G=2, d_conv=3, chunk=32, tied=True
    )


def test_every_size_of_a_phi_config_arrives():
    values = {
        'model_type': 'phi',
        'vocab_size': 50,
        'hidden_size': 64,
        'intermediate_size': 96,
        'num_hidden_layers': 2,
        'num_attention_heads': 4,
        'num_key_value_heads': 2,
        'resid_pdrop': 0.2,
        'layer_norm_eps': 1e-6,
        'partial_rotary_factor': 0.5,
        'rope_theta': 500.0,
    }
    assert config_from(values, name='x') == LanguageConfig(
        name='x',
        vocabulary=50,
        d=64,
        schedule='TT',
        heads=4,
        kv_heads=2,
        channels=8,
        base=500.0,
        hidden=96,
        dropout=0.2,
        norm='layer',
        eps=1e-6,
        tied=False,
        head_bias=True,
    )


@pytest.mark.parametrize(
    ('kind', 'name', 'value'),
    [
        ('mamba2', 'use_bias', True),
        ('mamba2', 'use_conv_bias', False),
        ('mamba2', 'hidden_act', 'gelu'),
        ('mamba2', 'layer_norm_epsilon', 1e-6),
        ('phi', 'hidden_act', 'relu'),
        ('phi', 'tie_word_embeddings', True),
        ('phi', 'embd_pdrop', 0.1),
        ('phi', 'attention_dropout', 0.1),
    ],
)
def test_switches_that_are_not_implemented_are_refused_one_by_one(kind, name, value):
    config_from({'model_type': kind}, name='x')
    with pytest.raises(ValueError, match=f'{name} is .*; this package implements'):
        config_from({'model_type': kind, name: value}, name='x')


@pytest.mark.parametrize(
    ('where', 'name', 'value'),
    [
        ('ssm_cfg', 'rmsnorm', False),
        ('ssm_cfg', 'bias', True),
        ('ssm_cfg', 'conv_bias', False),
        ('ssm_cfg', 'D_has_hdim', True),
        ('', 'rms_norm', False),
        ('', 'attn_layer_idx', [1]),
        ('', 'd_intermediate', 64),
    ],
)
def test_switches_of_state_spaces_are_refused_one_by_one(where, name, value):
    values = {'d_model': 64, 'n_layer': 2, 'vocab_size': 50, 'ssm_cfg': {'layer': 'Mamba2'}}
    assert config_from(values, name='x').d == 64
    (values[where] if where else values)[name] = value
    with pytest.raises(ValueError, match=f'{name} is .*; this package implements'):
        config_from(values, name='x')
