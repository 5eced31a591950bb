"""Walks and reaches."""

import numpy as np
import pytest

from m3et_ros.data.kitchen.sim.motion import minimum_jerk, progress, reach, rest, stroke, ticks, turn_between, walk
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


def test_a_slower_walk_takes_longer(world):
    target = np.array([1.0, 1.5, 1.0])
    start = world.head.copy()
    lengths = []
    for speed in (0.4, 0.8):
        world.head = start.copy()
        lengths.append(len(list(walk(world, (1.4, 0.2), target, speed))))
    assert lengths[0] == pytest.approx(2 * lengths[1], rel=0.05) and world.speed == 0


def test_every_movement_takes_at_least_one_tick_and_ends_at_its_end(world):
    assert (ticks(world, 0.0), ticks(world, 0.5)) == (1, 10)
    assert list(progress(world, 0.5))[-1] == 1 and len(list(progress(world, 0.5))) == 10


def test_a_resting_hand_opens_only_if_it_is_empty(world):
    world.curl = 0.75
    for _ in rest(world):
        pass
    assert world.curl == pytest.approx(0.25) and world.hand == pytest.approx(world.resting_hand())
    world.pick_up(next(iter(world.slot)))
    world.curl = 0.75
    for _ in rest(world):
        pass
    assert world.curl == pytest.approx(0.75)


def test_a_reach_turns_the_hand_and_leaves_the_eyes_if_asked(world):
    yaw, pitch = world.yaw, world.pitch
    for _ in reach(world, world.hand + (0.3, 0, 0), 0.4, yaw=1.2, roll=-0.5, gaze=False):
        pass
    assert (world.hand_yaw, world.roll) == pytest.approx((1.2, -0.5)) and (world.yaw, world.pitch) == (yaw, pitch)
    for _ in reach(world, world.hand + (0.3, 0, 0), 0.4):
        pass
    assert world.yaw < yaw, 'the eyes follow the hand to the right'


def test_a_stroke_runs_twice_a_second_and_rolls_the_wrist(world):
    phases, rolls = [], []
    for _ in stroke(world, 0.5, lambda phase: phases.append(phase) or world.hand, 0.25):
        rolls.append(world.roll)
    assert np.diff(phases) == pytest.approx(4 * np.pi / 20) and rolls == pytest.approx(0.25 * np.sin(phases))
    assert world.roll == 0
