"""Kitchens from random generators."""

import mujoco
import numpy as np
import pytest

from m3et_ros.data.kitchen.sim.episode import Episode
from m3et_ros.data.kitchen.sim.scene import FAR, NEAR, build_scene, mjcf
from m3et_ros.data.kitchen.sim.vocabulary import NOUNS


def test_a_seed_gives_one_kitchen_and_another_seed_another():
    def text(seed, version):
        return mjcf(build_scene(np.random.default_rng(seed), version), width=64, height=48, fovy=72)

    for version in (1, 2):
        assert text(1, version) == text(1, version) != text(2, version)
    assert text(1, 1) != text(1, 2)


@pytest.mark.parametrize('version', [1, 2])
@pytest.mark.parametrize('seed', range(4))
def test_registries_fit_together(seed, version):
    scene = build_scene(np.random.default_rng(seed), version)
    assert {instance.noun for instance in scene.instances.values()} <= set(NOUNS)
    assert set(scene.things) < set(scene.instances)
    lying = [slot.occupant for slot in scene.slots if slot.occupant in scene.things]
    assert sorted(lying) == sorted(scene.things)
    assert {slot.inside for slot in scene.slots} - {None} <= set(scene.containers)


@pytest.mark.parametrize('version', [1, 2])
@pytest.mark.parametrize('seed', range(3))
def test_nothing_floats(seed, version):
    episode = Episode(seed, width=64, height=48, version=version)
    next(episode.run(1))
    for name in episode.scene.things:
        foot = episode.world.position_of(name) + (0.001, 0.001, 0.004)
        below = mujoco.mj_ray(
            episode.model,
            episode.data,
            foot,
            np.array([0, 0, -1.0]),
            None,
            True,
            episode.model.body(name).id,
            np.zeros(1, np.int32),
        )
        assert 0 < below < 0.01, f'{name} hangs {below} m above what is under it'


def test_a_drawer_takes_its_contents_along():
    scene = build_scene(np.random.default_rng(0))
    drawer = next(c for c in scene.containers.values() if c.noun == 'drawer')
    assert drawer.shift(1.0) == pytest.approx((0, -drawer.travel, 0))
    assert drawer.handle_at(1.0) - drawer.handle == pytest.approx(drawer.shift(1.0))


def test_a_door_handle_stays_as_far_from_the_hinge():
    fridge = build_scene(np.random.default_rng(0)).containers['fridge']
    radii = [np.linalg.norm(fridge.handle_at(openness) - fridge.pivot) for openness in (0, 0.5, 1)]
    assert radii == pytest.approx([radii[0]] * 3)
    assert fridge.handle_at(1.0)[1] < fridge.handle[1], 'the door opens towards the person'


def test_the_camera_of_the_model_has_the_size_and_the_field_of_view_asked_for():
    scene = build_scene(np.random.default_rng(0))
    model = mujoco.MjModel.from_xml_string(mjcf(scene, width=80, height=50, fovy=41.5), scene.assets)
    assert model.cam_fovy[model.camera('ego').id] == pytest.approx(41.5)
    assert (model.vis.global_.offwidth, model.vis.global_.offheight) == (80, 50)
    extent = model.stat.extent
    assert (model.vis.map.znear * extent, model.vis.map.zfar * extent) == pytest.approx((NEAR, FAR))
