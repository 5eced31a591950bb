"""The room: floor, walls, ceiling, window, picture."""

from m3et_ros.data.kitchen import textures
from m3et_ros.data.kitchen.parts import Scene
from m3et_ros.data.kitchen.shapes import box
from m3et_ros.data.kitchen.vocabulary import COLOURS


def add_room(scene: Scene):
    """Build the shell."""
    _paint(scene)
    wide, deep, high = scene.size[0] / 2, scene.size[1] / 2, scene.size[2]
    scene.add('floor', 'floor', box((0, 0, -.05), (wide, deep, .05), 'floor'))
    scene.add('ceiling', 'ceiling', box((0, 0, high + .05), (wide, deep, .05), COLOURS['white']))
    for name, sign in (('wall_north', 1), ('wall_south', -1)):
        scene.add(name, 'wall', box((0, sign * (deep + .05), high / 2), (wide, .05, high / 2), 'wall'))
    for name, sign in (('wall_east', 1), ('wall_west', -1)):
        scene.add(name, 'wall', box((sign * (wide + .05), 0, high / 2), (.05, deep, high / 2), 'wall'))
    _window(scene, -wide)
    _picture(scene, wide)


def _paint(scene: Scene):
    """Materials of floor and walls."""
    rng = scene.rng
    wood = rng.uniform(.35, .75)
    floor = textures.texture(rng, scene.pick('planks', 'tiles', 'checker'), (wood, .82 * wood, .65 * wood))
    scene.material('floor', floor, repeat=.7)
    colour = COLOURS[scene.pick('white', 'grey', 'yellow', 'pink', 'green', 'blue')]
    pale = [.55 * level + .42 for level in colour]
    pattern = scene.pick('plain', 'plain', 'tiles')
    scene.material('wall', textures.texture(rng, pattern, pale), repeat=1.5 if pattern == 'tiles' else .8)


def _window(scene: Scene, wall: float):
    """Four panes in a white frame on the left wall."""
    y, z, white = scene.rng.uniform(-.6, .3), 1.55, COLOURS['white']
    bars = ((.52, 0, .03, .47), (-.52, 0, .03, .47), (0, 0, .015, .47), (0, .44, .55, .03), (0, -.44, .55, .03))
    frame = ''.join(box((wall + .012, y + across, z + up), (.02, half_y, half_z), white)
                    for across, up, half_y, half_z in bars)
    scene.add('window', 'window', box((wall + .004, y, z), (.01, .5, .42), (.75, .88, 1)) + frame)


def _picture(scene: Scene, wall: float):
    """A print on the right wall."""
    art = scene.material('art', textures.label(scene.rng, scene.rng.random(3)))
    where = (wall - .01, scene.rng.uniform(-1, .2), 1.6)
    scene.add('picture', 'picture', box(where, (.012, .3, .22), art))
