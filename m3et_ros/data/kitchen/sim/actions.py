"""The actions of the person: one generator per verb, `action(world, target)`, one tick per yield.

An action first walks to its spot; its label covers only the work of the hand there.

From a seed to a question: after sim/motion.py, before sim/planner.py.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from m3et_ros.data.kitchen.sim.motion import progress, reach, rest, stroke, ticks, walk
from m3et_ros.data.kitchen.sim.parts import Slot, rotation_y, rotation_z
from m3et_ros.data.kitchen.sim.vocabulary import AFFORDS, spoken
from m3et_ros.data.kitchen.sim.world import World

TILT = -1.75
"""Roll of the hand that pours, in radians."""


def stand_at(world: World, point: np.ndarray) -> np.ndarray:
    """Return the spot on the floor (2,) from which the right hand reaches a point at the counter or the table."""
    if point[1] < 0.4:
        return np.array([point[0] + 0.08, 0.18])
    half = world.scene.size[0] / 2
    return np.array([np.clip(point[0] - 0.08, 0.35 - half, half - 0.5), world.scene.front - 0.42])


def approach(world: World, point: np.ndarray, step_back: tuple[float, float] = (0.0, 0.0)) -> Iterator[None]:
    """Walk to where the hand reaches a point; stay if the person is there already and need not step back."""
    stand = stand_at(world, point) + step_back
    if np.linalg.norm(world.head[:2] - stand) > 0.35 or any(step_back):
        yield from walk(world, stand, point)


def gripping_hand(world: World, name: str, yaw: float) -> np.ndarray:
    """Return the position (3,) of a hand that closes its fingers round an object."""
    thing = world.scene.things[name]
    side = rotation_z(yaw) @ (min(thing.radius, 0.09) + 0.022, -0.035, 0.012)
    return world.position_of(name) + (0, 0, max(thing.grip, 0.02)) + side


def hand_for(world: World, foot: np.ndarray, yaw: float) -> np.ndarray:
    """Return the position (3,) of the hand that brings the foot of the upright held object to a point."""
    return foot - rotation_z(yaw) @ world.grasp[0]


def noun_of(world: World, name: str) -> str:
    """Return the noun key of an instance."""
    return world.scene.instances[name].noun


def take(world: World, name: str) -> Iterator[None]:
    """Pick an object up."""
    yield from approach(world, world.position_of(name))
    world.begin('take', noun_of(world, name), instance=name, container=world.container_of(name))
    yaw = world.yaw + 0.25
    clear = rotation_z(yaw) @ (0.07, -0.05, 0.05)
    yield from reach(world, lambda: gripping_hand(world, name, yaw) + clear, 0.7, curl=0.05, yaw=yaw)
    yield from reach(world, lambda: gripping_hand(world, name, yaw), 0.3, yaw=yaw)
    yield from reach(world, lambda: gripping_hand(world, name, yaw), 0.3, curl=0.75, yaw=yaw)
    world.pick_up(name)
    lifted = world.hand + (0, 0, 0.12) - world.facing @ (0, 0.12, 0)
    yield from reach(world, lifted, 0.5, yaw=yaw)
    world.finish()
    yield from rest(world)


def put(world: World, slot: Slot) -> Iterator[None]:
    """Lay the held object into a slot."""
    foot, held = slot.position + world.shift(slot.inside), world.held_name
    yield from approach(world, foot)
    world.begin('put', noun_of(world, held), instance=held, container=slot.inside or '', rest=f' {slot.place}')
    yaw = world.yaw + 0.25
    yield from reach(world, hand_for(world, foot + (0, 0, 0.06), yaw), 0.9, yaw=yaw)
    yield from reach(world, hand_for(world, foot, yaw), 0.4, yaw=yaw)
    world.lay_down(slot)
    yield from reach(world, world.hand + rotation_z(yaw) @ (0.07, -0.07, 0.05), 0.4, curl=0.1, yaw=yaw)
    world.finish()
    yield from rest(world)


def _swing(world: World, name: str, openness: float, verb: str) -> Iterator[None]:
    """Move a drawer or a door to an openness by its handle."""
    container = world.scene.containers[name]

    def at_handle() -> np.ndarray:
        return container.handle_at(world.openness[name]) + world.facing @ (0.03, -0.06, 0)

    yield from approach(world, container.handle, container.step_back)
    world.begin(verb, container.noun, instance=name, container=name)
    yield from reach(world, at_handle, 0.9, curl=0.15)
    yield from reach(world, at_handle, 0.3, curl=0.85)
    start = world.openness[name]
    for t in progress(world, 1.2):
        world.openness[name] = start + (openness - start) * t
        world.hand = at_handle()
        yield
    world.finish()
    world.curl = 0.25
    yield from rest(world)


def open_container(world: World, name: str) -> Iterator[None]:
    """Open a drawer or a door."""
    yield from _swing(world, name, 1.0, 'open')


def close_container(world: World, name: str) -> Iterator[None]:
    """Close a drawer or a door."""
    yield from _swing(world, name, 0.0, 'close')


def _lever(world: World, openness: float, verb: str) -> Iterator[None]:
    """Move the lever of the tap to an openness."""
    lever = world.scene.containers['tap'].handle

    def at_lever() -> np.ndarray:
        return lever + (0.05, -0.05, 0.02 + 0.1 * world.openness['tap'])

    yield from approach(world, world.scene.landmarks['sink'])
    world.begin(verb, 'tap', instance='tap', container='tap')
    yield from reach(world, at_lever, 0.8, curl=0.7)
    start = world.openness['tap']
    for t in progress(world, 0.6):
        world.openness['tap'] = start + (openness - start) * t
        world.hand = at_lever()
        yield
    world.finish()
    yield from rest(world)


def turn_on(world: World, _: Any) -> Iterator[None]:
    """Turn the tap on."""
    yield from _lever(world, 1.0, 'turn-on')


def turn_off(world: World, _: Any) -> Iterator[None]:
    """Turn the tap off."""
    yield from _lever(world, 0.0, 'turn-off')


def throw(world: World, _: Any) -> Iterator[None]:
    """Drop the held object into the bin."""
    spot, held = world.scene.landmarks['bin'], world.held_name
    yield from walk(world, spot[:2] + (0.35, -0.35), spot + (0, 0, 0.4))
    world.begin('throw', noun_of(world, held), instance=held, rest=' in the bin')
    yaw = world.yaw + 0.25
    yield from reach(world, hand_for(world, spot + (0, 0, 0.62), yaw), 0.9, yaw=yaw)
    world.curl = 0.1
    name = world.let_go()
    fall = ticks(world, 0.4)
    for i in range(fall):
        world.position[name] = spot + (0, 0, 0.62 - 0.57 * ((i + 1) / fall) ** 2)
        yield
    world.finish()
    yield from rest(world)


def pour(world: World, vessel: str) -> Iterator[None]:
    """Pour from the held object into a vessel.

    Raises:
        ValueError: the held object has no mouth.
    """
    held = world.scene.things[world.held_name]
    mouth, target, foot = held.mouth, world.scene.things[vessel], world.position_of(vessel)
    if mouth is None:
        raise ValueError(f'a {spoken(held.noun)} has no mouth; pour from {", ".join(AFFORDS["pour"])}')
    yield from approach(world, foot)
    yaw = world.yaw + 0.1
    world.begin('pour', held.noun, instance=world.held_name, rest=f' into {spoken(target.noun)}')
    lip = foot + (0, 0, target.height + 0.05)

    def hand_tilted(roll: float, above: float = 0.0) -> np.ndarray:
        turn = rotation_z(yaw) @ rotation_y(roll)
        return lip + (0, 0, above) - turn @ (world.grasp[0] + world.grasp[1] @ mouth)

    yield from reach(world, hand_tilted(-0.4, 0.08), 0.8, yaw=yaw, roll=-0.4)
    yield from reach(world, hand_tilted(TILT), 0.7, yaw=yaw, roll=TILT, gaze=False)
    for _ in range(ticks(world, 1.0)):
        world.stream = lip
        world.fill[vessel] = min(1.0, world.fill[vessel] + 0.6 / world.fps)
        yield
    world.stream = None
    yield from reach(world, hand_tilted(-0.2, 0.08), 0.5, yaw=yaw)
    world.finish()
    yield from rest(world)


def _work(world: World, foot: np.ndarray, path: Callable[[float], tuple], roll: float = 0.0) -> Iterator[None]:
    """Bring the foot of the held object to a point and move it along path(phase) from there."""
    yaw = world.yaw + 0.25
    at = hand_for(world, foot, yaw)
    yield from reach(world, at, 0.7, yaw=yaw)
    yield from stroke(world, 1.6, lambda phase: at + np.array(path(phase)), roll)
    world.finish()
    yield from rest(world)


def wash(world: World, _: Any) -> Iterator[None]:
    """Turn the held object under the running water."""
    sink = world.scene.landmarks['sink']
    yield from approach(world, sink)
    world.begin('wash', noun_of(world, world.held_name), instance=world.held_name)
    yield from _work(world, sink, lambda phase: (0.03 * np.cos(phase) - 0.03, 0.03 * np.sin(phase), 0), roll=0.25)


def shake(world: World, _: Any) -> Iterator[None]:
    """Shake the held object up and down in front of the person."""
    world.begin('shake', noun_of(world, world.held_name), instance=world.held_name)
    front = world.head + world.facing @ (0.06, 0.55, -0.45)
    yield from _work(world, front, lambda phase: (0, 0.02 * np.sin(phase), 0.05 * np.sin(phase)), roll=0.25)


def _with_tool(world: World, name: str, verb: str, height: float, path: Callable[[float], tuple]) -> Iterator[None]:
    """Use the held tool on an object, at a share `height` of the object's height."""
    foot, tool = world.position_of(name), noun_of(world, world.held_name)
    yield from approach(world, foot)
    world.begin(verb, noun_of(world, name), instance=name, rest=f' with {spoken(tool)}')
    yield from _work(world, foot + (0, 0, height * world.scene.things[name].height + 0.02), path)


def mix(world: World, vessel: str) -> Iterator[None]:
    """Stir in a vessel with the held spoon."""
    yield from _with_tool(
        world, vessel, 'mix', 0.8, lambda phase: (0.02 * np.cos(phase) - 0.02, 0.02 * np.sin(phase), 0)
    )


def cut(world: World, food: str) -> Iterator[None]:
    """Cut food with the held knife."""
    yield from _with_tool(
        world, food, 'cut', 0.6, lambda phase: (0, 0.03 * np.sin(phase / 2), 0.035 * abs(np.sin(phase)))
    )


ACTIONS: dict[str, Callable[[World, Any], Iterator[None]]] = {
    'take': take,
    'put': put,
    'wash': wash,
    'open': open_container,
    'close': close_container,
    'turn-on': turn_on,
    'turn-off': turn_off,
    'cut': cut,
    'pour': pour,
    'mix': mix,
    'throw': throw,
    'shake': shake,
}
"""Verb -> its generator; the target is the name of an instance, a slot or None."""
