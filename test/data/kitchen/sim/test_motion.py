"""Walks and reaches."""

import numpy as np
import pytest

from m3et_ros.data.kitchen.sim.motion import minimum_jerk, reach, turn_between, walk
from m3et_ros.data.kitchen.sim.scene import build_scene
from m3et_ros.data.kitchen.sim.world import World


@pytest.fixture
def world():
    for_scene, for_person = np.random.default_rng(0).spawn(2)
    return World(build_scene(for_scene), for_person, 20.0)


def test_minimum_jerk_starts_and_ends_at_rest():
    t = np.linspace(0, 1, 1001)
    speed = np.gradient(minimum_jerk(t), t)
    assert (minimum_jerk(0), minimum_jerk(1)) == (0, 1)
    assert speed[[0, -1]] == pytest.approx((0, 0), abs=1e-4)
    assert speed.max() == pytest.approx(1.875, abs=1e-3)


def test_turns_take_the_shorter_way():
    assert turn_between(3.0, -3.0) == pytest.approx(2 * np.pi - 6)


def test_a_walk_ends_on_the_spot_with_the_target_ahead(world):
    target = np.array([1.0, 1.5, 1.0])
    speeds = [world.speed for _ in walk(world, (0.5, 0.2), target)]
    assert world.head[:2] == pytest.approx((0.5, 0.2))
    pose = world.camera_pose()
    seen = pose[:3, :3].T @ (target - pose[:3, 3])
    assert seen[2] > 0 and seen[:2] == pytest.approx((0, 0), abs=0.02)
    assert max(speeds) < 2.5


def test_a_reach_ends_at_a_moving_target(world):
    aim = world.hand + (0.1, 0.2, 0.1)

    def target():
        return aim + (0, 0, 0.01 * world.tick)

    for _ in reach(world, target, 0.5, curl=0.8):
        world.tick += 1
    assert world.hand == pytest.approx(aim + (0, 0, 0.01 * (world.tick - 1)))
    assert world.curl == pytest.approx(0.8)
