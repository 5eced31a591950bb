"""The room: floor, walls, ceiling, window and picture.

From a seed to a question: after sim/parts.py, before sim/furniture.py.
"""

from m3et_ros.data.kitchen.sim import textures
from m3et_ros.data.kitchen.sim.parts import Scene
from m3et_ros.data.kitchen.sim.shapes import box
from m3et_ros.data.kitchen.sim.vocabulary import COLOURS

FLOORS = ('planks', 'tiles', 'checker')
WALLS = ('white', 'grey', 'yellow', 'pink', 'green', 'blue')


def add_room(scene: Scene) -> None:
    """Add the shell of the room to a scene."""
    _paint(scene)
    wide, deep, high = scene.size[0] / 2, scene.size[1] / 2, scene.size[2]
    scene.add('floor', 'floor', box((0, 0, -0.05), (wide, deep, 0.05), 'floor'))
    scene.add('ceiling', 'ceiling', box((0, 0, high + 0.05), (wide, deep, 0.05), COLOURS['white']))
    for name, sign in (('wall_north', 1), ('wall_south', -1)):
        scene.add(name, 'wall', box((0, sign * (deep + 0.05), high / 2), (wide, 0.05, high / 2), scene.face('wall')))
    for name, sign in (('wall_east', 1), ('wall_west', -1)):
        scene.add(name, 'wall', box((sign * (wide + 0.05), 0, high / 2), (0.05, deep, high / 2), scene.face('wall')))
    _window(scene, -wide)
    art = scene.material('art', textures.label(scene.rng, scene.rng.random(3)))
    where = (wide - 0.01, scene.rng.uniform(-1, 0.2), 1.6)
    scene.add('picture', 'picture', box(where, (0.012, 0.3, 0.22), art))


def _paint(scene: Scene) -> None:
    """Declare the materials of floor and walls."""
    rng = scene.rng
    wood = rng.uniform(*((0.15, 0.95) if scene.varied else (0.35, 0.75)))
    warm = scene.between(0.0, 1.2, usual=1.0)
    pattern = scene.pick(
        *scene.options(FLOORS, ('planks', 'gingham', 'terrazzo', 'stone', 'marble', 'brick', 'speckle'))
    )
    ground = (wood, (1 - 0.18 * warm) * wood, (1 - 0.35 * warm) * wood)
    gloss = scene.between(0.0, 0.8, usual=0.15)
    floor = textures.texture(rng, pattern, ground)
    scene.material('floor', floor, repeat=scene.between(0.4, 1.4, usual=0.7), specular=gloss)
    word = scene.pick(*WALLS)
    scale, offset = scene.pick(*scene.options(((0.55, 0.42),), ((0.7, 0.2), (0.8, 0.05))))
    pale = [scale * level + offset for level in COLOURS[word]]
    pattern = scene.pick(*scene.options(('plain', 'plain', 'tiles'), ('plain', 'brick', 'stripes', 'dots', 'stone')))
    scene.paints['wall'] = (pattern, word)
    repeat = scene.between(0.7, 1.8, usual=1.5 if pattern == 'tiles' else 0.8)
    scene.material('wall', textures.texture(rng, pattern, pale), repeat=repeat)


def _window(scene: Scene, wall: float) -> None:
    """Add four panes in a white frame to the left wall, whose x is `wall`."""
    y, z, white = scene.rng.uniform(-0.6, 0.3), 1.55, COLOURS['white']
    bars = (
        (0.52, 0, 0.03, 0.47),
        (-0.52, 0, 0.03, 0.47),
        (0, 0, 0.015, 0.47),
        (0, 0.44, 0.55, 0.03),
        (0, -0.44, 0.55, 0.03),
    )
    frame = ''.join(
        box((wall + 0.012, y + across, z + up), (0.02, half_y, half_z), white) for across, up, half_y, half_z in bars
    )
    scene.add('window', 'window', box((wall + 0.004, y, z), (0.01, 0.5, 0.42), (0.75, 0.88, 1)) + frame)
