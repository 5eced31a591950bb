"""Geometry as MJCF text: boxes, cylinders, capsules, ellipsoids and bodies of revolution. Lengths are in metres.

From a seed to a question: after sim/vocabulary.py, before sim/textures.py.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np


@dataclass(frozen=True)
class Coat:
    """A material shown brighter or darker: its texture is multiplied by a level of 0..1."""

    material: str
    level: float


Paint = str | Coat | Sequence[float] | np.ndarray
"""The name of a material, a coat of one, or R G B in 0..1."""

Triple = Sequence[float] | np.ndarray
"""x, y and z."""

HIDDEN = 0.0
"""Opacity of water and fillings until they appear."""

# Orientation (w x y z) that brings the local z axis to world x, y or z: a 2D texture lies in the local xy plane.
ORIENTATIONS = {0: (0.5, 0.5, 0.5, 0.5), 1: (0.5**0.5, 0.5**0.5, 0, 0), 2: (1, 0, 0, 0)}
# World axes whose half sizes become the local x, y and z half sizes under that orientation.
LOCAL_AXES = {0: (1, 2, 0), 1: (0, 2, 1), 2: (0, 1, 2)}


def numbers(values) -> str:
    """Format coordinates for MJCF, with five significant digits."""
    return ' '.join(f'{v:.5g}' for v in np.ravel(values))


def _surface(paint: Paint, opacity: float) -> str:
    """Format the MJCF attribute of a material or of a colour."""
    if isinstance(paint, Coat):
        return f'material="{paint.material}" rgba="{numbers([paint.level] * 3 + [opacity])}"'
    return f'material="{paint}"' if isinstance(paint, str) else f'rgba="{numbers([*paint, opacity])}"'


def _geom(kind: str, size, paint: Paint, *, opacity: float = 1.0, name: str = '', **attributes) -> str:
    """Format one geom; `attributes` are coordinates."""
    label = f' name="{name}"' if name else ''
    coordinates = ''.join(f' {key}="{numbers(value)}"' for key, value in attributes.items())
    return f'<geom type="{kind}" size="{numbers(size)}" {_surface(paint, opacity)}{label}{coordinates}/>'


def box(pos: Triple, half: Triple, paint: Paint) -> str:
    """Format a box from its centre and half sizes.

    Its thinnest axis carries the texture, which stands upright.
    """
    thin = int(np.argmin(half))
    size = [half[axis] for axis in LOCAL_AXES[thin]]
    return _geom('box', size, paint, pos=pos, quat=ORIENTATIONS[thin])


def cylinder(
    pos: Triple, radius: float, half: float, paint: Paint, *, axis: int = 2, opacity: float = 1.0, name: str = ''
) -> str:
    """Format a cylinder from its centre, radius and half height, along world x (0), y (1) or z (2)."""
    return _geom('cylinder', (radius, half), paint, pos=pos, quat=ORIENTATIONS[axis], opacity=opacity, name=name)


def capsule(start: Triple, end: Triple, radius: float, paint: Paint) -> str:
    """Format a rod with round ends."""
    return _geom('capsule', (radius,), paint, fromto=[*start, *end])


def chain(points: Sequence[Triple], radius: float, paint: Paint) -> str:
    """Format capsules from point to point."""
    return ''.join(capsule(a, b, radius, paint) for a, b in pairwise(points))


def ellipsoid(pos: Triple, half: Triple, paint: Paint) -> str:
    """Format an ellipsoid from its centre and half axes."""
    return _geom('ellipsoid', half, paint, pos=pos)


def mesh(name: str, paint: Paint, *, opacity: float = 1.0) -> str:
    """Format a geom that shows a mesh asset."""
    return f'<geom type="mesh" mesh="{name}" {_surface(paint, opacity)}/>'


def body(name: str, content: str, *, pos: Triple = (0, 0, 0), joint: str = '') -> str:
    """Format a named body around geoms and bodies."""
    return f'<body name="{name}" pos="{numbers(pos)}">{joint}{content}</body>'


def hinge(name: str, axis: Triple = (0, 0, 1)) -> str:
    """Format a joint that turns about an axis, in radians."""
    return f'<joint name="{name}" type="hinge" axis="{numbers(axis)}"/>'


def slide(name: str, axis: Triple) -> str:
    """Format a joint that slides along an axis, in metres."""
    return f'<joint name="{name}" type="slide" axis="{numbers(axis)}"/>'


def free(name: str) -> str:
    """Format a joint with all six degrees of freedom."""
    return f'<freejoint name="{name}"/>'


def revolve(profile: Iterable[tuple[float, float]], sides: int = 20) -> tuple[np.ndarray, np.ndarray]:
    """Turn a profile round the z axis.

    Args:
        profile: (radius, height) points; the material lies to the left of the profile.
        sides: flat faces round the axis.

    Returns:
        Vertices (V, 3) float and triangles (T, 3) int whose normals point out of the material.
    """
    angles = np.arange(sides) * 2 * np.pi / sides
    circle = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    vertices: list[list[float]] = []
    rings: list[np.ndarray] = []
    for radius, height in profile:
        points = circle * radius if radius > 1e-6 else np.zeros((1, 2))
        rings.append(len(vertices) + np.arange(sides) % len(points))
        vertices.extend([x, y, height] for x, y in points)
    triangles: list[tuple[int, int, int]] = []
    for low, high in pairwise(rings):
        for i in range(sides):
            j = (i + 1) % sides
            quad = [(low[i], low[j], high[j]), (low[i], high[j], high[i])]
            triangles.extend(t for t in quad if len(set(t)) == 3)
    return np.array(vertices), np.array(triangles)


def hollow(base: float, rim: float, height: float, wall: float) -> list[tuple[float, float]]:
    """Return the profile of an open vessel, from the middle of its base round to the middle of its floor.

    Walls thinner than a centimetre let specks of light through the shadow map where they are steep.
    """
    return [(0, 0), (base, 0), (rim, height), (rim - wall, height), (base - wall, wall), (0, wall)]
