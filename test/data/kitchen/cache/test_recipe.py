"""Names and records of caches; what generate and the data set refuse is tested with them."""

import json
from dataclasses import asdict

import pytest

from m3et_ros.data.errors import InputError
from m3et_ros.data.kitchen.cache.recipe import CacheRecipe, read_recipe, read_shards, shard_name


def test_names_tell_recipes_apart():
    names = {
        CacheRecipe(0, 10, **fields).name
        for fields in (
            {},
            {'size': 64},
            {'stride': 5},
            {'frames': 9},
            {'shadows': True, 'version': 1},
            {'version': 1},
            {'backend': 'egl'},
        )
    }
    assert len(names) == 7


def test_blocks_cover_the_seeds_once():
    recipe = CacheRecipe(3, 40, block=16)
    assert [seed for block in recipe.blocks() for seed in block] == list(range(3, 40))
    assert recipe.split == 'train' and CacheRecipe(20_000, 20_001).split == 'test'


@pytest.mark.parametrize(
    'text',
    [
        '',
        '[1]',
        '{"first": 0}',
        '{"first": 0, "last": 5, "colour": "red"}',
        '{"first": 0, "last": "five"}',
        '{"first": 9990, "last": 10010}',
    ],
)
def test_a_foreign_record_is_refused(tmp_path, text):
    (tmp_path / 'recipe.json').write_text(text)
    with pytest.raises(InputError, match='not a cache of the simulated kitchen'):
        read_recipe(tmp_path)
    with pytest.raises(InputError, match='not a cache'):
        read_shards(tmp_path)


@pytest.mark.parametrize(
    ('name', 'low', 'high'),
    [('size', 16, 512), ('stride', 1, 1000), ('frames', 1, 10_000), ('block', 1, 1000), ('version', 1, 2)],
)
def test_fields_are_admitted_up_to_their_limits_and_refused_beyond(name, low, high):
    for value in (low, high):
        assert getattr(CacheRecipe(0, 10, **{name: value}), name) == value
    for value in (low - 1, high + 1):
        with pytest.raises(ValueError, match=f'{name} is {value}; give {low} to {high}'):
            CacheRecipe(0, 10, **{name: value})


@pytest.mark.parametrize(
    ('first', 'last', 'split'),
    [(0, 10_000, 'train'), (10_000, 10_500, 'validation'), (20_000, 20_001, 'test'), (2**31 - 2, 2**31 - 1, 'test')],
)
def test_seeds_of_one_split_are_admitted_up_to_its_last(first, last, split):
    assert CacheRecipe(first, last).split == split


@pytest.mark.parametrize(('first', 'last'), [(-1, 5), (5, 5), (9_999, 10_001), (10_499, 10_501), (2**31 - 2, 2**31)])
def test_seeds_of_no_split_or_two_are_refused(first, last):
    with pytest.raises(ValueError, match='first is|last is|not of one split'):
        CacheRecipe(first, last)


def test_the_name_says_every_field():
    recipe = CacheRecipe(3, 40, 64, 5, 9, shadows=True, backend='egl', version=1)
    assert recipe.name == 'kitchen-v1-seeds3-39-64px-9x5-shadows-egl'
    assert CacheRecipe(3, 40, 64, 5, 9, version=2).name == 'kitchen-v2-seeds3-39-64px-9x5'
    other = CacheRecipe(20_000, 20_040, 224, 25, 12, version=2, camera='other')
    assert other.name == 'kitchen-v2-seeds20000-20039-224px-12x25-other'
    assert shard_name(range(32, 40)) == '0000032'


def test_a_recipe_from_before_cameras_and_versions_is_of_version_1_with_its_own_camera(tmp_path):
    old = {'first': 3, 'last': 9, 'size': 112, 'stride': 7, 'frames': 43, 'shadows': False, 'backend': 'auto'}
    (tmp_path / 'recipe.json').write_text(json.dumps(old | {'block': 16, 'version': 1}))
    recipe = read_recipe(tmp_path)
    assert recipe == CacheRecipe(3, 9, 112, version=1) and recipe.camera == 'own'
    assert recipe.name == 'kitchen-v1-seeds3-8-112px-43x7'


@pytest.mark.parametrize(
    ('fields', 'words'),
    [
        ({'camera': 'third', 'version': 2}, 'give own or other'),
        ({'camera': 'other', 'version': 1}, 'for version 2 and test seeds'),
        ({'camera': 'other', 'version': 2, 'first': 10_000, 'last': 10_002}, 'for version 2 and test seeds'),
        ({'shadows': True, 'version': 2}, 'leave it False'),
    ],
)
def test_a_camera_or_shadows_that_a_version_lacks_are_refused(fields, words):
    with pytest.raises(ValueError, match=words):
        CacheRecipe(**{'first': 20_000, 'last': 20_002} | fields)


def test_a_written_recipe_reads_back(tmp_path):
    recipe = CacheRecipe(3, 40, 64, 5, 9, shadows=True, backend='egl', block=4, version=1)
    (tmp_path / 'recipe.json').write_text(json.dumps(asdict(recipe)))
    assert read_recipe(tmp_path) == recipe
    with pytest.raises(InputError, match='has no finished shard'):
        read_shards(tmp_path)
