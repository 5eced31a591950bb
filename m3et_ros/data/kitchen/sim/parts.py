"""What a scene is made of: the registries that the person, the planner and the questions read.

Axes of the room in metres: x to the right along the counter, y towards the counter wall, z up; the origin is the middle
of the floor.
"""

from dataclasses import dataclass, field

import numpy as np

from m3et_ros.data.kitchen.sim import shapes, textures


@dataclass(frozen=True)
class Instance:
    """One thing that has a mask of its own."""

    # Noun key of vocabulary.NOUNS.
    noun: str
    # Colour word, or None where several colours meet.
    colour: str | None = None


@dataclass(eq=False)
class Slot:
    """A spot where one thing can lie."""

    # Where the foot of the thing comes, (3,) metres, with the container shut.
    position: np.ndarray
    # In words: 'on the counter'.
    place: str
    # Nouns that belong here, or None for any.
    accepts: tuple[str, ...] | None = None
    # Container that must be open to reach it, or None.
    inside: str | None = None
    # Out of reach of the hand: used to set the scene only.
    distant: bool = False
    # Name of the thing that lies here, or None.
    occupant: str | None = None

    def takes(self, noun: str) -> bool:
        """Whether a thing of this noun may be laid here now."""
        return self.occupant is None and (self.accepts is None or noun in self.accepts)


@dataclass(frozen=True)
class Container:
    """Something with a joint: a drawer slides, a door turns, a tap lever turns."""

    noun: str
    joint: str
    # Joint value when fully open (radians, or metres of a slide).
    travel: float
    # Where the hand takes hold when shut, (3,) metres.
    handle: np.ndarray
    # Unit vector of a slide, or None.
    direction: np.ndarray | None = None
    # A point on the axis of a door, or None.
    pivot: np.ndarray | None = None
    # Where the person stands relative to the usual spot in front of the handle, (2,) metres.
    step_back: tuple[float, float] = (0.0, -0.12)

    def shift(self, openness: float) -> np.ndarray:
        """How far the contents have moved, (3,) metres."""
        return np.zeros(3) if self.direction is None else self.direction * self.travel * openness

    def handle_at(self, openness: float) -> np.ndarray:
        """Where the handle is when so far open (0..1), (3,) metres."""
        if self.pivot is None:
            return self.handle + self.shift(openness)
        return self.pivot + rotation_z(self.travel * openness) @ (self.handle - self.pivot)


@dataclass(frozen=True)
class Thing:
    """What can be picked up; lengths in metres."""

    noun: str
    height: float
    # From the axis to where the fingers close.
    radius: float
    # Height at which the fingers close.
    grip: float
    # The opening it pours from when tipped to the left (-x), seen from its foot, or None.
    mouth: tuple[float, float, float] | None = None
    # Inner radius and depth of a vessel, or None.
    inner: tuple[float, float] | None = None


@dataclass
class Scene:
    """A kitchen: MJCF text and the registries that say what is in it."""

    rng: np.random.Generator
    # Width (x), depth (y), height (z) of the room.
    size: tuple[float, float, float]
    instances: dict[str, Instance] = field(default_factory=dict)
    slots: list[Slot] = field(default_factory=list)
    containers: dict[str, Container] = field(default_factory=dict)
    things: dict[str, Thing] = field(default_factory=dict)
    # Points the person knows: 'sink', 'bin', 'table', (3,) metres.
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

    def pick(self, *options):
        """One of the options."""
        return options[self.rng.integers(len(options))]

    def material(self, name: str, image: np.ndarray, *, repeat: float = 0.0, specular: float = 0.15) -> str:
        """Declare a textured material: `repeat` copies per metre, or one copy per face where 0."""
        self.assets[f'{name}.png'] = textures.png(image)
        tiling = f'texrepeat="{repeat:g} {repeat:g}" texuniform="true"' if repeat else ''
        self.declarations.append(
            f'<texture name="{name}" type="2d" file="{name}.png"/>'
            f'<material name="{name}" texture="{name}" {tiling} specular="{specular}" shininess=".4"/>'
        )
        return name

    def turned(self, profile, paint: shapes.Paint, *, opacity: float = 1.0) -> str:
        """A body of revolution as a geom; see shapes.revolve."""
        vertices, faces = shapes.revolve(profile)
        name = f'turned_{len(self.declarations)}'
        self.declarations.append(
            f'<mesh name="{name}" vertex="{shapes.numbers(vertices)}" face="{" ".join(map(str, faces.ravel()))}"/>'
        )
        return shapes.mesh(name, paint, opacity=opacity)

    def add(self, name: str, noun: str, content: str, *, pos=(0, 0, 0), joint: str = '', colour: str | None = None):
        """Add a body that is an instance of its own."""
        self.instances[name] = Instance(noun, colour)
        self.bodies.append(shapes.body(name, content, pos=pos, joint=joint))


def rotation_z(angle: float) -> np.ndarray:
    """Rotation (3, 3) about the z axis."""
    cos, sin = np.cos(angle), np.sin(angle)
    return np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])


def rotation_y(angle: float) -> np.ndarray:
    """Rotation (3, 3) about the y axis."""
    cos, sin = np.cos(angle), np.sin(angle)
    return np.array([[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]])
