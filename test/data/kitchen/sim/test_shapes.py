"""Geometry as MJCF."""

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
    mujoco = pytest.importorskip('mujoco')
    geom = shapes.box((0, 0, 0), half, (1, 0, 0))
    model = mujoco.MjModel.from_xml_string(f'<mujoco><worldbody>{geom}</worldbody></mujoco>')
    turn = np.zeros(9)
    mujoco.mju_quat2Mat(turn, model.geom_quat[0])
    turn = turn.reshape(3, 3)
    assert np.abs(turn @ model.geom_size[0]) == pytest.approx(half)
    assert np.argmax(np.abs(turn[:, 2])) == np.argmin(half)


def test_a_chain_joins_its_points():
    assert shapes.chain([(0, 0, 0), (1, 0, 0), (1, 1, 0)], 0.01, (0, 0, 0)).count('<geom') == 2
