"""Configs: refused values and the way through JSON."""

import json
from dataclasses import replace

import pytest

from m3et_ros.models.m3et.config import M3ETConfig
from m3et_ros.models.m3et.sizes import SIZES


@pytest.mark.parametrize('config', SIZES.values(), ids=str)
def test_json_round_trip(config):
    assert M3ETConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize(
    'field, value',
    [
        ('name', 'a/b'),
        ('image_size', 225),
        ('patch', 6),
        ('d', 770),
        ('d', True),
        ('d', 0),
        ('schedule', 'TMX'),
        ('schedule', ''),
        ('heads', 7),
        ('mixer', 'mamba3'),
        ('mixer_options', {'Q': 1}),
        ('mixer_options', {'N': 0}),
        ('directions', 'sideways'),
        ('stages', 7),
        ('d_decoder', 100),
        ('decoder_heads', 3),
        ('d_gate', 0),
        ('vocabulary', 5),
        ('text_length', 2),
        ('classes', 256),
        ('class_width', 0),
        ('semseg_stride', 0),
        ('answers', -1),
        ('depth_norm', 'none'),
        ('depth_mean', -1.0),
        ('depth_std', 0.0),
        ('depth_std', 'wide'),
        ('modalities', ()),
        ('modalities', ('depth', 'rgb')),
        ('tasks', ('rgb', 'sound')),
        ('cross_attention', 1),
        ('semantic_bias', None),
        ('gate', 'no'),
        ('d', 768.0),
    ],
)
def test_a_bad_value_is_refused_by_name(field, value):
    with pytest.raises(ValueError, match=field):
        replace(M3ETConfig(), **{field: value})


def test_the_message_names_value_and_range():
    with pytest.raises(ValueError, match='answers is -1; give a whole number from 0 to 100000'):
        M3ETConfig(answers=-1)


def test_heads_of_mamba2_divide_its_width():
    with pytest.raises(ValueError, match="'P'.* is 60"):
        M3ETConfig(mixer='mamba2', mixer_options={'P': 60})


def test_a_text_decoder_needs_text():
    with pytest.raises(ValueError, match='word table'):
        M3ETConfig(modalities=('rgb',), tasks=('text',))


@pytest.mark.parametrize(
    'values, word',
    [
        ({'depht_norm': 'image'}, 'depht_norm'),
        ({'modalities': 'rgb'}, 'modalities'),
        ({'mixer_options': [1]}, 'mixer_options'),
        ({'schedule': ['T']}, 'schedule'),
        ([], 'list'),
    ],
)
def test_a_bad_mapping_is_refused_by_name(values, word):
    with pytest.raises(ValueError, match=word):
        M3ETConfig.from_dict(values)


def test_tokens_of_a_modality():
    config = M3ETConfig()
    assert [config.token_count(m) for m in ('rgb', 'depth', 'semseg', 'text')] == [196, 196, 196, 32]
    assert (config.semseg_size, config.semseg_patch) == (56, 4)
