"""Objects: their measures against their geometry in MuJoCo, and the slots they are laid into."""

import itertools

import mujoco
import numpy as np
import pytest

from m3et_ros.data.kitchen.sim.furniture import add_furniture
from m3et_ros.data.kitchen.sim.objects import ALWAYS, COLOURS_OF, MAKERS, add_objects
from m3et_ros.data.kitchen.sim.parts import Scene
from m3et_ros.data.kitchen.sim.scene import mjcf
from m3et_ros.data.kitchen.sim.vocabulary import AFFORDS, COLOURS, OBJECTS

SIZE = (4.6, 4.0, 2.6)


@pytest.fixture(scope='module')
def laid_out():
    """Eight kitchens with their objects."""
    scenes = []
    for seed in range(8):
        scene = Scene(np.random.default_rng(seed), SIZE)
        add_furniture(scene)
        add_objects(scene)
        scenes.append(scene)
    return scenes


def made(noun, scale=1.0):
    """The measures of one object, and the corners of its bounding box above its foot, (8, 3) of each geom."""
    scene = Scene(np.random.default_rng(0), SIZE)
    scene.material('table', np.zeros((2, 2, 3), np.uint8))
    geoms, thing = MAKERS[noun](scene, noun, np.array((0.8, 0.1, 0.1)), scale)
    scene.add('it', noun, geoms)
    model = mujoco.MjModel.from_xml_string(mjcf(scene, width=32, height=24, fovy=60), scene.assets)
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    corners = []
    for geom in range(model.ngeom):
        centre, half = model.geom_aabb[geom, :3], model.geom_aabb[geom, 3:]
        local = centre + half * np.array(list(itertools.product((-1, 1), repeat=3)))
        corners.append(local @ data.geom_xmat[geom].reshape(3, 3).T + data.geom_xpos[geom])
    return thing, np.concatenate(corners)


@pytest.mark.parametrize('noun', OBJECTS)
def test_an_object_stands_on_its_foot_and_is_as_high_as_its_measures_say(noun):
    thing, corners = made(noun)
    assert thing.noun == noun
    # Boxes round tilted geoms stand out by some millimetres, and handles rise above the rim.
    assert -0.006 < corners[:, 2].min() < 0.008
    assert corners[:, 2].max() == pytest.approx(thing.height, abs=0.035)
    assert 0 < thing.grip <= max(corners[:, 2].max(), 0.02) and 0 < thing.radius <= np.abs(corners[:, :2]).max() + 0.01


@pytest.mark.parametrize('noun', ['cup', 'apple', 'box', 'bottle'])
def test_scale_makes_an_object_larger(noun):
    (small, low), (large, high) = made(noun, 0.9), made(noun, 1.15)
    assert small.height < large.height and low[:, 2].max() < high[:, 2].max()


def test_what_pours_has_a_mouth_on_top_and_what_is_stirred_in_has_an_inside():
    things = {noun: made(noun)[0] for noun in OBJECTS}
    assert {noun for noun, thing in things.items() if thing.mouth} == set(AFFORDS['pour'])
    assert {noun for noun, thing in things.items() if thing.inner} == set(AFFORDS['mix'])
    for thing in things.values():
        if thing.mouth:
            assert thing.mouth[2] > thing.grip
        if thing.inner:
            assert thing.inner[0] < thing.radius and thing.inner[1] < thing.height


def test_every_object_lies_in_a_slot_that_accepts_it(laid_out):
    for scene in laid_out:
        slots = {slot.occupant: slot for slot in scene.slots if slot.occupant in scene.things}
        assert set(slots) == set(scene.things)
        for name, slot in slots.items():
            assert slot.accepts is None or scene.things[name].noun in slot.accepts
        assert {thing.noun for thing in scene.things.values()} >= set(ALWAYS)


def test_the_pan_goes_on_the_hob(laid_out):
    for scene in laid_out:
        on_hob = {slot.occupant for slot in scene.slots if slot.place == 'on the hob'}
        first = next(name for name, thing in scene.things.items() if thing.noun == 'pan')
        assert first in on_hob


def test_most_objects_lie_in_slots_meant_for_them_but_not_all(laid_out):
    cups = [
        slot.place for scene in laid_out for slot in scene.slots if slot.occupant and slot.occupant.startswith('cup_')
    ]
    assert 0.4 < np.mean([place in ('in the cupboard', 'on the table') for place in cups]) < 1


def test_colours_are_those_a_noun_can_have(laid_out):
    colours = {}
    for scene in laid_out:
        for name, thing in scene.things.items():
            instance = scene.instances[name]
            assert instance.noun == thing.noun and instance.colour in COLOURS_OF.get(thing.noun, COLOURS)
            colours.setdefault(thing.noun, set()).add(instance.colour)
    assert len(colours['cup']) > 3 and colours['pan'] == {'black'}


def test_vessels_have_a_filling_that_is_hidden_until_something_is_poured(laid_out):
    for scene in laid_out:
        text = ''.join(scene.bodies)
        for name, thing in scene.things.items():
            assert (f'name="filling_{name}"' in text) == (thing.inner is not None)
        hidden = [part for part in text.split('<geom') if 'name="filling_' in part]
        assert hidden and all('rgba="0.8 0.8 0.85 0"' in part for part in hidden)
