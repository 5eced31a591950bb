"""Movements of the person: minimum-jerk walks, reaches and strokes. Every generator yields once per tick.

From a seed to a question: after sim/world.py, before sim/actions.py.
"""

from collections.abc import Callable, Iterator

import numpy as np

from m3et_ros.data.kitchen.sim.shapes import Triple
from m3et_ros.data.kitchen.sim.world import EYE_HEIGHT, World

WALKING_SPEED = 1.15
"""Mean walking speed in metres per second."""

TURNING_SPEED = 1.6
"""Mean turning speed in radians per second."""

Point = np.ndarray | Callable[[], np.ndarray]
"""A position (3,), or a function that returns the current one."""


def minimum_jerk(t: float) -> float:
    """Return the progress 0..1 of a movement at the share t of its duration (Flash and Hogan 1985)."""
    return t * t * t * (10 + t * (6 * t - 15))


def ticks(world: World, seconds: float) -> int:
    """Return the number of ticks of a movement, at least one."""
    return max(1, round(seconds * world.fps))


def progress(world: World, seconds: float) -> Iterator[float]:
    """Yield minimum-jerk progress for each tick of a movement, ending at 1."""
    count = ticks(world, seconds)
    return (minimum_jerk((i + 1) / count) for i in range(count))


def turn_between(start: float, end: float) -> float:
    """Return the shorter turn from one angle to another, in -pi..pi."""
    return (end - start + np.pi) % (2 * np.pi) - np.pi


def walk(
    world: World, stand: tuple[float, float] | np.ndarray, target: Triple, speed: float = WALKING_SPEED
) -> Iterator[None]:
    """Walk to a spot on the floor (2,), facing a target (3,) at the end.

    Args:
        world: is changed.
        stand: x and y of the spot in metres.
        target: point to look at in metres.
        speed: mean speed in metres per second.
    """
    start, end = world.head.copy(), np.array([stand[0], stand[1], EYE_HEIGHT])
    yaw, pitch = world.yaw, world.pitch
    end_yaw, end_pitch = world.angles_to(target, end)
    distance, turn = float(np.linalg.norm(end - start)), turn_between(yaw, end_yaw)
    lag = world.hand - world.resting_hand()
    duration = max(1.2 * distance / speed, abs(turn) / TURNING_SPEED, 0.2)
    for t in progress(world, duration):
        before = world.head
        world.head = start + (end - start) * t
        world.speed = float(np.linalg.norm(world.head - before)) * world.fps
        world.yaw, world.pitch = yaw + turn * t, pitch + (end_pitch - pitch) * t
        if distance > 0.6:
            world.pitch -= 0.12 * np.sin(np.pi * t)  # the eyes follow the way
        world.hand_yaw = world.yaw
        world.hand = world.resting_hand() + lag * (1 - t)
        yield
    world.speed = 0.0


def reach(
    world: World,
    target: Point,
    seconds: float,
    *,
    curl: float | None = None,
    yaw: float | None = None,
    roll: float = 0.0,
    gaze: bool = True,
) -> Iterator[None]:
    """Move the hand to a target in an arc.

    Args:
        world: is changed.
        target: position of the hand at the end; a function is called at every tick.
        seconds: duration.
        curl: curl of the fingers at the end, 0..1; None leaves it unchanged.
        yaw: yaw of the hand at the end in radians; None turns it 0.25 left of the trunk.
        roll: roll of the hand at the end in radians.
        gaze: the eyes follow the hand.
    """
    start = world.hand.copy(), world.curl, world.hand_yaw, world.roll
    end_curl = world.curl if curl is None else curl
    end_yaw = world.yaw + 0.25 if yaw is None else yaw
    for t in progress(world, seconds):
        aim = target() if callable(target) else target
        world.hand = start[0] + (aim - start[0]) * t + (0, 0, 0.05 * np.sin(np.pi * t))
        world.curl = start[1] + (end_curl - start[1]) * t
        world.hand_yaw = start[2] + turn_between(start[2], end_yaw) * t
        world.roll = start[3] + (roll - start[3]) * t
        if gaze:
            follow(world, aim)
        yield


def follow(world: World, aim: np.ndarray) -> None:
    """Turn the eyes part of the way towards the hand's aim; the speed does not depend on the frame rate."""
    gain = 1 - 0.88 ** (10 / world.fps)
    yaw, pitch = world.angles_to(aim + world.facing @ (-0.05, 0.08, 0))
    world.yaw += gain * turn_between(world.yaw, yaw)
    world.pitch += gain * (pitch - world.pitch)


def rest(world: World) -> Iterator[None]:
    """Take the hand back; it stays closed while it holds an object."""
    yield from reach(world, world.resting_hand, 0.5, curl=None if world.held else 0.25, yaw=world.yaw, gaze=False)


def stroke(world: World, seconds: float, path: Callable[[float], np.ndarray], roll: float = 0.0) -> Iterator[None]:
    """Move the hand along path(phase), phase in radians at 2 strokes per second, rolling the wrist with it."""
    for i in range(ticks(world, seconds)):
        phase = 4 * np.pi * i / world.fps
        world.hand, world.roll = path(phase), roll * np.sin(phase)
        yield
    world.roll = 0.0
