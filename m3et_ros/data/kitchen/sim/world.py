"""The kitchen at work: where everything is, what the person does, what has been done. Kinematic, without a renderer."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from m3et_ros.data.kitchen.sim.parts import Scene, Slot, rotation_y, rotation_z
from m3et_ros.data.kitchen.sim.vocabulary import NOUNS, VERBS, spoken

EYE_HEIGHT = 1.55
"""Height of the camera above the floor in metres."""

OPEN = 0.5
"""A container counts as open from this openness on (0 shut, 1 fully open)."""

ELBOW = (0.32, -0.02, -0.58)
"""The right elbow as seen from the head: right, forward, up in metres."""


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
    # What an annotator would say: 'pour milk into cup'.
    narration: str
    # Name of the instance acted on.
    instance: str = ''
    # Name of the container it is opened, taken from or put into, or ''.
    container: str = ''


@dataclass(frozen=True)
class State:
    """What is the case at one tick, without any picture of it."""

    tick: int
    # Seconds from the start of the episode.
    stamp_s: float
    # Camera (z forward, x right, y down; REP 103 optical frame) in the room, (4, 4).
    pose: np.ndarray
    # Name of the thing in the hand, or None.
    held: str | None
    # Openness of each container in 0..1; that of the tap says whether the water runs.
    openness: dict[str, float]
    # How full each vessel is, in 0..1.
    fill: dict[str, float]
    # Where each thing is, in words.
    places: dict[str, str]
    # The action under way.
    current: ActionLabel | None
    # The actions done, in order.
    finished: tuple[ActionLabel, ...]


class World:
    """The moving state of one episode. Angles in radians, lengths in metres."""

    def __init__(self, scene: Scene, rng: np.random.Generator, fps: float):
        self.scene, self.rng, self.fps = scene, rng, fps
        self.tick = -1  # the tick that is shown; none yet
        self.slot: dict[str, Slot | None] = {s.occupant: s for s in scene.slots if s.occupant in scene.things}
        self.position = {name: slot.position.copy() for name, slot in self.slot.items()}
        self.rotation = {name: rotation_z(rng.uniform(-0.5, 0.5)) for name in self.slot}
        self.openness = dict.fromkeys(scene.containers, 0.0)
        self.fill = {name: 0.0 for name, thing in scene.things.items() if thing.inner}
        self.binned: set[str] = set()
        self.held: str | None = None
        self.taken_from: Slot | None = None
        self.grasp = (np.zeros(3), np.eye(3))
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
        """Where the hand is when it does nothing; in view, and nearer the middle when it carries."""
        return self.head + self.facing @ np.array((0.13, 0.50, -0.36) if self.held else (0.24, 0.42, -0.40))

    def camera_pose(self) -> np.ndarray:
        """Camera in the room (4, 4), optical axes; the head bobs as it walks."""
        forward = self.facing @ np.array([0, np.cos(self.pitch), np.sin(self.pitch)])
        right = self.facing[:, 0]
        bob = 0.012 * np.sin(9 * self.tick / self.fps) * min(1, 4 * self.speed)
        pose = np.eye(4)
        pose[:3, :3] = np.stack([right, np.cross(forward, right), forward], axis=1)
        pose[:3, 3] = self.head + (0, 0, bob)
        return pose

    def forearm(self) -> tuple[np.ndarray, np.ndarray]:
        """Wrist (3,) and rotation (3, 3) of the forearm, whose y axis points from elbow to wrist."""
        wrist = self.hand + self.hand_rotation @ (0, -0.09, 0)
        along = wrist - (self.head + self.facing @ np.array(ELBOW))
        along /= np.linalg.norm(along)
        side = np.cross(along, (0, 0, 1.0))
        side /= np.linalg.norm(side)
        return wrist, np.stack([side, along, np.cross(side, along)], axis=1)

    def angles_to(self, point, head=None) -> tuple[float, float]:
        """Yaw and pitch at which the eyes look at a point."""
        x, y, z = point - (self.head if head is None else head)
        return np.arctan2(-x, y), float(np.clip(np.arctan2(z, np.hypot(x, y)), -1.15, 0.15))

    # Things

    def shift(self, container: str | None) -> np.ndarray:
        """How far the contents of a container have moved with it, (3,)."""
        return self.scene.containers[container].shift(self.openness[container]) if container else np.zeros(3)

    def where(self, name: str) -> np.ndarray:
        """The foot of a thing now, (3,)."""
        slot = self.slot[name]
        return self.position[name] + self.shift(slot.inside if slot else None)

    def reachable(self, slot: Slot) -> bool:
        """Whether the hand can get at a slot now."""
        return not slot.distant and (slot.inside is None or self.openness[slot.inside] > OPEN)

    @property
    def running(self) -> bool:
        """Whether water runs from the tap."""
        return self.openness['tap'] > OPEN

    def advance(self, script: Iterator[None]):
        """Let one tick pass.

        Raises:
            StopIteration: the script is over.
        """
        self.tick += 1
        next(script)
        if self.held:  # what is held follows the hand
            offset, turn = self.grasp
            self.position[self.held] = self.hand + self.hand_rotation @ offset
            self.rotation[self.held] = self.hand_rotation @ turn

    def pick_up(self, name: str):
        """Fix a thing to the hand as it is now."""
        back, foot = self.hand_rotation.T, self.where(name)
        self.taken_from, self.slot[name] = self.slot[name], None
        self.taken_from.occupant = None
        self.grasp, self.held = (back @ (foot - self.hand), back @ self.rotation[name]), name

    def lay_down(self, slot: Slot):
        """Leave the thing in the hand upright in a slot."""
        name, self.held = self.held, None
        turn = self.rotation[name]
        self.position[name], self.rotation[name] = slot.position.copy(), rotation_z(np.arctan2(turn[1, 0], turn[0, 0]))
        self.slot[name], slot.occupant = slot, name

    def let_go(self) -> str:
        """Open the hand over the bin; returns what falls."""
        name, self.held = self.held, None
        self.binned.add(name)
        return name

    def place(self, name: str) -> str:
        """Where a thing is, in words."""
        if name == self.held:
            return 'in the hand'
        return self.slot[name].place if self.slot[name] else 'in the bin'

    # Labels

    def begin(self, verb: str, noun: str, *, instance: str, container: str = '', rest: str = ''):
        """The action starts with the tick that is being made."""
        words = f'{verb.replace("-", " ")} {spoken(noun)}{rest}'
        self.current = ActionLabel(
            self.tick / self.fps, None, verb, noun, VERBS[verb], NOUNS[noun], words, instance, container
        )

    def finish(self):
        """The action ended with the tick before the one that is being made."""
        self.labels.append(replace(self.current, stop_s=(self.tick - 1) / self.fps))
        self.current = None

    def snapshot(self) -> State:
        """What is the case now."""
        places = {name: self.place(name) for name in self.slot}
        return State(
            self.tick,
            self.tick / self.fps,
            self.camera_pose(),
            self.held,
            dict(self.openness),
            dict(self.fill),
            places,
            self.current,
            tuple(self.labels),
        )
