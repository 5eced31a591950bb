"""The fixtures: where they stand, what their slots accept, and how their doors move."""

import mujoco
import numpy as np
import pytest

from m3et_ros.data.kitchen.sim import furniture
from m3et_ros.data.kitchen.sim.furniture import TOP, UNIT, add_furniture
from m3et_ros.data.kitchen.sim.parts import Scene
from m3et_ros.data.kitchen.sim.scene import build_scene, mjcf
from m3et_ros.data.kitchen.sim.vocabulary import AFFORDS, OBJECTS, PLACES

SEEDS = range(6)


@pytest.fixture(scope='module')
def kitchens():
    scenes = []
    for seed in SEEDS:
        scene = Scene(np.random.default_rng(seed), (4.2 + 0.2 * seed, 4.0, 2.6))
        add_furniture(scene)
        scenes.append(scene)
    return scenes


def slots_at(scene, place):
    return [slot for slot in scene.slots if slot.place == place]


def test_base_units_stand_side_by_side_and_leave_room_for_the_fridge(kitchens):
    for scene in kitchens:
        assert np.diff(scene.units) == pytest.approx(UNIT)
        assert scene.units[0] - UNIT / 2 >= -scene.size[0] / 2
        assert scene.units[-1] + UNIT / 2 <= scene.size[0] / 2 - 0.71  # the fridge is 0.66 m wide, 5 cm off the wall
        assert {'sink', 'hob', 'oven', 'fridge', 'table', 'bin', 'tap'} <= set(scene.instances)


def test_slots_lie_on_their_furniture(kitchens):
    for scene in kitchens:
        back, half = scene.size[1] / 2, scene.size[0] / 2
        for slot in slots_at(scene, 'on the counter'):
            assert slot.position[2] == TOP and scene.front < slot.position[1] < back
        for slot in slots_at(scene, 'on the hob'):
            assert slot.position[2] > TOP and scene.front < slot.position[1] < back
        for slot in slots_at(scene, 'on the table'):
            assert slot.position[2] == pytest.approx(scene.landmarks['table'][2], abs=0.005)
            assert np.abs(slot.position - scene.landmarks['table'])[1] < 0.42
        assert all(np.abs(slot.position[0]) < half for slot in scene.slots)
        assert {slot.place for slot in scene.slots} <= set(PLACES) - {'in the hand', 'in the bin'}


def test_slots_in_containers_name_their_container_and_no_other_slot_does(kitchens):
    noun_of = {'in the drawer': 'drawer', 'in the cupboard': 'cupboard', 'in the fridge': 'fridge'}
    for scene in kitchens:
        for slot in scene.slots:
            if slot.place in noun_of:
                container = scene.containers[slot.inside]
                assert container.noun == noun_of[slot.place]
                assert np.linalg.norm(slot.position - container.handle) < 0.9
            else:
                assert slot.inside is None
        assert set(noun_of.values()) | {'tap'} == {container.noun for container in scene.containers.values()}
        assert {container.noun for container in scene.containers.values()} - {'tap'} == set(AFFORDS['open'])


def test_each_drawer_unit_has_one_distant_slot_behind_two_near_ones(kitchens):
    for scene in kitchens:
        counter = slots_at(scene, 'on the counter')
        distant = [slot for slot in counter if slot.distant]
        drawers = [c for c in scene.containers.values() if c.noun == 'drawer']
        assert len(distant) == len(drawers) and len(counter) == 3 * len(drawers)
        nearest = max(slot.position[1] for slot in counter if not slot.distant)
        assert all(slot.position[1] > nearest for slot in distant)
        assert all(slot.distant for slot in scene.slots if slot.occupant == 'microwave')


def test_slots_accept_what_belongs_there(kitchens):
    pan, spoon = 'pan', 'spoon'
    for scene in kitchens:
        assert all(slot.takes(pan) and not slot.takes(spoon) for slot in slots_at(scene, 'on the hob'))
        assert all(slot.takes(spoon) and not slot.takes(pan) for slot in slots_at(scene, 'in the drawer'))
        assert not any(slot.takes(pan) for slot in slots_at(scene, 'on the table'))
    for nouns in (furniture.IN_DRAWERS, furniture.IN_CUPBOARDS, furniture.IN_THE_FRIDGE, furniture.ON_THE_HOB):
        assert set(nouns) <= set(OBJECTS)


def test_landmarks_stand_where_the_person_expects_them(kitchens):
    for scene in kitchens:
        half, landmarks = scene.size[0] / 2, scene.landmarks
        assert landmarks['bin'][0] == pytest.approx(0.3 - half) and landmarks['bin'][2] == 0
        assert landmarks['table'][1] < 0 < scene.front < landmarks['sink'][1]
        assert min(abs(landmarks['sink'][0] - x) for x in scene.units) < 1e-9
        assert scene.containers['fridge'].handle[0] > scene.units[-1]


@pytest.mark.parametrize('openness', [0.0, 0.5, 1.0])
def test_the_handle_stays_on_the_moving_part(openness):
    """The hand follows Container.handle_at while MuJoCo turns the joint: both must describe one motion."""
    scene = build_scene(np.random.default_rng(3))
    model = mujoco.MjModel.from_xml_string(mjcf(scene, width=32, height=24, fovy=60), scene.assets)
    data = mujoco.MjData(model)
    for container in scene.containers.values():
        data.qpos[model.joint(container.joint).qposadr[0]] = container.travel * openness
    mujoco.mj_kinematics(model, data)
    for name, container in scene.containers.items():
        body = model.joint(container.joint).bodyid[0]
        geoms = np.flatnonzero(model.geom_bodyid == body)
        distances = np.linalg.norm(data.geom_xpos[geoms] - container.handle_at(openness), axis=1)
        assert name == 'tap' or distances.min() < 0.06, name


def test_a_seed_furnishes_the_same_room():
    def furnished(seed):
        scene = Scene(np.random.default_rng(seed), (4.6, 4.0, 2.6))
        add_furniture(scene)
        return scene.bodies, scene.declarations, scene.assets

    assert furnished(5) == furnished(5) != furnished(6)
