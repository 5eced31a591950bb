"""The parts of a scene: the registries that the person, the planner and the questions read.

Axes of the room in metres: x to the right along the counter, y towards the counter wall, z up. The origin is the middle
of the floor.

From a seed to a question: after sim/textures.py, before sim/room.py.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np

from m3et_ros.data.kitchen.sim import shapes, textures

T = TypeVar('T')


@dataclass(frozen=True)
class Instance:
    """A part of the scene with a mask of its own."""

    # Noun key of vocabulary.NOUNS.
    noun: str
    # Colour word; None where several colours meet.
    colour: str | None = None


@dataclass(eq=False)
class Slot:
    """A spot where one object can lie."""

    # Position of the object's foot with the container shut, (3,) metres.
    position: np.ndarray
    # In words: 'on the counter'.
    place: str
    # Nouns that belong here; None for any.
    accepts: tuple[str, ...] | None = None
    # Container that must be open to reach it, or None.
    inside: str | None = None
    # Out of reach of the hand: used only to furnish the scene.
    distant: bool = False
    # Name of the object that lies here, or None.
    occupant: str | None = None

    def takes(self, noun: str) -> bool:
        """Return whether the slot is free for an object of this noun."""
        return self.occupant is None and (self.accepts is None or noun in self.accepts)


@dataclass(frozen=True)
class Container:
    """A part with a joint: a drawer slides, a door turns, a tap lever turns."""

    noun: str
    joint: str
    # Joint value when fully open (radians, or metres of a slide).
    travel: float
    # Position of the handle when shut, (3,) metres.
    handle: np.ndarray
    # Unit vector of a slide, or None.
    direction: np.ndarray | None = None
    # A point on the axis of a door, or None.
    pivot: np.ndarray | None = None
    # Position of the person relative to the usual spot in front of the handle, (2,) metres.
    step_back: tuple[float, float] = (0.0, -0.12)

    def shift(self, openness: float) -> np.ndarray:
        """Return the displacement (3,) of the contents in metres at an openness of 0..1."""
        return np.zeros(3) if self.direction is None else self.direction * self.travel * openness

    def handle_at(self, openness: float) -> np.ndarray:
        """Return the position (3,) of the handle in metres at an openness of 0..1."""
        if self.pivot is None:
            return self.handle + self.shift(openness)
        return self.pivot + rotation_z(self.travel * openness) @ (self.handle - self.pivot)


@dataclass(frozen=True)
class Thing:
    """Measures of an object that the hand can pick up; lengths in metres."""

    noun: str
    height: float
    # From the axis to where the fingers close.
    radius: float
    # Height at which the fingers close.
    grip: float
    # Opening for pouring when tipped to the left (-x), relative to the foot, or None.
    mouth: tuple[float, float, float] | None = None
    # Inner radius and depth of a vessel, or None.
    inner: tuple[float, float] | None = None


@dataclass
class Scene:
    """A kitchen: MJCF text and the registries that describe it."""

    rng: np.random.Generator
    # Width (x), depth (y), height (z) of the room in metres.
    size: tuple[float, float, float]
    instances: dict[str, Instance] = field(default_factory=dict)
    slots: list[Slot] = field(default_factory=list)
    containers: dict[str, Container] = field(default_factory=dict)
    things: dict[str, Thing] = field(default_factory=dict)
    # Named points to which the person goes: 'sink', 'bin', 'table', (3,) metres.
    landmarks: dict[str, np.ndarray] = field(default_factory=dict)
    # x of the middle of each base unit.
    units: list[float] = field(default_factory=list)
    assets: dict[str, bytes] = field(default_factory=dict)
    declarations: list[str] = field(default_factory=list)
    bodies: list[str] = field(default_factory=list)

    @property
    def front(self) -> float:
        """Y of the front edge of the counter."""
        return self.size[1] / 2 - 0.62

    def pick(self, *options: T) -> T:
        """Draw one of the options."""
        return options[self.rng.integers(len(options))]

    def material(self, name: str, image: np.ndarray, *, repeat: float = 0.0, specular: float = 0.15) -> str:
        """Declare a textured material and return its name.

        Args:
            name: name of the material, its texture and its PNG file.
            image: (H, W, 3) uint8.
            repeat: copies of the texture per metre; 0 for one copy per face.
            specular: reflectance in 0..1.
        """
        self.assets[f'{name}.png'] = textures.png(image)
        tiling = f'texrepeat="{repeat:g} {repeat:g}" texuniform="true"' if repeat else ''
        self.declarations.append(
            f'<texture name="{name}" type="2d" file="{name}.png"/>'
            f'<material name="{name}" texture="{name}" {tiling} specular="{specular}" shininess=".4"/>'
        )
        return name

    def revolved(self, profile: Iterable[tuple[float, float]], paint: shapes.Paint, *, opacity: float = 1.0) -> str:
        """Declare the mesh of a body of revolution and return its geom; see shapes.revolve."""
        vertices, faces = shapes.revolve(profile)
        name = f'turned_{len(self.declarations)}'
        self.declarations.append(
            f'<mesh name="{name}" vertex="{shapes.numbers(vertices)}" face="{" ".join(map(str, faces.ravel()))}"/>'
        )
        return shapes.mesh(name, paint, opacity=opacity)

    def add(
        self,
        name: str,
        noun: str,
        content: str,
        *,
        pos: shapes.Triple = (0, 0, 0),
        joint: str = '',
        colour: str | None = None,
    ) -> None:
        """Add a body that is an instance of its own."""
        self.instances[name] = Instance(noun, colour)
        self.bodies.append(shapes.body(name, content, pos=pos, joint=joint))


def rotation_z(angle: float) -> np.ndarray:
    """Return the rotation (3, 3) about the z axis by an angle in radians."""
    cos, sin = np.cos(angle), np.sin(angle)
    return np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])


def rotation_y(angle: float) -> np.ndarray:
    """Return the rotation (3, 3) about the y axis by an angle in radians."""
    cos, sin = np.cos(angle), np.sin(angle)
    return np.array([[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]])
