"""The mount of the camera on the head, and the cameras that a kitchen can be rendered with.

Test kitchens can also be rendered with a camera unlike any of training, to measure how much a model depends on it.

From a seed to a question: after sim/scene.py, before sim/world.py.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from m3et_ros.data.kitchen.sim.parts import rotation_x, rotation_z

CameraKind = Literal['own', 'other']
"""'own': a camera as training draws them; 'other': one outside the ranges of training."""

OWN = {
    'fovy': (40.0, 100.0),
    'aspect': (1.0, 2.0),
    'pitch': (-20.0, 20.0),
    'roll': (-10.0, 10.0),
    'height': (-0.3, 0.3),
}
"""Ranges of a training camera: vertical field of view in degrees, width over height, and the mount; see Mount."""

OTHER = {
    'fovy': ((30.0, 38.0), (104.0, 116.0)),
    'aspect': ((0.7, 0.92), (2.1, 2.5)),
    'pitch': ((-30.0, -22.0), (22.0, 30.0)),
    'roll': ((-15.0, -11.0), (11.0, 15.0)),
    'height': ((-0.45, -0.33), (0.33, 0.45)),
}
"""Ranges below and above those of OWN."""

WIDEST = 140.0
"""Widest horizontal field of view in degrees; a flat picture of a wider one is mostly stretched rim."""


@dataclass(frozen=True)
class Mount:
    """The camera relative to the eyes: turned up, then rolled clockwise, in degrees, and raised, in metres."""

    pitch: float = 0.0
    roll: float = 0.0
    height: float = 0.0

    @property
    def rotation(self) -> np.ndarray:
        """Rotation (3, 3) from the camera's optical axes to those of a camera that looks along the eyes."""
        return rotation_x(np.radians(self.pitch)) @ rotation_z(np.radians(self.roll))


STRAIGHT = Mount()
"""The camera sits between the eyes and looks where they look."""


@dataclass(frozen=True)
class Lens:
    """A camera of a kitchen: vertical field of view in degrees, width over height of the picture, and the mount."""

    fovy: float
    aspect: float
    mount: Mount

    @property
    def fovx(self) -> float:
        """Horizontal field of view in degrees."""
        return float(2 * np.degrees(np.arctan(self.aspect * np.tan(np.radians(self.fovy) / 2))))


def draw_lens(rng: np.random.Generator, camera: CameraKind) -> Lens:
    """Draw a camera; an 'other' one lies outside the ranges of OWN in two or three of its five measures."""
    while True:
        drawn = {name: float(rng.uniform(*limits)) for name, limits in OWN.items()}
        if camera == 'other':
            for name in map(str, rng.choice(list(OTHER), rng.integers(2, 4), replace=False)):
                drawn[name] = float(rng.uniform(*OTHER[name][rng.integers(2)]))
        lens = Lens(drawn.pop('fovy'), drawn.pop('aspect'), Mount(**drawn))
        if lens.fovx <= WIDEST:
            return lens
