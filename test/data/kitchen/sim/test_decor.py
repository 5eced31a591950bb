"""Things that no question names."""

import numpy as np

from m3et_ros.data.kitchen.sim.decor import RUGS, SPLASHBACKS
from m3et_ros.data.kitchen.sim.episode import Episode
from m3et_ros.data.kitchen.sim.scene import build_scene
from m3et_ros.data.kitchen.sim.textures import BRIGHTNESS


def test_each_thing_stands_in_some_varied_kitchens_and_in_none_of_version_1():
    names = ('splashback', 'rug', 'picture_0', 'shelf', 'lamp', 'plant')
    scenes = [build_scene(np.random.default_rng(seed), 2) for seed in range(16)]
    for name in names:
        assert 0 < sum(f'<body name="{name}"' in ''.join(scene.bodies) for scene in scenes) < 16, name
    assert not any(f'<body name="{name}"' in ''.join(build_scene(np.random.default_rng(1), 1).bodies) for name in names)


def test_a_splashback_is_wall_a_rug_is_floor_and_what_hangs_has_no_mask():
    nouns = {}
    for seed in range(16):
        scene = build_scene(np.random.default_rng(seed), 2)
        nouns |= {name: one.noun for name, one in scene.instances.items()}
    assert (nouns['splashback'], nouns['rug'], nouns['picture_0']) == ('wall', 'floor', 'picture')
    assert not {'shelf', 'lamp', 'plant'} & set(nouns)


def test_no_splashback_has_a_pattern_that_is_held_out_on_walls():
    assert 'tiles' not in SPLASHBACKS and set(SPLASHBACKS) | set(RUGS) <= set(BRIGHTNESS)


def test_nothing_touches_the_person():
    """The shelf, the lamp and the plant stay clear of where people walk: between table and counter."""
    for seed in range(8):
        episode = Episode(seed, width=32, height=24, version=2)
        next(episode.run(1))
        for name in ('shelf', 'lamp', 'plant'):
            body = next((i for i in range(episode.model.nbody) if episode.model.body(i).name == name), None)
            if body is not None:
                assert max(episode.data.geom_xpos[episode.model.geom_bodyid == body][:, 1]) < 0.15, (seed, name)
