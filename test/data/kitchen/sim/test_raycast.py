"""The ray caster on a scene of a few boxes whose depths and colours are known."""

import mujoco
import numpy as np
import pytest

from m3et_ros.data.kitchen.sim.camera import intrinsics, pixel_rays
from m3et_ros.data.kitchen.sim.raycast import RayCaster, mean_colours
from m3et_ros.data.kitchen.sim.textures import png

WIDTH, HEIGHT, FAR = 33, 25, 10.0

# MuJoCo cameras look along -z with y up: the boxes are ahead, above on the right, and almost out of range.
SCENE = f"""<mujoco>
<statistic extent="1"/><visual><map znear="0.1" zfar="{FAR}"/></visual>
<asset><texture name="two" type="2d" file="two.png"/><material name="two" texture="two"/></asset>
<worldbody>
  <light pos="0 0 0" dir="0 0 -1"/>
  <body name="head"><camera name="ego" fovy="60"/></body>
  <geom type="box" size=".3 .3 .5" pos="0 0 -2.5" rgba="1 0 0 1"/>
  <geom type="box" size=".3 .3 .5" pos="1.2 .9 -3.5" material="two"/>
  <geom type="box" size=".5 .5 .5" pos="-3.2 -2.2 -9.5" rgba="0 0 1 1"/>
  <geom type="box" size="9 .5 .5" pos="0 4 -10.6" rgba="0 0 1 1"/>
</worldbody></mujoco>"""
HALVES = np.concatenate([np.full((8, 4, 3), 255, np.uint8), np.zeros((8, 4, 3), np.uint8)], axis=1)


@pytest.fixture(scope='module')
def rendered():
    model = mujoco.MjModel.from_xml_string(SCENE, {'two.png': png(HALVES)})
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    rays = pixel_rays(intrinsics(WIDTH, HEIGHT, 60.0), WIDTH, HEIGHT)
    return model, RayCaster(model, rays=rays).render(data)


def test_shapes_and_types_are_those_of_a_picture(rendered):
    rgb, depth, geoms = rendered[1]
    assert (rgb.shape, rgb.dtype) == ((HEIGHT, WIDTH, 3), np.uint8)
    assert (depth.shape, depth.dtype) == ((HEIGHT, WIDTH), np.float32)
    assert (geoms.shape, geoms.dtype) == ((HEIGHT, WIDTH), np.int32)


def test_depth_is_along_the_optical_axis(rendered):
    _, depth, geoms = rendered[1]
    for geom, metres in ((0, 2.0), (1, 3.0), (2, 9.0)):
        front = depth[geoms == geom]
        assert len(front) and front.min() == pytest.approx(metres, abs=1e-5)
    assert (np.abs(depth[geoms == 0] - 2.0) < 1e-5).mean() > 0.9, 'the whole face has one depth'


def test_up_is_up_and_right_is_right(rendered):
    _, _, geoms = rendered[1]
    rows, columns = np.nonzero(geoms == 1)
    assert rows.max() < HEIGHT / 2 and columns.min() > WIDTH / 2
    rows, columns = np.nonzero(geoms == 2)
    assert rows.min() > HEIGHT / 2 and columns.max() < WIDTH / 2
    assert geoms[HEIGHT // 2, WIDTH // 2] == 0


def test_what_is_nowhere_or_out_of_range_has_no_depth(rendered):
    rgb, depth, geoms = rendered[1]
    assert np.isnan(depth[geoms == -1]).all() and (rgb[geoms == -1] == 0).all()
    assert np.isnan(depth[geoms == 3]).all() and np.nanmax(depth) < FAR
    assert not np.isnan(depth[(geoms >= 0) & (geoms < 3)]).any()


def test_colours_are_those_of_geoms_or_the_mean_of_their_texture(rendered):
    model, (rgb, _, geoms) = rendered
    red, textured = (rgb[geoms == geom].mean(axis=0) for geom in (0, 1))
    assert red[0] > 150 and red[1:].max() == 0
    assert np.ptp(textured) < 1 and 60 < textured.mean() < 130
    assert mean_colours(model) == pytest.approx(np.full((1, 3), 0.5), abs=0.01)


def test_a_face_is_lit_alike_from_either_side_of_its_normal(rendered):
    """The middle of the near box faces camera and lamp: ambient, headlight and lamp light add up."""
    rgb, _, _ = rendered[1]
    assert rgb[HEIGHT // 2, WIDTH // 2, 0] == pytest.approx(255 * (0.46 + 0.26 + 0.24), abs=2)


def test_a_coat_of_a_material_is_darker_than_the_material():
    geoms = (
        '<geom type="box" size=".1 .1 .1" material="red"/><geom type="box" size=".1 .1 .1" material="red" rgba="{}"/>'
    )
    shown = []
    for level in ('0.6 0.6 0.6 1', '0.8 0.8 0.8 1'):
        model = mujoco.MjModel.from_xml_string(
            '<mujoco><asset><material name="red" rgba="1 0 0 1"/></asset><worldbody><camera name="ego" pos="0 0 1"/>'
            f'<light pos="0 0 2"/>{geoms.format(level)}</worldbody></mujoco>'
        )
        data = mujoco.MjData(model)
        mujoco.mj_forward(model, data)
        caster = RayCaster(model, rays=np.array([[[0.0, 0.0, 1.0]]]))
        down = np.array([[0.0, 0.0, -1.0]])
        hit = (np.array([0.0, 0.0, 0.1])[None], down, -down)
        shown.append([int(caster._shade(data, np.array([geom]), *hit)[0, 0]) for geom in (0, 1)])
    (bare, dark), (same, bright) = shown
    assert bare == same and dark == pytest.approx(0.6 * bare, abs=1) and bright == pytest.approx(0.8 * bare, abs=1)
