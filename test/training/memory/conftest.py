"""A small memory trained on real cached episodes."""

import pytest

from m3et_ros.data.kitchen.cache.episodes import open_episodes
from m3et_ros.data.kitchen.cache.generate import generate
from m3et_ros.data.kitchen.cache.recipe import read_shards
from m3et_ros.runtime.open_model import untrained
from m3et_ros.training.memory.answers import ActionLogRecipe, AnswerRecipe
from m3et_ros.training.memory.percepts import PerceptRecipe
from m3et_ros.training.memory.run import MemoryRecipe, encode_percepts, train_memory


@pytest.fixture(scope='session')
def small():
    """Return the fields of the smallest memory."""
    return {'d': 16, 'heads': 2, 'd_eye': 16, 'd_value': 8, 'd_slot': 8, 'd_stream': 16, 'layers': 1, 'blocks': 1}


@pytest.fixture(scope='session')
def recipe():
    """Return two steps of training for each part."""
    return MemoryRecipe(
        see=PerceptRecipe(samples=16, batch=8),
        tell=ActionLogRecipe(samples=4, batch=2),
        remember=AnswerRecipe(samples=4, batch=2),
        each=8,
    )


@pytest.fixture(scope='session')
def cache(tmp_path_factory):
    """Render two kitchens of 44 frames, one per shard."""
    pytest.importorskip('mujoco')
    return generate(
        tmp_path_factory.mktemp('caches'),
        seeds=range(20_003, 20_005),
        size=32,
        stride=5,
        frames=44,
        block=1,
        backend='raycast',
        workers=0,
        progress=False,
    )


@pytest.fixture(scope='session')
def checkpoint():
    return untrained('tiny', 0)


@pytest.fixture(scope='session')
def trained(cache, checkpoint, recipe, small, tmp_path_factory):
    """Return the folder of the run, the memory and the outcomes of its steps."""
    out = tmp_path_factory.mktemp('runs')
    return out, *train_memory(checkpoint, [cache], out, recipe=recipe, **small)


@pytest.fixture(scope='session')
def encoded(trained, cache):
    """Return the encoded episodes of the cache."""
    out, head, _ = trained
    frames = [out / 'frames' / cache.name / path.name for path in read_shards(cache)]
    return encode_percepts(head, open_episodes([cache]), frames, out / 'percepts')
