"""Names and records of caches; what generate and the data set refuse is tested with them."""

import pytest

from m3et_ros.data.errors import InputError
from m3et_ros.data.kitchen.cache.recipe import CacheRecipe, read_recipe, read_shards


def test_names_tell_recipes_apart():
    names = {
        CacheRecipe(0, 10, **fields).name
        for fields in (
            {},
            {'size': 64},
            {'stride': 5},
            {'frames': 9},
            {'shadows': True},
            {'version': 99},
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
    with pytest.raises(InputError, match='no cache of the simulated kitchen'):
        read_recipe(tmp_path)
    with pytest.raises(InputError, match='no cache'):
        read_shards(tmp_path)
