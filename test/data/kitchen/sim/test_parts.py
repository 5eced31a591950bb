"""Slots, containers and the registries of a scene."""

import cv2
import numpy as np
import pytest

from m3et_ros.data.kitchen.sim.parts import Container, Scene, Slot, rotation_y, rotation_z


@pytest.fixture
def scene():
    return Scene(np.random.default_rng(0), (4.0, 3.0, 2.6))


def test_rotations_turn_counter_clockwise_about_their_axis():
    assert rotation_z(np.pi / 2) @ (1, 0, 5) == pytest.approx((0, 1, 5))
    assert rotation_y(np.pi / 2) @ (0, 5, 1) == pytest.approx((1, 5, 0))


def test_a_slot_takes_one_object_of_the_nouns_that_belong_there():
    anything, shelf = Slot(np.zeros(3), 'on the counter'), Slot(np.zeros(3), 'in the fridge', ('milk', 'jar'))
    assert anything.takes('pan') and shelf.takes('jar') and not shelf.takes('pan')
    shelf.occupant = 'milk_3'
    assert not shelf.takes('jar')


def test_a_drawer_carries_its_contents_and_its_handle():
    drawer = Container('drawer', 'drawer_0', 0.34, np.array([1.0, 2.0, 0.7]), np.array([0, -1.0, 0]))
    assert drawer.shift(0.0) == pytest.approx((0, 0, 0)) and drawer.shift(0.5) == pytest.approx((0, -0.17, 0))
    assert drawer.handle_at(1.0) == pytest.approx((1.0, 1.66, 0.7))


def test_a_door_turns_its_handle_about_the_hinge_and_leaves_its_contents():
    door = Container('fridge', 'fridge', np.pi / 2, np.array([1.0, 0, 1.2]), pivot=np.array([0, 0, 1.2]))
    assert door.handle_at(1.0) == pytest.approx((0, 1.0, 1.2)) and door.handle_at(0.0) == pytest.approx((1.0, 0, 1.2))
    assert door.shift(1.0) == pytest.approx((0, 0, 0))


def test_the_counter_front_is_62_cm_before_the_wall(scene):
    assert scene.front == pytest.approx(1.5 - 0.62)


def test_a_pick_is_one_of_the_options_and_repeats_with_the_seed(scene):
    picks = [scene.pick('a', 'b', 'c') for _ in range(30)]
    assert set(picks) == {'a', 'b', 'c'}
    again = Scene(np.random.default_rng(0), (4.0, 3.0, 2.6))
    assert picks == [again.pick('a', 'b', 'c') for _ in range(30)]


def test_a_material_stores_its_picture_and_repeats_only_if_asked(scene):
    image = np.full((4, 6, 3), (200, 10, 30), np.uint8)
    assert scene.material('art', image) == 'art' and scene.material('wall', image, repeat=1.5, specular=0.6) == 'wall'
    decoded = cv2.imdecode(np.frombuffer(scene.assets['art.png'], np.uint8), cv2.IMREAD_COLOR_RGB)
    assert np.array_equal(decoded, image)
    once, tiled = scene.declarations
    assert 'texrepeat' not in once and 'specular="0.15"' in once
    assert 'texrepeat="1.5 1.5"' in tiled and 'specular="0.6"' in tiled


def test_every_revolved_mesh_has_its_own_name(scene):
    profile = [(0, 0), (0.1, 0), (0.1, 0.2), (0, 0.2)]
    first, second = scene.revolved(profile, (1, 0, 0)), scene.revolved(profile, (1, 0, 0), opacity=0.25)
    assert 'mesh="turned_0"' in first and 'mesh="turned_1"' in second and 'rgba="1 0 0 0.25"' in second
    assert [f'name="turned_{i}"' in text for i, text in enumerate(scene.declarations)] == [True, True]


def test_an_added_body_is_an_instance_with_its_noun_and_colour(scene):
    scene.add('cup_0', 'cup', '<geom/>', pos=(1, 2, 3), joint='<freejoint/>', colour='red')
    assert (scene.instances['cup_0'].noun, scene.instances['cup_0'].colour) == ('cup', 'red')
    assert scene.bodies == ['<body name="cup_0" pos="1 2 3"><freejoint/><geom/></body>']


def test_only_a_varied_scene_draws_more():
    plain, varied = (Scene(np.random.default_rng(1), (4.6, 4.0, 2.6), varied=varied) for varied in (False, True))
    before = plain.rng.bit_generator.state
    assert plain.options(('a',), ('b',)) == ('a',) and plain.between(2, 3, usual=1) == 1 and not plain.happens(1.0)
    assert plain.face('front') == 'front' and plain.glaze(np.ones(3)).tolist() == [1, 1, 1]
    assert plain.rng.bit_generator.state == before and not plain.declarations
    assert varied.options(('a',), ('b',)) == ('a', 'b') and 2 <= varied.between(2, 3, usual=1) <= 3
    assert varied.happens(1.0) and not varied.happens(0.0)
    face = varied.face('front')
    assert face.material == 'front' and 0.72 <= face.level <= 1


def test_a_glaze_is_a_shade_of_its_colour_with_or_without_gloss_and_pattern():
    scene, red = Scene(np.random.default_rng(1), (4.6, 4.0, 2.6), varied=True), np.array((0.8, 0.1, 0.09))
    for _ in range(40):
        paint = scene.glaze(red)
        if isinstance(paint, str) and f'{paint}.png' in scene.assets:
            image = cv2.imdecode(np.frombuffer(scene.assets[f'{paint}.png'], np.uint8), cv2.IMREAD_COLOR_RGB)
            shade = image.mean(axis=(0, 1)) / 255
        elif isinstance(paint, str):
            text = next(line for line in scene.declarations if f'name="{paint}"' in line)
            shade = np.array(text.split('rgba="')[1].split('"')[0].split()[:3], float)
        else:
            shade = paint
        assert 0.5 < shade[0] < 0.92 and max(shade[1:]) < 0.16, paint
    assert scene.assets and any('rgba' in line for line in scene.declarations)
