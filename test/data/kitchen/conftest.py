"""Shared by the tests of the kitchen: worlds without a renderer, ray-cast observations and small caches."""

import numpy as np
import pytest

from m3et_ros.data.kitchen.cache.generate import generate
from m3et_ros.data.kitchen.sim.camera import Camera, Observation, intrinsics
from m3et_ros.data.kitchen.sim.episode import Episode, perform
from m3et_ros.data.kitchen.sim.scene import build_scene
from m3et_ros.data.kitchen.sim.world import World


@pytest.fixture(scope='session')
def worlds():
    """Twenty seeds after 60 simulated seconds each, at 5 ticks a second."""
    done = []
    for seed in range(20):
        for_scene, for_person = np.random.default_rng(seed).spawn(2)
        world = World(build_scene(for_scene, 1), for_person, 5.0)
        script = perform(world)
        for _ in range(300):
            world.advance(script)
        done.append(world)
    return done


@pytest.fixture
def world():
    """The world of one seed at 10 ticks a second, before its first tick."""
    for_scene, for_person = np.random.default_rng(4).spawn(2)
    return World(build_scene(for_scene, 1), for_person, 10.0)


@pytest.fixture(scope='session')
def picture():
    """Make observations of 100 x 100 pixels: picture(episode, state, (instance, rows, columns, metres), ...)."""

    def make(episode, state, *patches):
        instance, depth = np.zeros((100, 100), np.uint16), np.full((100, 100), 5.0, np.float32)
        for name, rows, columns, metres in patches:
            instance[rows, columns] = 1 + list(episode.instances).index(name)
            depth[rows, columns] = metres
        blank = np.zeros((100, 100), np.uint8)
        return Observation(np.zeros((100, 100, 3), np.uint8), depth, blank, instance, intrinsics(100, 100, 60.0), state)

    return make


@pytest.fixture(scope='session')
def observed_episode():
    """An episode of 300 ticks and every thirtieth observation of it, without OpenGL."""
    episode = Episode(5, width=160, height=120, version=1)
    with Camera(episode, backend='raycast') as camera:
        observations = [camera.observe(state) for state in episode.run(300) if state.tick % 30 == 5]
    return episode, observations


@pytest.fixture(scope='session')
def caches(tmp_path_factory):
    """Small ray-cast caches: four training seeds, of which two are skipped and one is cut, and four test seeds."""
    root = tmp_path_factory.mktemp('caches')
    return {
        name: generate(
            root,
            seeds=seeds,
            size=32,
            stride=25,
            frames=11,
            block=3,
            backend='raycast',
            version=1,
            workers=0,
            progress=False,
        )
        for name, seeds in (('train', range(4)), ('test', range(20_003, 20_007)))
    }
