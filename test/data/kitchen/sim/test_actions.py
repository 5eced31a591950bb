"""The effects of the actions on the world."""

from contextlib import suppress

import numpy as np
import pytest

from m3et_ros.data.kitchen.sim.actions import ACTIONS


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


def test_a_vessel_is_never_more_than_full(world):
    bottle, vessel = next(n for n in world.slot if n.startswith('bottle')), lying(world, 'pan')
    do(world, 'take', bottle)
    for _ in range(2):
        do(world, 'pour', vessel)
    assert world.fill[vessel] == 1.0 and world.labels[-1].narration == 'pour bottle into pan'


def test_only_what_has_a_mouth_can_be_poured_from(world):
    do(world, 'take', lying(world, 'pan'))
    with pytest.raises(ValueError, match='a pan has no mouth; pour from bottle, milk, kettle'):
        next(ACTIONS['pour'](world, lying(world, 'cup')))


def test_labels_name_the_container_that_is_taken_from_and_put_into(world):
    name = next(n for n, slot in world.slot.items() if slot.place == 'in the drawer')
    slot, drawer = world.slot[name], world.container_of(name)
    do(world, 'open', drawer)
    taken = do(world, 'take', name)
    put = do(world, 'put', slot)
    assert [label.container for label in world.labels] == [drawer, drawer, drawer]
    assert (taken.instance, put.instance) == (name, name) and put.narration.endswith('in the drawer')
    do(world, 'take', lying(world, 'pan'))
    assert world.labels[-1].container == ''


def test_tools_are_named_in_the_narration(world):
    for tool, verb, noun in (('knife', 'cut', 'carrot'), ('spoon', 'mix', 'pan')):
        do(world, 'take', next(n for n in world.slot if n.startswith(tool)))
        label = do(world, verb, next(n for n in world.slot if n.startswith(noun)))
        assert label.narration == f'{verb} {noun} with {tool}' and label.noun == noun
        do(world, 'throw')


def test_washing_happens_in_the_sink_and_shaking_in_front_of_the_person(world):
    do(world, 'take', next(n for n in world.slot if n.startswith('bottle')))
    sink = world.scene.landmarks['sink']
    for verb, spot in (('wash', lambda: sink), ('shake', lambda: world.head + world.facing @ (0.06, 0.55, -0.45))):
        nearest = min(
            np.linalg.norm(world.position[world.held] - spot()) for _ in ticks(world, ACTIONS[verb](world, None))
        )
        assert nearest < 0.05, verb
