"""Things that no question names: a splashback, a rug, pictures, a shelf of books, a lamp and a plant.

What hangs or stands free has no mask; the splashback counts as wall and the rug as floor.

From a seed to a question: after sim/objects.py, before sim/hand.py.
"""

import numpy as np

from m3et_ros.data.kitchen.sim import textures
from m3et_ros.data.kitchen.sim.parts import Scene
from m3et_ros.data.kitchen.sim.shapes import body, box, capsule, cylinder, ellipsoid

SPLASHBACKS = ('brick', 'stripes', 'marble', 'terrazzo', 'plain', 'stone')
"""Patterns of a splashback; never tiles, because green tiles on a wall are held out from training."""

RUGS = ('stripes', 'gingham', 'dots', 'plain', 'checker')


def add_decor(scene: Scene) -> None:
    """Add each of the things to a furnished scene, or leave it out."""
    wide, deep = scene.size[0] / 2, scene.size[1] / 2
    if scene.happens(0.4):
        _splashback(scene, wide, deep)
    if scene.happens(0.4):
        _rug(scene)
    for i in range(int(scene.rng.integers(0, 3))):
        art = scene.material(f'art_{i}', textures.label(scene.rng, scene.rng.random(3)))
        where = (scene.rng.uniform(-1.5, 1.2), 0.01 + 0.005 * i - deep, scene.rng.uniform(1.3, 1.8))
        half = (scene.rng.uniform(0.12, 0.35), 0.012, scene.rng.uniform(0.12, 0.3))
        scene.add(f'picture_{i}', 'picture', box(where, half, art))
    if scene.happens(0.4):
        _shelf(scene, wide)
    if scene.happens(0.4):
        _lamp(scene)
    if scene.happens(0.4):
        _plant(scene, wide, deep)


def _any_colour(scene: Scene) -> np.ndarray:
    """Draw a colour (3,), dull more often than bright."""
    grey = scene.rng.uniform(0.1, 0.9)
    return grey + scene.rng.uniform(0, 1) * (scene.rng.random(3) - grey)


def _splashback(scene: Scene, wide: float, deep: float) -> None:
    """Cover the wall between counter and cupboards."""
    image = textures.texture(scene.rng, scene.pick(*SPLASHBACKS), _any_colour(scene))
    paint = scene.material('splashback', image, repeat=scene.rng.uniform(1, 3), specular=scene.rng.uniform(0, 0.9))
    half = (wide - 0.38, 0.004, 0.235)
    scene.add('splashback', 'wall', box((-0.38, deep - 0.004, 1.145), half, paint))


def _rug(scene: Scene) -> None:
    """Lay a rug between counter and table."""
    image = textures.texture(scene.rng, scene.pick(*RUGS), _any_colour(scene))
    paint = scene.material('rug', image, repeat=scene.rng.uniform(1, 3), specular=0)
    where = (scene.rng.uniform(-0.8, 0.8), scene.front - scene.rng.uniform(0.4, 0.7), 0.004)
    scene.add('rug', 'floor', box(where, (scene.rng.uniform(0.4, 0.9), scene.rng.uniform(0.25, 0.4), 0.004), paint))


def _shelf(scene: Scene, wide: float) -> None:
    """Hang a shelf with books on the right wall."""
    y, z, content = scene.rng.uniform(-1.0, -0.5), scene.rng.uniform(1.2, 1.7), ''
    content += box((wide - 0.1, y, z), (0.1, 0.4, 0.012), 'table')
    along = -0.38
    while (thick := scene.rng.uniform(0.01, 0.03)) + along < 0.36:
        tall = scene.rng.uniform(0.08, 0.14)
        content += box((wide - 0.09, y + along + thick, z + 0.012 + tall), (0.07, thick, tall), _any_colour(scene))
        along += 2 * thick + scene.rng.choice([0.001, 0.1], p=[0.9, 0.1])
    scene.bodies.append(body('shelf', content))


def _lamp(scene: Scene) -> None:
    """Hang a shade over the table."""
    x, y, z = scene.landmarks['table'] + (0, scene.rng.uniform(-0.2, 0.1), scene.rng.uniform(0.95, 1.3))
    shade = cylinder((x, y, z), scene.rng.uniform(0.08, 0.2), scene.rng.uniform(0.05, 0.12), _any_colour(scene))
    scene.bodies.append(body('lamp', shade + capsule((x, y, z), (x, y, scene.size[2]), 0.006, (0.1, 0.1, 0.1))))


def _plant(scene: Scene, wide: float, deep: float) -> None:
    """Stand a plant in the left corner behind the table."""
    x, y = 0.35 - wide, 0.35 - deep
    content = cylinder((x, y, 0.15), 0.14, 0.15, _any_colour(scene))
    for _ in range(7):
        shift, half = scene.rng.uniform(-0.15, 0.15, 3), scene.rng.uniform(0.05, 0.17, 3)
        leaf = (0.1, scene.rng.uniform(0.25, 0.5), 0.12)
        content += ellipsoid(np.array((x, y, 0.6)) + shift * (1, 1, 1.8), half, leaf)
    scene.bodies.append(body('plant', content))
