"""A small cache of test kitchens, and a small model with the kitchen's labels."""

import pytest
from hypothesis import settings

from m3et_ros.runtime.open_model import untrained

# No test has a deadline, because other processes share the machine.
settings.register_profile('no_clock', deadline=None)
settings.load_profile('no_clock')


@pytest.fixture(scope='session')
def cache(tmp_path_factory):
    """Three ray-cast test kitchens of 32 pixels, six frames each."""
    pytest.importorskip('mujoco')
    from m3et_ros.data.kitchen.cache.generate import generate

    return generate(
        tmp_path_factory.mktemp('caches'),
        seeds=range(20_003, 20_006),
        size=32,
        stride=25,
        frames=6,
        backend='raycast',
        workers=0,
        progress=False,
    )


@pytest.fixture
def tiny():
    """A new checkpoint of the smallest size with random weights for each test."""
    return untrained('tiny', 0)
