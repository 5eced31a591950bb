"""Cameras as training has them, and cameras unlike those."""

import numpy as np
import pytest

from m3et_ros.data.kitchen.sim.mounts import OTHER, OWN, STRAIGHT, WIDEST, Lens, Mount, draw_lens
from m3et_ros.data.kitchen.sim.scene import build_scene
from m3et_ros.data.kitchen.sim.world import World


def measures(camera, seed):
    lens = draw_lens(np.random.default_rng(seed), camera)
    return {'fovy': lens.fovy, 'aspect': lens.aspect, **vars(lens.mount)}


def test_own_cameras_fill_their_ranges():
    drawn = [measures('own', seed) for seed in range(200)]
    for name, (low, high) in OWN.items():
        values = [one[name] for one in drawn]
        assert low <= min(values) < low + 0.05 * (high - low), name
        assert high - 0.05 * (high - low) < max(values) <= high, name


def test_other_cameras_lie_outside_in_two_or_three_of_five():
    counts, outside = [], set()
    for seed in range(200):
        found = {
            name: [i for i, (low, high) in enumerate(OTHER[name]) if low <= value <= high]
            for name, value in measures('other', seed).items()
            if not OWN[name][0] <= value <= OWN[name][1]
        }
        counts.append(len(found))
        assert all(found.values()), found
        outside |= {(name, side) for name, (side,) in found.items()}
    assert set(counts) == {2, 3}
    assert outside == {(name, side) for name in OTHER for side in (0, 1)}


def test_no_camera_is_wider_than_the_widest():
    widths = [draw_lens(np.random.default_rng(seed), 'other').fovx for seed in range(200)]
    assert 120 < max(widths) <= WIDEST
    assert Lens(90.0, 2.0, STRAIGHT).fovx == pytest.approx(2 * np.degrees(np.arctan(2)))


@pytest.mark.parametrize(
    ('mount', 'axis', 'expected'),
    [
        (Mount(pitch=90), (0, 0, 1), (0, -1, 0)),  # the camera looks where up was
        (Mount(roll=90), (1, 0, 0), (0, 1, 0)),  # its right is where down was
        (Mount(pitch=90, roll=90), (1, 0, 0), (0, 0, 1)),
    ],
)
def test_a_mount_turns_up_and_rolls_clockwise(mount, axis, expected):
    assert mount.rotation @ axis == pytest.approx(expected, abs=1e-12)


def test_a_mount_moves_the_camera_and_leaves_the_person_alone():
    def world(mount):
        return World(build_scene(np.random.default_rng(1)), np.random.default_rng(2), 10.0, mount)

    plain, moved = world(STRAIGHT), world(Mount(12.0, -7.0, -0.25))
    assert moved.camera_pose()[:3, 3] - plain.camera_pose()[:3, 3] == pytest.approx((0, 0, -0.25))
    turn = plain.camera_pose()[:3, :3].T @ moved.camera_pose()[:3, :3]
    assert turn == pytest.approx(Mount(12.0, -7.0).rotation)
    assert np.array_equal(plain.hand, moved.hand) and np.array_equal(plain.head, moved.head)
