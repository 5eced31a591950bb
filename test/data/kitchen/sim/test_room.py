"""The shell of the room, measured by rays in MuJoCo."""

import mujoco
import numpy as np
import pytest

from m3et_ros.data.kitchen.sim.parts import Scene
from m3et_ros.data.kitchen.sim.room import add_room
from m3et_ros.data.kitchen.sim.scene import mjcf

SIZE = (4.6, 4.0, 2.6)


@pytest.fixture(scope='module', params=[0, 1])
def shell(request):
    """A room without furniture: its scene, model and data."""
    scene = Scene(np.random.default_rng(request.param), SIZE)
    add_room(scene)
    model = mujoco.MjModel.from_xml_string(mjcf(scene, width=32, height=24, fovy=60), scene.assets)
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    return scene, model, data


def hit(shell, origin, direction):
    """Distance to the first surface along a direction, and the name of its body."""
    _, model, data = shell
    geom = np.full(1, -1, np.int32)
    distance = mujoco.mj_ray(
        model, data, np.array(origin, float), np.array(direction, float), None, True, -1, geom, np.zeros(3)
    )
    return distance, model.body(model.geom_bodyid[geom[0]]).name


@pytest.mark.parametrize(
    ('direction', 'distance', 'name'),
    [
        ((0, 1, 0), SIZE[1] / 2, 'wall_north'),
        ((0, -1, 0), SIZE[1] / 2, 'wall_south'),
        ((1, 0, 0), SIZE[0] / 2, 'wall_east'),
        ((-1, 0, 0), SIZE[0] / 2, 'wall_west'),
        ((0, 0, -1), 0.4, 'floor'),
        ((0, 0, 1), SIZE[2] - 0.4, 'ceiling'),
    ],
)
def test_every_wall_stands_at_the_edge_of_the_room(shell, direction, distance, name):
    found = hit(shell, (0, 0, 0.4), direction)
    assert found == (pytest.approx(distance, abs=1e-6), name)


def test_the_window_is_in_the_left_wall_and_the_picture_on_the_right_one(shell):
    heights, depths = np.linspace(1.2, 1.9, 8), np.linspace(-1.4, 0.8, 23)
    left = {hit(shell, (0, y, z), (-1, 0, 0))[1] for y in depths for z in heights}
    right = {hit(shell, (0, y, z), (1, 0, 0))[1] for y in depths for z in heights}
    assert left == {'window', 'wall_west'} and right == {'picture', 'wall_east'}


def test_instances_are_named_after_the_shell(shell):
    nouns = {name: instance.noun for name, instance in shell[0].instances.items()}
    assert [name for name, noun in nouns.items() if noun == 'wall'] == [
        'wall_north',
        'wall_south',
        'wall_east',
        'wall_west',
    ]
    assert set(nouns.values()) == {'floor', 'ceiling', 'wall', 'window', 'picture'}


def test_floor_walls_and_picture_have_a_texture_that_repeats_with_the_seed(shell):
    scene = shell[0]
    assert set(scene.assets) == {'floor.png', 'wall.png', 'art.png'}
    other = Scene(np.random.default_rng(2), SIZE)
    add_room(other)
    assert other.assets != scene.assets
