"""What the actions do to the world."""

from contextlib import suppress

import numpy as np
import pytest

from m3et_ros.data.kitchen.sim.actions import ACTIONS
from m3et_ros.data.kitchen.sim.scene import build_scene
from m3et_ros.data.kitchen.sim.world import World


@pytest.fixture
def world():
    for_scene, for_person = np.random.default_rng(4).spawn(2)
    return World(build_scene(for_scene), for_person, 10.0)


def ticks(world, script):
    """Let the ticks of a script pass."""
    with suppress(StopIteration):
        while True:
            world.advance(script)
            yield


def do(world, verb, target=None):
    """Do one action to its end and return its label."""
    assert len(list(ticks(world, ACTIONS[verb](world, target)))) > 10
    assert world.current is None
    return world.labels[-1]


def lying(world, noun):
    """A thing of a noun within reach."""
    return next(
        name
        for name, slot in world.slot.items()
        if slot and world.reachable(slot) and world.scene.things[name].noun == noun
    )


def test_take_and_put_move_a_thing(world):
    name = lying(world, 'pan')
    do(world, 'take', name)
    assert world.held == name and world.place_of(name) == 'in the hand'
    assert np.linalg.norm(world.position_of(name) - world.hand) < 0.3
    slot = next(slot for slot in world.scene.slots if slot.takes('pan') and world.reachable(slot))
    label = do(world, 'put', slot)
    assert label.narration == f'put pan {slot.place}'
    assert world.held is None and world.position_of(name) == pytest.approx(slot.position)


def test_containers_and_tap_open_and_close(world):
    for name in world.scene.containers:
        verbs = ('turn-on', 'turn-off') if name == 'tap' else ('open', 'close')
        do(world, verbs[0], name)
        assert world.openness[name] == pytest.approx(1)
        do(world, verbs[1], name)
        assert world.openness[name] == pytest.approx(0)


def test_pouring_fills_the_vessel_under_the_mouth(world):
    bottle, vessel = next(n for n in world.slot if n.startswith('bottle')), lying(world, 'pan')
    do(world, 'take', bottle)
    lowest = []
    for _ in ticks(world, ACTIONS['pour'](world, vessel)):
        if world.stream is not None:
            mouth = world.position[bottle] + world.rotation[bottle] @ world.scene.things[bottle].mouth
            lowest.append(np.linalg.norm(mouth - world.stream))
    assert world.fill[vessel] > 0.5
    assert max(lowest) < 0.01, 'the stream starts at the mouth'


def test_throwing_ends_in_the_bin(world):
    name = next(iter(world.slot))
    do(world, 'take', name)
    do(world, 'throw')
    assert world.place_of(name) == 'in the bin' and world.held is None
    assert world.position_of(name)[:2] == pytest.approx(world.scene.landmarks['bin'][:2])
