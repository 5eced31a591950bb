"""The state of an episode: positions, openness, fillings, the person's body and the actions. Needs no renderer.

From a seed to a question: after sim/mounts.py, before sim/motion.py.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from m3et_ros.data.kitchen.sim.mounts import STRAIGHT, Mount
from m3et_ros.data.kitchen.sim.parts import Scene, Slot, rotation_y, rotation_z
from m3et_ros.data.kitchen.sim.shapes import Triple
from m3et_ros.data.kitchen.sim.vocabulary import NOUNS, VERBS, spoken, spoken_verb

EYE_HEIGHT = 1.55
"""Height of the eyes above the floor in metres."""

OPEN = 0.5
"""A container counts as open above this openness (0 shut, 1 fully open)."""

ELBOW = (0.32, -0.02, -0.58)
"""The right elbow relative to the head: right, forward, up in metres."""


@dataclass(frozen=True)
class ActionLabel:
    """One action of the person, in the terms of EPIC-KITCHENS-100 annotations."""

    # Seconds from the start of the episode.
    start_s: float
    # The same, or None while the action is under way.
    stop_s: float | None
    # Key of vocabulary.VERBS.
    verb: str
    # Key of vocabulary.NOUNS.
    noun: str
    # Class id of the verb.
    verb_class: int
    # Class id of the noun.
    noun_class: int
    # In an annotator's words: 'pour milk into cup'.
    narration: str
    # Name of the instance acted on.
    instance: str = ''
    # Name of the container that is opened, taken from or put into, or ''.
    container: str = ''


@dataclass(frozen=True)
class WorldState:
    """The state of the world at one tick, without a picture of it."""

    tick: int
    # Seconds from the start of the episode.
    stamp_s: float
    # Camera (z forward, x right, y down; REP 103 optical frame) in the room, (4, 4).
    pose: np.ndarray
    # Name of the object in the hand, or None.
    held: str | None
    # Openness of each container in 0..1; the tap is open while the water runs.
    openness: dict[str, float]
    # Filling of each vessel in 0..1.
    fill: dict[str, float]
    # Place of each object, in words.
    places: dict[str, str]
    # The action under way.
    current: ActionLabel | None
    # The actions done, in order.
    finished: tuple[ActionLabel, ...]


class World:
    """The changing state of one episode. Angles are in radians, lengths in metres.

    Args:
        scene: the kitchen, with every object in a slot.
        rng: random generator of the person's choices.
        fps: ticks per second of simulated time.
        mount: mount of the camera on the head.

    Attributes:
        tick: tick of the current state; -1 before the first one.
        slot: object -> its slot; None for an object that is held or in the bin.
        position: object -> its foot with its container shut, (3,).
        rotation: object -> rotation (3, 3).
        openness: container -> 0 shut to 1 fully open.
        fill: vessel -> 0 empty to 1 full.
        stream: top of the liquid that is being poured, (3,), or None.
        labels: the actions done, in order.
        current: the action under way, or None.
    """

    def __init__(self, scene: Scene, rng: np.random.Generator, fps: float, mount: Mount = STRAIGHT):
        self.scene, self.rng, self.fps, self.mount = scene, rng, fps, mount
        self.tick = -1
        occupied = {slot.occupant: slot for slot in scene.slots if slot.occupant and slot.occupant in scene.things}
        self.slot: dict[str, Slot | None] = dict(occupied)
        self.position = {name: slot.position.copy() for name, slot in occupied.items()}
        self.rotation = {name: rotation_z(rng.uniform(-0.5, 0.5)) for name in occupied}
        self.openness = dict.fromkeys(scene.containers, 0.0)
        self.fill = {name: 0.0 for name, thing in scene.things.items() if thing.inner}
        self.binned: set[str] = set()
        self.held: str | None = None
        self.taken_from: Slot | None = None
        self.grasp = (np.zeros(3), np.eye(3))  # position and rotation of the held object in the frame of the hand
        self.stream: np.ndarray | None = None
        self.labels: list[ActionLabel] = []
        self.current: ActionLabel | None = None
        self.head = np.array([rng.uniform(-0.4, 0.4), 0.3, EYE_HEIGHT])
        self.yaw, self.pitch, self.speed = rng.uniform(-0.6, 0.6), -0.45, 0.0
        self.hand, self.hand_yaw, self.roll, self.curl = self.resting_hand(), self.yaw, 0.0, 0.25

    # The body

    @property
    def facing(self) -> np.ndarray:
        """Rotation (3, 3) of the trunk: x right, y forward."""
        return rotation_z(self.yaw)

    @property
    def hand_rotation(self) -> np.ndarray:
        """Rotation (3, 3) of the hand: fingers along y, palm towards -x."""
        return rotation_z(self.hand_yaw) @ rotation_y(self.roll)

    def resting_hand(self) -> np.ndarray:
        """Return the position (3,) of the idle hand: in view, and nearer the middle when it holds an object."""
        return self.head + self.facing @ np.array((0.13, 0.50, -0.36) if self.held else (0.24, 0.42, -0.40))

    def camera_pose(self) -> np.ndarray:
        """Return the camera in the room (4, 4), optical axes; the head bobs as it walks."""
        forward = self.facing @ np.array([0, np.cos(self.pitch), np.sin(self.pitch)])
        right = self.facing[:, 0]
        bob = 0.012 * np.sin(9 * self.tick / self.fps) * min(1, 4 * self.speed)
        pose = np.eye(4)
        pose[:3, :3] = np.stack([right, np.cross(forward, right), forward], axis=1)
        pose[:3, 3] = self.head + (0, 0, bob + self.mount.height)
        if self.mount != STRAIGHT:
            pose[:3, :3] = pose[:3, :3] @ self.mount.rotation
        return pose

    def forearm(self) -> tuple[np.ndarray, np.ndarray]:
        """Return wrist (3,) and rotation (3, 3) of the forearm, whose y axis points from elbow to wrist."""
        wrist = self.hand + self.hand_rotation @ (0, -0.09, 0)
        along = wrist - (self.head + self.facing @ np.array(ELBOW))
        along /= np.linalg.norm(along)
        side = np.cross(along, (0, 0, 1.0))
        side /= np.linalg.norm(side)
        return wrist, np.stack([side, along, np.cross(side, along)], axis=1)

    def angles_to(self, point: Triple, head: np.ndarray | None = None) -> tuple[float, float]:
        """Return the yaw and pitch at which the eyes look at a point, from `head` or from the current head."""
        x, y, z = point - (self.head if head is None else head)
        return np.arctan2(-x, y), float(np.clip(np.arctan2(z, np.hypot(x, y)), -1.15, 0.15))

    # Objects

    @property
    def held_name(self) -> str:
        """Name of the object in the hand.

        Raises:
            ValueError: the hand is empty.
        """
        if self.held is None:
            raise ValueError('the hand is empty; take an object first')
        return self.held

    def shift(self, container: str | None) -> np.ndarray:
        """Return the displacement (3,) of a container's contents in metres at its current openness."""
        return self.scene.containers[container].shift(self.openness[container]) if container else np.zeros(3)

    def container_of(self, name: str) -> str:
        """Return the container in which an object lies, or ''."""
        slot = self.slot[name]
        return (slot.inside or '') if slot else ''

    def position_of(self, name: str) -> np.ndarray:
        """Return the current position (3,) of the foot of an object."""
        return self.position[name] + self.shift(self.container_of(name))

    def place_of(self, name: str) -> str:
        """Return the place of an object in words, one of vocabulary.PLACES."""
        if name == self.held:
            return 'in the hand'
        slot = self.slot[name]
        return slot.place if slot else 'in the bin'

    def reachable(self, slot: Slot) -> bool:
        """Return whether the hand can reach a slot now."""
        return not slot.distant and (slot.inside is None or self.openness[slot.inside] > OPEN)

    @property
    def running(self) -> bool:
        """True while water runs from the tap."""
        return self.openness['tap'] > OPEN

    def advance(self, script: Iterator[None]) -> None:
        """Advance by one tick of a script.

        Raises:
            StopIteration: the script is over.
        """
        self.tick += 1
        next(script)
        if self.held:  # the held object follows the hand
            offset, turn = self.grasp
            self.position[self.held] = self.hand + self.hand_rotation @ offset
            self.rotation[self.held] = self.hand_rotation @ turn

    def pick_up(self, name: str) -> None:
        """Fix an object to the hand, in its present position relative to the hand.

        Raises:
            ValueError: the object lies in no slot.
        """
        back, foot, slot = self.hand_rotation.T, self.position_of(name), self.slot[name]
        if slot is None:
            raise ValueError(f'{name} is {self.place_of(name)}; only an object in a slot can be picked up')
        self.taken_from, self.slot[name], slot.occupant = slot, None, None
        self.grasp, self.held = (back @ (foot - self.hand), back @ self.rotation[name]), name

    def lay_down(self, slot: Slot) -> None:
        """Leave the held object upright in a slot."""
        name, self.held = self.held_name, None
        turn = self.rotation[name]
        self.position[name], self.rotation[name] = slot.position.copy(), rotation_z(np.arctan2(turn[1, 0], turn[0, 0]))
        self.slot[name], slot.occupant = slot, name

    def let_go(self) -> str:
        """Drop the held object into the bin and return its name."""
        name, self.held = self.held_name, None
        self.binned.add(name)
        return name

    # Labels

    def begin(self, verb: str, noun: str, *, instance: str, container: str = '', rest: str = '') -> None:
        """Start the label of an action with the current tick.

        Args:
            verb: key of vocabulary.VERBS.
            noun: key of vocabulary.NOUNS.
            instance: name of the instance acted on.
            container: name of the container involved, or ''.
            rest: end of the narration, after the noun: ' into cup'.
        """
        words = f'{spoken_verb(verb)} {spoken(noun)}{rest}'
        self.current = ActionLabel(
            self.tick / self.fps, None, verb, noun, VERBS[verb], NOUNS[noun], words, instance, container
        )

    def finish(self) -> None:
        """End the label of the action under way with the tick before the current one.

        Raises:
            ValueError: no action is under way.
        """
        if self.current is None:
            raise ValueError('no action is under way; begin one first')
        self.labels.append(replace(self.current, stop_s=(self.tick - 1) / self.fps))
        self.current = None

    def snapshot(self) -> WorldState:
        """Return a copy of the current state."""
        return WorldState(
            tick=self.tick,
            stamp_s=self.tick / self.fps,
            pose=self.camera_pose(),
            held=self.held,
            openness=dict(self.openness),
            fill=dict(self.fill),
            places={name: self.place_of(name) for name in self.slot},
            current=self.current,
            finished=tuple(self.labels),
        )
