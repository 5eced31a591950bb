"""Lamps, daylight and shadows."""

import re

import numpy as np
import pytest

from m3et_ros.data.kitchen.sim.lights import HEADLIGHT, add_lights
from m3et_ros.data.kitchen.sim.parts import Scene


@pytest.fixture(scope='module')
def lit():
    """The lights of 200 varied scenes."""
    scenes = [Scene(np.random.default_rng(seed), (4.6, 4.0, 2.6), varied=True) for seed in range(200)]
    for scene in scenes:
        add_lights(scene)
    return scenes


def test_version_1_has_one_lamp_and_one_window_and_its_headlight():
    scene = Scene(np.random.default_rng(0), (4.6, 4.0, 2.6))
    add_lights(scene)
    (lights,) = scene.bodies
    assert lights.count('<light') == 2 and lights.count('castshadow="true"') == 1
    assert scene.headlight == HEADLIGHT and scene.shadows and scene.tone is None


def test_shadows_fall_in_half_of_the_varied_scenes(lit):
    assert 80 <= sum(scene.shadows for scene in lit) <= 120


def test_varied_scenes_have_one_to_three_lamps_of_which_the_brightest_casts_shadows(lit):
    counts = set()
    for scene in lit:
        *lamps, window = scene.bodies
        counts.add(len(lamps))
        assert [('castshadow="true"' in lamp) for lamp in lamps] == [True] + [False] * (len(lamps) - 1)
        strength = [max(map(float, re.search(r'diffuse="(.*?)"', lamp)[1].split())) for lamp in lamps]
        assert strength == sorted(strength, reverse=True)
        assert 'castshadow="false"' in window and scene.tone is not None
    assert counts == {1, 2, 3}


def test_varied_lights_differ_in_brightness_and_colour(lit):
    ambient = np.array([re.search(r'ambient="(.*?)"', scene.headlight)[1].split() for scene in lit], float)
    assert ambient.mean(axis=1).min() < 0.35 and ambient.mean(axis=1).max() > 0.8
    assert (ambient[:, 0] / ambient[:, 2]).min() < 0.95 and (ambient[:, 0] / ambient[:, 2]).max() > 1.05
