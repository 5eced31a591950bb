"""Shared parts of the verbs of m3et train: fields that were given, the split of caches, and lines of model cards."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import pytest

from m3et_ros.cli.output import Refused
from m3et_ros.cli.train.app import StageBudget
from m3et_ros.cli.train.common import BudgetOptions, check_training_split, kitchen_lines, print_unfinished, recipe_line
from m3et_ros.data.errors import InputError
from m3et_ros.data.kitchen.cache.recipe import CacheRecipe


@pytest.fixture
def cache(tmp_path):
    """A folder with the recipe of a cache that begins with this kitchen."""

    def make(first):
        recipe = CacheRecipe(first=first, last=first + 1, frames=2)
        folder = tmp_path / recipe.name
        folder.mkdir()
        (folder / 'recipe.json').write_text(json.dumps(asdict(recipe)))
        return folder

    return make


def test_only_fields_that_were_given_are_handed_on():
    assert BudgetOptions().given() == {}
    assert BudgetOptions(samples=0, lr=0.0).given() == {'samples': 0, 'lr': 0.0}
    assert StageBudget(samples=1, batch=2, lr=3.0, optimiser='muon', average=0.0).given() == {
        'samples': 1,
        'batch': 2,
        'lr': 3.0,
        'optimiser': 'muon',
        'average': 0.0,
    }


def test_every_cache_must_hold_training_kitchens(cache):
    train, last_train, validation, test = cache(0), cache(9_999), cache(10_000), cache(20_000)
    check_training_split([])
    check_training_split([train, last_train])
    for wrong in (validation, test):
        with pytest.raises(Refused, match=f'The cache {wrong} holds no training kitchens'):
            check_training_split([train, wrong])
    with pytest.raises(InputError):
        check_training_split([Path('/none')])


def test_a_recipe_is_one_line_of_a_card():
    @dataclass
    class Paint:
        colour: str = 'red'
        coats: int = 2

    assert recipe_line(Paint()) == '- recipe Paint: colour red, coats 2'
    assert recipe_line(Paint(), 'walls') == '- walls: colour red, coats 2'


def test_every_cache_is_one_line_of_a_card(cache):
    lines = kitchen_lines([cache(0), cache(100)])
    assert [line.startswith('- kitchen: ') for line in lines] == [True, True]
    assert 'first 0, last 1,' in lines[0] and 'first 100, last 101,' in lines[1] and kitchen_lines([]) == []


def test_the_way_to_continue_is_printed(capsys):
    print_unfinished()
    assert '--resume continues it' in capsys.readouterr().out
    print_unfinished(as_json=True)
    assert json.loads(capsys.readouterr().out) == {'schema': 1, 'finished': False}
