"""The parts of a scene: the registries that the person, the planner and the questions read.

Axes of the room in metres: x to the right along the counter, y towards the counter wall, z up. The origin is the middle
of the floor.

From a seed to a question: after sim/tones.py, before sim/room.py.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np

from m3et_ros.data.kitchen.sim import shapes, textures
from m3et_ros.data.kitchen.sim.tones import Tone

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
    # More kinds of light, surface, shape and clutter; False for the kitchens of version 1.
    varied: bool = False
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
    # Material -> pattern and colour word of its paint: 'wall' and 'front'.
    paints: dict[str, tuple[str, str]] = field(default_factory=dict)
    # Attributes of the MJCF headlight.
    headlight: str = ''
    # The brightest lamp casts shadows.
    shadows: bool = True
    # The colour rendering of the camera, or None for colours as they are.
    tone: Tone | None = None

    @property
    def front(self) -> float:
        """Y of the front edge of the counter."""
        return self.size[1] / 2 - 0.62

    def pick(self, *options: T) -> T:
        """Draw one of the options."""
        return options[self.rng.integers(len(options))]

    def options(self, usual: Sequence[T], more: Sequence[T]) -> tuple[T, ...]:
        """Return the usual options, with more of them in a varied scene."""
        return (*usual, *more) if self.varied else tuple(usual)

    def between(self, low: float, high: float, *, usual: float) -> float:
        """Draw a measure of a varied scene; elsewhere it is the usual one, and nothing is drawn."""
        return float(self.rng.uniform(low, high)) if self.varied else usual

    def happens(self, odds: float) -> bool:
        """Draw whether a varied scene has a feature; others never have it, and nothing is drawn."""
        return self.varied and bool(self.rng.random() < odds)

    def face(self, material: str) -> shapes.Paint:
        """Return the paint of one face of furniture: a varied one has its own brightness."""
        return shapes.Coat(material, float(self.rng.uniform(0.72, 1.0))) if self.varied else material

    def glaze(self, colour: np.ndarray) -> shapes.Paint:
        """Return the paint of an object of a colour (3,): in a varied scene a shade of it, often glossy or patterned.

        Patterns change the brightness by a fifth at most, so that the word for the colour stays true.
        """
        kind = self.pick(*self.options(('even',), ('even', 'glossy', 'glossy', 'patterned')))
        if not self.varied:
            return colour
        shade = np.clip(colour * self.rng.uniform(0.85, 1.1) + self.rng.uniform(-0.025, 0.025, 3), 0.01, 1)
        name, gloss = f'glaze_{len(self.declarations)}', self.rng.uniform(0.3, 1, 2)
        if kind == 'even':
            return shade
        if kind == 'patterned':
            pattern = textures.BRIGHTNESS[self.pick('stripes', 'dots', 'gingham', 'speckle', 'marble')](self.rng)
            image = (255 * np.clip(shade * (0.6 + 0.4 * pattern[::2, ::2, None]), 0, 1)).astype(np.uint8)
            return self.material(name, image, specular=gloss[0], shininess=gloss[1])
        self.declarations.append(
            f'<material name="{name}" rgba="{shapes.numbers(shade)} 1" specular="{gloss[0]:.2f}" '
            f'shininess="{gloss[1]:.2f}"/>'
        )
        return name

    def material(
        self, name: str, image: np.ndarray, *, repeat: float = 0.0, specular: float = 0.15, shininess: float = 0.4
    ) -> str:
        """Declare a textured material and return its name.

        Args:
            name: name of the material, its texture and its PNG file.
            image: (H, W, 3) uint8.
            repeat: copies of the texture per metre; 0 for one copy per face.
            specular: reflectance in 0..1.
            shininess: sharpness of the reflections in 0..1.
        """
        self.assets[f'{name}.png'] = textures.png(image)
        gloss = f'{shininess:g}'.lstrip('0')
        tiling = f'texrepeat="{repeat:g} {repeat:g}" texuniform="true"' if repeat else ''
        self.declarations.append(
            f'<texture name="{name}" type="2d" file="{name}.png"/>'
            f'<material name="{name}" texture="{name}" {tiling} specular="{specular}" shininess="{gloss}"/>'
        )
        return name

    def revolved(self, profile: Iterable[tuple[float, float]], paint: shapes.Paint, *, opacity: float = 1.0) -> str:
        """Declare the mesh of a body of revolution and return its geom; see shapes.revolve."""
        vertices, faces = shapes.revolve(profile)
        name = f'turned_{len(self.declarations)}'
        wrap = ''
        if isinstance(paint, str):  # the texture runs half round and back, so that its ends meet
            around = np.abs(np.arctan2(vertices[:, 1], vertices[:, 0])) / np.pi
            wrap = f' texcoord="{shapes.numbers(np.stack([around, vertices[:, 2] / 0.2], axis=1))}"'
        corners = ' '.join(map(str, faces.ravel()))
        self.declarations.append(f'<mesh name="{name}" vertex="{shapes.numbers(vertices)}" face="{corners}"{wrap}/>')
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


def rotation_x(angle: float) -> np.ndarray:
    """Return the rotation (3, 3) about the x axis by an angle in radians."""
    cos, sin = np.cos(angle), np.sin(angle)
    return np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]])


def rotation_y(angle: float) -> np.ndarray:
    """Return the rotation (3, 3) about the y axis by an angle in radians."""
    cos, sin = np.cos(angle), np.sin(angle)
    return np.array([[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]])
