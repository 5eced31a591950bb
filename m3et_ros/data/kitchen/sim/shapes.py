"""Geometry as MJCF text: boxes, cylinders, capsules, ellipsoids and turned bodies. Lengths in metres."""

from collections.abc import Sequence

import numpy as np

Paint = str | Sequence[float] | np.ndarray
"""The name of a material, or R G B in 0..1."""

HIDDEN = 0.0
"""Opacity of what is not to be seen yet (water, a filling)."""

# Orientation (w x y z) that brings the local z axis to world x, y or z: a 2D texture lies in the local xy plane.
LIES_ALONG = {0: (0.5, 0.5, 0.5, 0.5), 1: (0.5**0.5, 0.5**0.5, 0, 0), 2: (1, 0, 0, 0)}
# Which half size of the world becomes the local x, y and z half size under that orientation.
LOCAL_AXES = {0: (1, 2, 0), 1: (0, 2, 1), 2: (0, 1, 2)}


def numbers(values) -> str:
    """Coordinates as MJCF wants them."""
    return ' '.join(f'{v:.5g}' for v in np.ravel(values))


def _geom(kind: str, size, paint: Paint, *, opacity: float = 1.0, name: str = '', **attributes) -> str:
    """One geom; attributes are coordinates."""
    look = f'material="{paint}"' if isinstance(paint, str) else f'rgba="{numbers([*paint, opacity])}"'
    label = f' name="{name}"' if name else ''
    placed = ''.join(f' {key}="{numbers(value)}"' for key, value in attributes.items())
    return f'<geom type="{kind}" size="{numbers(size)}" {look}{label}{placed}/>'


def box(pos, half, paint: Paint) -> str:
    """A box by centre and half sizes; a texture faces the way the box is thinnest and stands upright."""
    thin = int(np.argmin(half))
    size = [half[axis] for axis in LOCAL_AXES[thin]]
    return _geom('box', size, paint, pos=pos, quat=LIES_ALONG[thin])


def cylinder(
    pos, radius: float, half: float, paint: Paint, *, axis: int = 2, opacity: float = 1.0, name: str = ''
) -> str:
    """A cylinder by centre, radius and half height, along world x, y or z."""
    return _geom('cylinder', (radius, half), paint, pos=pos, quat=LIES_ALONG[axis], opacity=opacity, name=name)


def capsule(start, end, radius: float, paint: Paint) -> str:
    """A rod with round ends."""
    return _geom('capsule', (radius,), paint, fromto=[*start, *end])


def chain(points, radius: float, paint: Paint) -> str:
    """Capsules from point to point."""
    return ''.join(capsule(a, b, radius, paint) for a, b in zip(points, points[1:]))


def ellipsoid(pos, half, paint: Paint) -> str:
    """An ellipsoid by centre and half axes."""
    return _geom('ellipsoid', half, paint, pos=pos)


def mesh(name: str, paint: Paint, *, opacity: float = 1.0) -> str:
    """A geom that shows a mesh asset."""
    look = f'material="{paint}"' if isinstance(paint, str) else f'rgba="{numbers([*paint, opacity])}"'
    return f'<geom type="mesh" mesh="{name}" {look}/>'


def body(name: str, content: str, *, pos=(0, 0, 0), joint: str = '') -> str:
    """A named body around geoms and bodies."""
    return f'<body name="{name}" pos="{numbers(pos)}">{joint}{content}</body>'


def hinge(name: str, axis=(0, 0, 1)) -> str:
    """A joint that turns, in radians."""
    return f'<joint name="{name}" type="hinge" axis="{numbers(axis)}"/>'


def slide(name: str, axis) -> str:
    """A joint that slides, in metres."""
    return f'<joint name="{name}" type="slide" axis="{numbers(axis)}"/>'


def free(name: str) -> str:
    """A joint that leaves all six degrees of freedom."""
    return f'<freejoint name="{name}"/>'


def revolve(profile, sides: int = 20) -> tuple[np.ndarray, np.ndarray]:
    """Turn a profile of (radius, height) points round the z axis.

    Returns vertices (V, 3) float and triangles (T, 3) int whose normals point away from the material, which lies to
    the left of the profile as it is walked.
    """
    angles = np.arange(sides) * 2 * np.pi / sides
    circle = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    vertices, rings = [], []
    for radius, height in profile:
        points = circle * radius if radius > 1e-6 else np.zeros((1, 2))
        rings.append(len(vertices) + np.arange(sides) % len(points))
        vertices.extend([x, y, height] for x, y in points)
    triangles = []
    for low, high in zip(rings, rings[1:]):
        for i in range(sides):
            j = (i + 1) % sides
            quad = [(low[i], low[j], high[j]), (low[i], high[j], high[i])]
            triangles.extend(t for t in quad if len(set(t)) == 3)
    return np.array(vertices), np.array(triangles)


def hollow(base: float, rim: float, height: float, wall: float) -> list[tuple[float, float]]:
    """The profile of an open vessel, from the middle of its base round to the middle of its floor.

    Walls thinner than a centimetre let specks of light through the shadow map where they are steep.
    """
    return [(0, 0), (base, 0), (rim, height), (rim - wall, height), (base - wall, wall), (0, wall)]
