"""The hand: its axes, and how its fingers bend."""

import mujoco
import numpy as np
import pytest

from m3et_ros.data.kitchen.sim.hand import BEND, add_hand
from m3et_ros.data.kitchen.sim.parts import Scene
from m3et_ros.data.kitchen.sim.scene import mjcf

FINGERS = [f'finger_{i}' for i in range(4)]


@pytest.fixture(scope='module')
def hand():
    """A scene with nothing but the hand, its model and its data; the hand is at the origin."""
    scene = Scene(np.random.default_rng(0), (4.0, 4.0, 2.6))
    add_hand(scene)
    model = mujoco.MjModel.from_xml_string(mjcf(scene, width=32, height=24, fovy=60), scene.assets)
    return scene, model, mujoco.MjData(model)


def curled(hand, curl):
    """End of the last bone of each finger and of the thumb, (3,), at a curl."""
    _, model, data = hand
    for joint, gain in BEND.items():
        data.qpos[model.joint(joint).qposadr[0]] = gain * curl
    mujoco.mj_kinematics(model, data)
    return {
        name: data.body(f'{name}_tip').xpos + data.body(f'{name}_tip').xmat.reshape(3, 3) @ (0, 0.032, 0)
        for name in (*FINGERS, 'thumb')
    }


def test_every_joint_of_the_fingers_bends_and_no_other(hand):
    _, model, _ = hand
    hinges = {
        model.joint(i).name for i in range(model.njnt) if model.joint(i).type[0] == mujoco.mjtJoint.mjJNT_HINGE.value
    }
    assert hinges == set(BEND)


def test_open_fingers_point_along_y_with_the_thumb_above(hand):
    tips = curled(hand, 0.0)
    for name in FINGERS:
        assert tips[name] == pytest.approx((-0.006, 0.045 + 0.038 + 0.032, tips[name][2]))
    heights = [tips[name][2] for name in FINGERS]
    assert heights == sorted(heights, reverse=True) and tips['thumb'][2] > max(heights)


def test_a_fist_brings_the_fingertips_to_the_palm_side(hand):
    tips = [curled(hand, curl) for curl in (0.0, 0.5, 1.0)]
    for name in FINGERS:
        across = [tip[name][0] for tip in tips]
        assert across[0] > across[1] and across[2] < -0.02, 'towards -x'
        assert tips[2][name][1] < tips[1][name][1] < tips[0][name][1]


def test_a_joint_at_the_tip_bends_further_than_the_one_at_the_base(hand):
    curled(hand, 1.0)
    _, _, data = hand
    for name in FINGERS:
        base, tip = (data.body(part).xmat.reshape(3, 3)[:, 1] for part in (name, f'{name}_tip'))
        assert np.arccos(base[1]) == pytest.approx(1.0) and np.arccos(base @ tip) == pytest.approx(1.3)


def test_hand_and_sleeve_are_two_instances_that_move_freely(hand):
    scene, model, _ = hand
    assert {name: instance.noun for name, instance in scene.instances.items()} == {'hand': 'hand', 'sleeve': 'clothes'}
    for name in ('hand', 'sleeve'):
        assert model.joint(name).type[0] == mujoco.mjtJoint.mjJNT_FREE.value
