"""The state of an episode: the body, the objects and the labels."""

import numpy as np
import pytest

from m3et_ros.data.kitchen.sim.parts import rotation_z
from m3et_ros.data.kitchen.sim.scene import build_scene
from m3et_ros.data.kitchen.sim.vocabulary import NOUNS, PLACES, VERBS
from m3et_ros.data.kitchen.sim.world import ELBOW, EYE_HEIGHT, OPEN, World


def in_container(world, noun):
    """The name of an object that lies in a container of a noun."""
    return next(
        name
        for name in world.slot
        if world.container_of(name) and world.scene.containers[world.container_of(name)].noun == noun
    )


# The body


def test_the_camera_is_at_the_eyes_and_looks_where_the_person_looks(world):
    world.yaw, world.pitch = 0.3, -0.2
    pose = world.camera_pose()
    assert pose[:3, 3] == pytest.approx(world.head) and world.head[2] == EYE_HEIGHT
    right, down, forward = pose[:3, :3].T
    assert forward == pytest.approx((-np.sin(0.3) * np.cos(-0.2), np.cos(0.3) * np.cos(-0.2), np.sin(-0.2)))
    assert np.cross(right, down) == pytest.approx(forward) and right[2] == 0 and down[2] < 0


def test_the_head_bobs_only_as_it_walks(world):
    heights = []
    for world.tick in range(40):
        heights.append(world.camera_pose()[2, 3])
    assert set(heights) == {EYE_HEIGHT}
    world.speed = 1.0
    heights = []
    for world.tick in range(40):
        heights.append(world.camera_pose()[2, 3] - EYE_HEIGHT)
    assert 0.01 < max(heights) <= 0.012 and -0.012 <= min(heights) < -0.01


def test_angles_to_a_point_are_those_that_bring_it_to_the_middle_of_the_view(world):
    point = np.array([1.2, 1.6, 0.9])
    world.yaw, world.pitch = world.angles_to(point)
    pose = world.camera_pose()
    x, y, z = pose[:3, :3].T @ (point - pose[:3, 3])
    assert (x, y) == pytest.approx((0, 0)) and z > 0
    elsewhere = world.angles_to(point, np.array([1.2, 0.6, 0.9]))
    assert elsewhere == pytest.approx((0, 0))
    assert (
        world.angles_to(world.head + (0, 0.1, 5))[1] == 0.15 and world.angles_to(world.head - (0, 0.1, 5))[1] == -1.15
    )


def test_the_forearm_reaches_from_the_elbow_to_the_wrist(world):
    wrist, turn = world.forearm()
    elbow = world.head + world.facing @ ELBOW
    assert turn[:, 1] * np.linalg.norm(wrist - elbow) == pytest.approx(wrist - elbow)
    assert turn.T @ turn == pytest.approx(np.eye(3)) and np.linalg.det(turn) == pytest.approx(1)
    assert np.linalg.norm(wrist - world.hand) == pytest.approx(0.09)


def test_the_idle_hand_comes_nearer_the_middle_when_it_holds_something(world):
    def across():
        return (world.facing.T @ (world.resting_hand() - world.head))[0]

    empty = across()
    world.pick_up(next(iter(world.slot)))
    assert (empty, across()) == pytest.approx((0.24, 0.13))


# Objects


def test_a_container_must_be_more_than_half_open_to_be_reached_into(world):
    slot = world.slot[in_container(world, 'drawer')]
    for openness, reachable in ((0.0, False), (OPEN, False), (OPEN + 1e-9, True), (1.0, True)):
        world.openness[slot.inside] = openness
        assert world.reachable(slot) is reachable


def test_a_distant_slot_is_out_of_reach_and_the_counter_is_not(world):
    counter = [slot for slot in world.scene.slots if slot.place == 'on the counter']
    assert {slot.distant for slot in counter} == {True, False}
    assert all(world.reachable(slot) is not slot.distant for slot in counter)


def test_water_runs_from_more_than_half_open(world):
    running = []
    for world.openness['tap'] in (0.0, OPEN, 0.51, 1.0):
        running.append(world.running)
    assert running == [False, False, True, True]


def test_a_drawer_moves_what_lies_in_it_and_a_fridge_does_not(world):
    for noun, moved in (('drawer', (0, -0.34, 0)), ('fridge', (0, 0, 0))):
        name = in_container(world, noun)
        before = world.position_of(name)
        world.openness[world.container_of(name)] = 1.0
        assert world.position_of(name) - before == pytest.approx(moved)


def test_places_are_those_of_slots_the_hand_or_the_bin(world):
    name, slot = next((name, slot) for name, slot in world.slot.items() if not slot.inside)
    assert world.place_of(name) == slot.place and world.container_of(name) == ''
    world.pick_up(name)
    assert world.place_of(name) == 'in the hand' and world.held_name == name
    assert world.let_go() == name
    assert world.place_of(name) == 'in the bin' and world.binned == {name} and world.held is None
    assert {world.place_of(other) for other in world.slot} <= set(PLACES)


def test_what_is_picked_up_leaves_its_slot_free_and_follows_the_hand(world):
    name, slot = next((name, slot) for name, slot in world.slot.items() if not slot.inside)
    start, turn = world.position_of(name) - world.hand, world.rotation[name].copy()
    world.pick_up(name)
    assert slot.occupant is None and world.slot[name] is None and world.taken_from is slot
    assert slot.takes(world.scene.things[name].noun)

    def quarter_turn():
        world.hand_yaw += np.pi / 2
        world.hand = world.hand + (0.1, 0, 0.2)
        yield

    world.advance(quarter_turn())
    assert world.tick == 0
    assert world.position[name] - world.hand == pytest.approx(rotation_z(np.pi / 2) @ start)
    assert world.rotation[name] == pytest.approx(rotation_z(np.pi / 2) @ turn)


def test_what_is_laid_down_stands_upright_in_its_slot_and_keeps_its_direction(world):
    name = next(iter(world.slot))
    world.pick_up(name)
    world.hand_yaw, world.roll = 0.7, 0.5
    world.advance(iter([None]))
    leaning = world.rotation[name]
    slot = next(slot for slot in world.scene.slots if slot.takes(world.scene.things[name].noun))
    world.lay_down(slot)
    assert world.position_of(name) == pytest.approx(slot.position + world.shift(slot.inside))
    assert world.rotation[name][:, 2] == pytest.approx((0, 0, 1)) and leaning[2, 2] < 0.99
    heading = np.arctan2(leaning[1, 0], leaning[0, 0])
    assert world.rotation[name] == pytest.approx(rotation_z(heading))
    assert slot.occupant == name and world.slot[name] is slot and world.held is None


def test_steps_out_of_order_are_refused(world):
    with pytest.raises(ValueError, match='the hand is empty'):
        world.let_go()
    with pytest.raises(ValueError, match='the hand is empty'):
        world.lay_down(world.scene.slots[0])
    with pytest.raises(ValueError, match='no action is under way'):
        world.finish()
    name = next(iter(world.slot))
    world.pick_up(name)
    with pytest.raises(ValueError, match='is in the hand; only an object in a slot'):
        world.pick_up(name)


# Labels


def test_a_label_has_the_ids_the_words_and_the_times_of_its_action(world):
    world.tick = 20
    world.begin('turn-on', 'board:chopping', instance='board_7', container='drawer_1', rest=' into cup')
    label = world.current
    assert (label.verb, label.verb_class) == ('turn-on', VERBS['turn-on'])
    assert (label.noun, label.noun_class) == ('board:chopping', NOUNS['board:chopping'])
    assert label.narration == 'turn on chopping board into cup'
    assert (label.instance, label.container) == ('board_7', 'drawer_1')
    assert (label.start_s, label.stop_s) == (2.0, None)
    world.tick = 35
    world.finish()
    assert world.current is None and world.labels[-1].stop_s == 3.4 and world.labels[-1].start_s == 2.0


def test_a_snapshot_is_a_copy_of_every_field(world):
    name = next(iter(world.slot))
    world.pick_up(name)
    world.tick = 15
    world.begin('take', 'cup', instance=name)
    world.openness['tap'], vessel = 0.7, next(iter(world.fill))
    world.fill[vessel] = 0.25
    state = world.snapshot()
    world.finish()
    world.openness['tap'], world.fill[vessel], world.held = 0.0, 1.0, None
    assert (state.tick, state.stamp_s, state.held) == (15, 1.5, name)
    assert state.openness['tap'] == 0.7 and state.fill[vessel] == 0.25
    assert state.places[name] == 'in the hand' and set(state.places) == set(world.scene.things)
    assert state.current.instance == name and state.finished == ()
    assert np.array_equal(state.pose, world.camera_pose()) and world.snapshot().finished[0].instance == name


def test_the_person_starts_the_same_with_the_same_seed():
    def start(seed):
        world = World(build_scene(np.random.default_rng(1)), np.random.default_rng(seed), 10.0)
        return world.head.tolist(), world.yaw, [turn.tolist() for turn in world.rotation.values()]

    assert start(3) == start(3) != start(4)
