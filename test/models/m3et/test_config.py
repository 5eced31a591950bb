"""Configs: limits, refused values and the round trip through JSON."""

import json
from dataclasses import replace

import pytest

from m3et_ros.models.m3et.config import RANGES, M3ETConfig
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
        ('stem', 'deep'),
        ('depth_validity', 1),
        ('decoder_queries', 'bare'),
        ('context_positions', 'yes'),
        ('cross_mlp', None),
        ('cross_attention', 1),
        ('images_hear', 1),
        ('semantic_bias', None),
        ('gate', 'no'),
        ('places', 1),
        ('answer_parts', 3),
        ('look_parts', 1),
        ('d', 768.0),
    ],
)
def test_a_bad_value_is_refused_by_name(field, value):
    with pytest.raises(ValueError, match=field):
        replace(M3ETConfig(), **{field: value})


@pytest.mark.parametrize('changes', [{}, {'adapter_width': 8, 'patch': 12, 'image_size': 120}])
def test_a_stem_of_convolutions_needs_channels_and_patches_that_can_be_halved(changes):
    with pytest.raises(ValueError, match='a power of two, because each convolution halves the image'):
        replace(M3ETConfig(), stem='conv', **changes)
    with pytest.raises(ValueError, match='give an even number'):
        replace(M3ETConfig(), stem='conv', adapter_width=7)
    assert replace(M3ETConfig(), stem='conv', adapter_width=8, patch=2, semseg_stride=2).patch == 2


def test_a_config_written_before_a_field_existed_has_its_old_meaning():
    old = M3ETConfig().to_dict()
    later = {'stem', 'depth_validity', 'decoder_queries', 'context_positions', 'cross_mlp', 'images_hear'}
    found = M3ETConfig.from_dict({name: value for name, value in old.items() if name not in later})
    assert [getattr(found, name) for name in sorted(later)] == [False, False, 'tokens', False, False, 'patch']
    assert found.image_channels == {'rgb': 3, 'depth': 1}


@pytest.mark.parametrize('changes', [{'schedule': 'MM', 'stages': 1}, {'modalities': ('rgb',), 'tasks': ('rgb',)}])
def test_images_hear_words_in_layers_with_attention_alone(changes):
    with pytest.raises(ValueError, match='give a schedule with a T layer, in which images attend to words'):
        replace(M3ETConfig(), images_hear=True, **changes)


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


# A field at either end of its range, with the fields that it has to agree with.
LIMITS = {
    'image_size': ({'image_size': 8, 'patch': 8}, {'image_size': 1024}),
    'patch': ({'patch': 2, 'semseg_stride': 2}, {'patch': 64, 'image_size': 64}),
    'd': ({'d': 8, 'heads': 1}, {'d': 8192, 'heads': 1}),
    'heads': ({'heads': 1}, {'heads': 128}),
    'd_decoder': ({'d_decoder': 8}, {'d_decoder': 4096}),
    'decoder_heads': ({'decoder_heads': 1}, {'decoder_heads': 128}),
    'd_gate': ({'d_gate': 1}, {'d_gate': 8192}),
    'vocabulary': ({'vocabulary': 6}, {'vocabulary': 1_000_000}),
    'text_length': ({'text_length': 3}, {'text_length': 512}),
    'adapter_width': ({'adapter_width': 0}, {'adapter_width': 4096}),
    'decoder_blocks': ({'decoder_blocks': 1}, {'decoder_blocks': 16}),
    'classes': ({'classes': 1}, {'classes': 255}),
    'class_width': ({'class_width': 1}, {'class_width': 1024}),
    'semseg_stride': ({'semseg_stride': 1}, {'semseg_stride': 32, 'patch': 32}),
    'answers': ({'answers': 0}, {'answers': 100_000}),
    'answer_parts': ({'answer_parts': 0}, {'answer_parts': 100_000, 'answers': 1, 'places': True}),
    'look_parts': ({'look_parts': 0}, {'look_parts': 1000, 'answer_parts': 1001, 'answers': 1, 'places': True}),
    'stages': ({'stages': 1}, {'stages': 64, 'schedule': 'T' * 64}),
}


def test_every_range_is_tested_at_its_ends():
    assert LIMITS.keys() == RANGES.keys()


@pytest.mark.parametrize('field', RANGES)
def test_both_ends_of_a_range_are_accepted_and_the_numbers_beyond_refused(field):
    for changes, beyond in zip(LIMITS[field], (-1, 1), strict=True):
        assert getattr(replace(M3ETConfig(), **changes), field) in RANGES[field]
        value = changes[field] + beyond
        with pytest.raises(ValueError, match=f'{field} is {value}; give a whole number from'):
            replace(M3ETConfig(), **changes | {field: value})


def test_there_may_be_as_many_stages_as_layers():
    assert M3ETConfig(schedule='TM', stages=2).stages == 2
    with pytest.raises(ValueError, match='stages is 3; give at most the 2 layers'):
        M3ETConfig(schedule='TM', stages=3)


@pytest.mark.parametrize(('field', 'values'), [('depth_mean', (0, 1000)), ('depth_std', (1e-3, 1000))])
def test_limits_of_the_depth_in_metres(field, values):
    for value in values:
        assert getattr(replace(M3ETConfig(), **{field: value}), field) == value
    for value in (values[0] - 1e-6, 1000.1):
        with pytest.raises(ValueError, match=f'{field} is'):
            replace(M3ETConfig(), **{field: value})


@pytest.mark.parametrize('value', [1, 4096])
def test_limits_of_the_mixer_options(value):
    assert M3ETConfig(mixer_options={'N': value}).mixer_options == {'N': value}
    with pytest.raises(ValueError, match=r"mixer_options\['N'\] is"):
        M3ETConfig(mixer_options={'N': 0 if value == 1 else 4097})


def test_each_mixer_has_its_own_options():
    with pytest.raises(ValueError, match="mixer_options holds 'P'; mamba1 knows N, d_conv, dt_rank, expand"):
        M3ETConfig(mixer_options={'P': 64})
    with pytest.raises(ValueError, match="mixer_options holds 'dt_rank'; mamba2 knows"):
        M3ETConfig(mixer='mamba2', mixer_options={'dt_rank': 4})


def test_answers_of_parts_need_places_and_a_layer_to_point_with():
    whole = M3ETConfig(answers=6, places=True, answer_parts=4, look_parts=3)
    assert (whole.places, whole.answer_parts, whole.look_parts) == (True, 4, 3)
    for changes, word in (
        ({'look_parts': 4}, 'look_parts is 4; give fewer than answer_parts = 4'),
        ({'places': False}, 'answer_parts is 4; give places = true'),
        ({'answers': 0}, 'answer_parts is 4'),
        ({'schedule': 'MMS'}, "schedule 'MMS'; give a schedule with a T layer"),
    ):
        with pytest.raises(ValueError, match=word):
            replace(whole, **changes)


@pytest.mark.parametrize('name', ['', '<b>', '=1', '-x', 'a b', 'a/b', 'a@b', 'a\n', '\x1b[2J', 'x' * 101, 3])
def test_a_name_is_a_word_that_nothing_interprets(name):
    with pytest.raises(ValueError, match='name is'):
        replace(SIZES['tiny'], name=name)
    assert replace(SIZES['tiny'], name='x' * 100).name == 'x' * 100
