"""Standard caches by name, and what fits the kitchen."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from m3et_ros.data.errors import InputError
from m3et_ros.data.kitchen.cache.dataset import KitchenSamples
from m3et_ros.data.kitchen.cache.recipe import CacheRecipe
from m3et_ros.data.kitchen.questions.frame_wordings import FIRST_ANSWERS
from m3et_ros.evaluation import standard_caches
from m3et_ros.evaluation.standard_caches import check_fit, find_cache, make_cache
from m3et_ros.runtime.open_model import untrained

SMALL = {'first': 20_003, 'last': 20_004, 'size': 32, 'frames': 2, 'stride': 25, 'backend': 'raycast'}


def test_the_standard_caches_are_of_their_splits(monkeypatch, tmp_path):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    for name in ('test', 'validation'):
        folder, recipe = find_cache(name)
        assert recipe.split == name and recipe.size == 112 and folder == tmp_path / 'm3et' / recipe.name
    for name, camera in (('test-own', 'own'), ('test-other', 'other')):
        folder, recipe = find_cache(name)
        assert (recipe.split, recipe.version, recipe.camera, recipe.size) == ('test', 2, camera, 224)
    assert find_cache('some/where') == (Path('some/where'), None)


def test_a_relative_cache_home_is_ignored(monkeypatch):
    monkeypatch.setenv('XDG_CACHE_HOME', 'caches')
    monkeypatch.setenv('HOME', '/home/somebody')
    assert find_cache('test')[0].parent == Path('/home/somebody/.cache/m3et')


def test_a_standard_cache_is_made_once(monkeypatch, tmp_path):
    pytest.importorskip('mujoco')
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    monkeypatch.setattr(standard_caches, 'STANDARD', {'test': SMALL})
    folder, missing = find_cache('test')
    assert missing == CacheRecipe(**SMALL)
    assert make_cache(missing, workers=0, progress=False) == folder
    assert find_cache('test') == (folder, None)
    assert KitchenSamples(folder, questions=False).seeds() == {20_003}


def test_what_does_not_fit_is_refused(tiny):
    recipe = CacheRecipe(**SMALL)
    check_fit(tiny, recipe)
    check_fit(replace(tiny, labels=replace(tiny.labels, answers=FIRST_ANSWERS)), recipe)
    answers, classes = tiny.labels.answers, tiny.labels.classes
    for labels, words in (
        (replace(tiny.labels, answers=answers[:-2]), f'{len(answers) - 2} answers'),
        (replace(tiny.labels, answers=answers[::-1]), 'other answers'),
        (replace(tiny.labels, classes=classes[1:] + ('cat',)), 'other classes'),
    ):
        with pytest.raises(InputError, match=words):
            check_fit(replace(tiny, labels=labels), recipe)
    with pytest.raises(InputError, match=r'112 pixels .* stores 32; .*--size 112'):
        check_fit(untrained('kitchen', 0), recipe)
    with torch.no_grad():
        tiny.model.answer_head.layers[0].bias[3] = float('nan')
    with pytest.raises(InputError, match=r'answer_head\.layers\.0\.bias that are not finite'):
        check_fit(tiny, recipe)


def test_a_user_without_a_home_is_told_so(monkeypatch):
    def homeless():
        raise RuntimeError('Could not determine home directory.')

    for name in ('XDG_CACHE_HOME', 'M3ET_CACHE'):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(standard_caches.Path, 'home', homeless)
    with pytest.raises(InputError, match='set HOME or XDG_CACHE_HOME'):
        standard_caches.cache_home()
