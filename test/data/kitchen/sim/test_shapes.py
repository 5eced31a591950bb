"""Geometry as MJCF."""

import mujoco
import numpy as np
import pytest

from m3et_ros.data.kitchen.sim import shapes


def test_turned_bodies_are_closed_and_face_outwards():
    vertices, faces = shapes.revolve(shapes.hollow(0.1, 0.1, 0.2, 0.01), sides=200)
    a, b, c = vertices[faces].transpose(1, 0, 2)
    volume = np.einsum('ti,ti->', a, np.cross(b, c)) / 6
    assert volume == pytest.approx(np.pi * (0.1**2 * 0.2 - 0.09**2 * 0.19), rel=1e-3)


@pytest.mark.parametrize('half', [(0.3, 0.2, 0.01), (0.3, 0.01, 0.2), (0.01, 0.3, 0.2)])
def test_boxes_keep_their_size_and_show_their_texture_on_the_large_side(half):
    geom = shapes.box((0, 0, 0), half, (1, 0, 0))
    model = mujoco.MjModel.from_xml_string(f'<mujoco><worldbody>{geom}</worldbody></mujoco>')
    turn = np.zeros(9)
    mujoco.mju_quat2Mat(turn, model.geom_quat[0])
    turn = turn.reshape(3, 3)
    assert np.abs(turn @ model.geom_size[0]) == pytest.approx(half)
    assert np.argmax(np.abs(turn[:, 2])) == np.argmin(half)


def test_a_chain_joins_its_points():
    assert shapes.chain([(0, 0, 0), (1, 0, 0), (1, 1, 0)], 0.01, (0, 0, 0)).count('<geom') == 2


def test_a_cylinder_keeps_its_axis_opacity_and_name():
    text = shapes.cylinder((1, 2, 3), 0.1, 0.5, (1, 0, 0), axis=0, opacity=0.25, name='water')
    assert 'rgba="1 0 0 0.25"' in text and 'name="water"' in text and 'size="0.1 0.5"' in text
    model = mujoco.MjModel.from_xml_string(f'<mujoco><worldbody>{text}</worldbody></mujoco>')
    turn = np.zeros(9)
    mujoco.mju_quat2Mat(turn, model.geom_quat[0])
    assert np.abs(turn.reshape(3, 3)[:, 2]) == pytest.approx((1, 0, 0)) and model.geom_pos[0].tolist() == [1, 2, 3]


def test_a_material_is_named_and_a_colour_is_opaque():
    assert 'material="wall"' in shapes.box((0, 0, 0), (1, 1, 1), 'wall')
    assert 'rgba="1 0 0 1"' in shapes.ellipsoid((0, 0, 0), (1, 1, 1), (1, 0, 0))
    assert 'rgba="1 0 0 0.5"' in shapes.mesh('cup', (1, 0, 0), opacity=0.5) and 'mesh="cup"' in shapes.mesh(
        'cup', 'wall'
    )


def test_bodies_and_joints_carry_their_name_axis_and_position():
    text = shapes.body('door', '<geom/>', pos=(1, 0, 0.5), joint=shapes.hinge('door', (0, 1, 0)))
    assert text.startswith('<body name="door" pos="1 0 0.5"><joint name="door" type="hinge" axis="0 1 0"/><geom/>')
    assert 'type="slide" axis="0 -1 0"' in shapes.slide('drawer', (0, -1, 0)) and 'cup_1' in shapes.free('cup_1')


def test_a_vessel_is_hollow_down_to_its_floor():
    profile = shapes.hollow(0.03, 0.04, 0.09, 0.008)
    assert profile[0] == (0, 0) and profile[-1] == (0, 0.008) and max(height for _, height in profile) == 0.09


def test_a_coat_is_its_material_times_a_level():
    assert 'material="front" rgba="0.8 0.8 0.8 1"' in shapes.box((0, 0, 0), (1, 1, 1), shapes.Coat('front', 0.8))
