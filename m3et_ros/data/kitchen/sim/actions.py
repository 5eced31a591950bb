"""What the person can do: one generator per verb, `action(world, target)`, one tick per yield.

An action first walks to where it happens; its label covers what the hand does there.
"""

from collections.abc import Callable

import numpy as np

from m3et_ros.data.kitchen.sim.motion import progress, reach, rest, stroke, ticks, walk
from m3et_ros.data.kitchen.sim.parts import Slot, rotation_y, rotation_z
from m3et_ros.data.kitchen.sim.vocabulary import spoken
from m3et_ros.data.kitchen.sim.world import World

TILT = -1.75
"""Roll of the hand that pours, in radians."""


def stand_at(world: World, point) -> np.ndarray:
    """The spot on the floor (2,) from which the right hand reaches a point, at the counter or at the table."""
    if point[1] < 0.4:
        return np.array([point[0] + 0.08, 0.18])
    half = world.scene.size[0] / 2
    return np.array([np.clip(point[0] - 0.08, 0.35 - half, half - 0.5), world.scene.front - 0.42])


def approach(world: World, point, step_back=(0.0, 0.0)):
    """Walk to where a point can be reached, unless one stands there."""
    stand = stand_at(world, point) + step_back
    if np.linalg.norm(world.head[:2] - stand) > 0.35 or any(step_back):
        yield from walk(world, stand, point)


def gripping_hand(world: World, name: str, yaw: float) -> np.ndarray:
    """Where the hand (3,) must be to close its fingers round a thing."""
    thing = world.scene.things[name]
    side = rotation_z(yaw) @ (min(thing.radius, 0.09) + 0.022, -0.035, 0.012)
    return world.where(name) + (0, 0, max(thing.grip, 0.02)) + side


def hand_for(world: World, foot: np.ndarray, yaw: float) -> np.ndarray:
    """Where the hand (3,) must be for the foot of what it holds upright to come to a place."""
    return foot - rotation_z(yaw) @ world.grasp[0]


def noun_of(world: World, name: str) -> str:
    """Noun key of an instance."""
    return world.scene.instances[name].noun


def take(world: World, name: str):
    """Pick a thing up."""
    yield from approach(world, world.where(name))
    inside = world.slot[name].inside or ''
    world.begin('take', noun_of(world, name), instance=name, container=inside)
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


def put(world: World, slot: Slot):
    """Lay what is held into a slot."""
    foot = slot.position + world.shift(slot.inside)
    yield from approach(world, foot)
    world.begin(
        'put', noun_of(world, world.held), instance=world.held, container=slot.inside or '', rest=f' {slot.place}'
    )
    yaw = world.yaw + 0.25
    yield from reach(world, hand_for(world, foot + (0, 0, 0.06), yaw), 0.9, yaw=yaw)
    yield from reach(world, hand_for(world, foot, yaw), 0.4, yaw=yaw)
    world.lay_down(slot)
    yield from reach(world, world.hand + rotation_z(yaw) @ (0.07, -0.07, 0.05), 0.4, curl=0.1, yaw=yaw)
    world.finish()
    yield from rest(world)


def _swing(world: World, name: str, openness: float, verb: str):
    """Move a container to an openness by its handle."""
    container = world.scene.containers[name]

    def at_handle():
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


def open_container(world: World, name: str):
    """Open a drawer or a door."""
    yield from _swing(world, name, 1.0, 'open')


def close_container(world: World, name: str):
    """Close a drawer or a door."""
    yield from _swing(world, name, 0.0, 'close')


def _lever(world: World, openness: float, verb: str):
    """Lift or lower the lever of the tap."""
    lever = world.scene.containers['tap'].handle

    def at_lever():
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


def turn_on(world: World, _):
    """Let the water run."""
    yield from _lever(world, 1.0, 'turn-on')


def turn_off(world: World, _):
    """Stop the water."""
    yield from _lever(world, 0.0, 'turn-off')


def throw(world: World, _):
    """Drop what is held into the bin."""
    spot = world.scene.landmarks['bin']
    yield from walk(world, spot[:2] + (0.35, -0.35), spot + (0, 0, 0.4))
    world.begin('throw', noun_of(world, world.held), instance=world.held, rest=' in the bin')
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


def pour(world: World, vessel: str):
    """Pour from what is held into a vessel."""
    held = world.scene.things[world.held]
    target, foot = world.scene.things[vessel], world.where(vessel)
    yield from approach(world, foot)
    yaw = world.yaw + 0.1
    world.begin('pour', held.noun, instance=world.held, rest=f' into {spoken(target.noun)}')
    lip = foot + (0, 0, target.height + 0.05)

    def hand_tilted(roll: float, above: float = 0.0) -> np.ndarray:
        turn = rotation_z(yaw) @ rotation_y(roll)
        return lip + (0, 0, above) - turn @ (world.grasp[0] + world.grasp[1] @ held.mouth)

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


def _work(world: World, foot: np.ndarray, path: Callable[[float], tuple], roll: float = 0.0):
    """Bring the foot of what is held to a place and move it along path(phase) from there."""
    yaw = world.yaw + 0.25
    at = hand_for(world, foot, yaw)
    yield from reach(world, at, 0.7, yaw=yaw)
    yield from stroke(world, 1.6, lambda phase: at + np.array(path(phase)), roll)
    world.finish()
    yield from rest(world)


def wash(world: World, _):
    """Turn what is held about under the running water."""
    sink = world.scene.landmarks['sink']
    yield from approach(world, sink)
    world.begin('wash', noun_of(world, world.held), instance=world.held)
    yield from _work(world, sink, lambda phase: (0.03 * np.cos(phase) - 0.03, 0.03 * np.sin(phase), 0), roll=0.25)


def shake(world: World, _):
    """Shake what is held up and down in front of oneself."""
    world.begin('shake', noun_of(world, world.held), instance=world.held)
    front = world.head + world.facing @ (0.06, 0.55, -0.45)
    yield from _work(world, front, lambda phase: (0, 0.02 * np.sin(phase), 0.05 * np.sin(phase)), roll=0.25)


def _with_tool(world: World, name: str, verb: str, depth: float, path):
    """Use what is held on a thing; the tool comes to a share of its height."""
    foot, tool = world.where(name), noun_of(world, world.held)
    yield from approach(world, foot)
    world.begin(verb, noun_of(world, name), instance=name, rest=f' with {spoken(tool)}')
    yield from _work(world, foot + (0, 0, depth * world.scene.things[name].height + 0.02), path)


def mix(world: World, vessel: str):
    """Stir in a vessel with the spoon that is held."""
    yield from _with_tool(
        world, vessel, 'mix', 0.8, lambda phase: (0.02 * np.cos(phase) - 0.02, 0.02 * np.sin(phase), 0)
    )


def cut(world: World, food: str):
    """Cut food with the knife that is held."""
    yield from _with_tool(
        world, food, 'cut', 0.6, lambda phase: (0, 0.03 * np.sin(phase / 2), 0.035 * abs(np.sin(phase)))
    )


ACTIONS = {
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
"""Generator of each verb; the target is a name, a slot or None."""
