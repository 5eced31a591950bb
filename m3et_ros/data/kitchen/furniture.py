"""What stands fast: base units with drawers, sink and tap, hob and oven, wall cupboards, fridge, table, chairs, bin."""

import numpy as np

from m3et_ros.data.kitchen import textures
from m3et_ros.data.kitchen.parts import Container, Scene, Slot
from m3et_ros.data.kitchen.shapes import HIDDEN, body, box, capsule, chain, cylinder, hinge, slide
from m3et_ros.data.kitchen.vocabulary import COLOURS, OBJECTS

UNIT = .6
"""Width of a base unit in metres."""

TOP = .911
"""Height of the counter top in metres."""

IN_DRAWERS = ('spoon', 'knife', 'sponge')
IN_CUPBOARDS = ('cup', 'glass', 'bowl', 'jar', 'can', 'box', 'plate')
IN_THE_FRIDGE = ('milk', 'bottle', 'jar', 'egg', 'tomato', 'carrot', 'cucumber', 'apple', 'lemon', 'can')
ON_THE_HOB = ('pan', 'pot', 'kettle')
ON_THE_TABLE = tuple(noun for noun in OBJECTS if noun not in ('pan', 'board:chopping'))  # those two are too long

DARK, CHROME, LINING, TRAY = (.25, .25, .27), (.7, .72, .74), (.9, .92, .93), (.75, .7, .6)


def add_furniture(scene: Scene):
    """Furnish the room."""
    _paint(scene)
    left = -scene.size[0] / 2 + .05
    count = int((scene.size[0] - .85) // UNIT)
    sink, hob = scene.rng.permutation(count)[:2]
    for i in range(count):
        x = left + UNIT * (i + .5)
        scene.units.append(x)
        if i == sink:
            _sink(scene, x)
        elif i == hob:
            _hob(scene, i, x)
        else:
            _drawer_unit(scene, i, x)
    _fridge(scene)
    _table(scene)
    _bin(scene)
    _microwave(scene)


def _paint(scene: Scene):
    """Materials of fronts, tops, table, steel and fridge."""
    rng = scene.rng
    front = [.8 * level + .12 for level in COLOURS[scene.pick('white', 'grey', 'brown', 'green', 'blue', 'yellow')]]
    scene.material('front', textures.texture(rng, scene.pick('wood', 'plain'), front), repeat=1.5)
    stone = scene.pick((.85, .84, .8), (.3, .3, .32), (.62, .45, .28))
    scene.material('top', textures.texture(rng, scene.pick('marble', 'speckle', 'wood'), stone), repeat=1.2)
    timber = scene.pick((.65, .45, .25), (.45, .28, .15), (.8, .7, .55))
    scene.material('table', textures.texture(rng, 'wood', timber), repeat=1)
    scene.material('steel', textures.texture(rng, 'speckle', (.62, .64, .66)), repeat=2, specular=.6)
    enamel = COLOURS[scene.pick('white', 'grey', 'red', 'blue', 'black')]
    scene.material('fridge', textures.texture(rng, 'plain', enamel), repeat=1, specular=.3)


def _sink(scene: Scene, x: float):
    """A basin let into the counter, the tap above it and its lever."""
    back, front = scene.size[1] / 2, scene.front
    scene.add('sink_base', 'cupboard', box((x, back - .3, .34), (.3, .3, .34), 'front')
              + box((x, front + .012, .775), (.3, .012, .095), 'front')
              + box((x + .03, front - .012, .5), (.01, .01, .07), DARK))
    rim = (((0, .58), (.3, .05)), ((0, .06), (.3, .06)), ((-.25, .32), (.05, .21)), ((.25, .32), (.05, .21)))
    scene.add('sink_top', 'top', ''.join(box((x + dx, back - dy, .89), (*half, .02), 'top') for (dx, dy), half in rim))
    sides = (((0, .535), (.21, .006)), ((0, .115), (.21, .006)),
             ((-.205, .32), (.006, .21)), ((.205, .32), (.006, .21)))
    basin = box((x, back - .32, .70), (.21, .21, .01), 'steel') + cylinder((x, back - .32, .712), .025, .003, DARK)
    basin += ''.join(box((x + dx, back - dy, .80), (*half, .1), 'steel') for (dx, dy), half in sides)
    scene.add('sink', 'sink', basin)
    _tap(scene, x, back)
    scene.landmarks['sink'] = np.array([x, back - .30, .86])


def _tap(scene: Scene, x: float, back: float):
    """A spout with a lever on its right, and the water that runs when it is up."""
    bends = [(x, back - .08, .9), (x, back - .08, 1.16), (x, back - .27, 1.16), (x, back - .27, 1.12)]
    lever = body('lever', capsule((0, 0, 0), (.09, 0, .02), .010, CHROME), pos=(x + .02, back - .08, 1.02),
                 joint=hinge('tap', (0, 1, 0)))
    scene.add('tap', 'tap', chain(bends, .014, CHROME) + lever)
    scene.containers['tap'] = Container('tap', 'tap', -.9, np.array([x + .11, back - .08, 1.04]))
    scene.add('water', 'water', cylinder((x, back - .27, .915), .009, .205, (.6, .8, 1), opacity=HIDDEN, name='water'))


def _base(scene: Scene, i: int, x: float):
    """The carcass and the top of a base unit."""
    back = scene.size[1] / 2
    scene.add(f'base_{i}', 'cupboard', box((x, back - .3, .435), (.298, .29, .435), 'front'))
    scene.add(f'top_{i}', 'top', box((x, back - .315, .89), (.3, .315, .02), 'top'))


def _hob(scene: Scene, i: int, x: float):
    """Four plates over an oven."""
    back, front = scene.size[1] / 2, scene.front
    _base(scene, i, x)
    plates = ''.join(cylinder((x + dx, back - .32 + dy, .9205), .075, .001, (.25, .08, .06))
                     for dx in (-.13, .13) for dy in (-.11, .11))
    scene.add('hob', 'hob', box((x, back - .32, .915), (.27, .24, .005), (.05, .05, .06)) + plates)
    knobs = ''.join(cylinder((x + dx, front, .8), .018, .015, (.8, .8, .8), axis=1) for dx in (-.2, -.07, .07, .2))
    scene.add('oven', 'oven', box((x, front + .02, .42), (.29, .015, .30), (.12, .12, .13))
              + box((x, front + .003, .40), (.2, .006, .17), (.03, .03, .05))
              + box((x, front - .01, .66), (.22, .01, .01), 'steel') + knobs)
    scene.slots += [Slot(np.array([x + dx, back - .43, .922]), 'on the hob', ON_THE_HOB) for dx in (-.13, .13)]


def _drawer_unit(scene: Scene, i: int, x: float):
    """A drawer over a panel, spots on the top, and often a wall cupboard above."""
    back, front, name = scene.size[1] / 2, scene.front, f'drawer_{i}'
    _base(scene, i, x)
    tray = ''.join(box((dx, .24, -.03), (.006, .22, .05), TRAY) for dx in (-.25, .25))
    tray += box((0, .24, -.08), (.25, .22, .006), TRAY) + box((0, .455, -.03), (.25, .006, .05), TRAY)
    face = box((0, 0, 0), (.285, .012, .1), 'front') + box((0, .02 - .045, -.03), (.09, .012, .012), DARK)
    scene.add(name, 'drawer', face + tray, pos=(x, front + .005, .74), joint=slide(name, (0, -1, 0)))
    scene.containers[name] = Container('drawer', name, .34, np.array([x, front - .035, .71]), np.array([0, -1., 0]))
    scene.add(f'panel_{i}', 'cupboard', box((x, front + .005, .31), (.285, .012, .29), 'front')
              + box((x + .22, front - .012, .5), (.01, .01, .07), DARK))
    scene.slots += [Slot(np.array([x + dx, front + .25, .667]), 'in the drawer', IN_DRAWERS, name) for dx in (-.12, .1)]
    scene.slots += [Slot(np.array([x + dx, back - .44, TOP]), 'on the counter') for dx in (-.16, .14)]
    scene.slots.append(Slot(np.array([x, back - .17, TOP]), 'on the counter', distant=True))
    if scene.rng.random() < .75:
        _wall_cupboard(scene, f'cupboard_{i}', x)


def _wall_cupboard(scene: Scene, name: str, x: float):
    """A box on the wall with a door hinged left or right."""
    back, z, side = scene.size[1] / 2, 1.72, scene.pick(1, -1)
    shell = box((x, back - .01, z), (.295, .01, .33), 'front')
    shell += ''.join(box((x, back - .16, z + dz), (.295, .15, .01), 'front') for dz in (.32, -.32))
    shell += ''.join(box((x + dx, back - .16, z), (.01, .15, .33), 'front') for dx in (-.285, .285))
    scene.add(f'{name}_shell', 'cupboard', shell)
    pivot = np.array([x - side * .29, back - .315, z])
    door = box((side * .29, -.01, 0), (.285, .01, .325), 'front')
    door += box((side * .52, -.035, -.2), (.008, .012, .06), DARK)
    scene.add(name, 'cupboard', door, pos=pivot, joint=hinge(name))
    handle = np.array([x + side * .23, back - .36, z - .2])
    scene.containers[name] = Container('cupboard', name, -side * 1.75, handle, pivot=pivot, step_back=(0., -.22))
    scene.slots += [Slot(np.array([x + dx, back - .19, z - .309]), 'in the cupboard', IN_CUPBOARDS, name)
                    for dx in (-.14, .14)]


def _fridge(scene: Scene):
    """A tall fridge at the right end with four shelves."""
    back, x, z = scene.size[1] / 2, scene.size[0] / 2 - .38, .9
    shell = box((x, back - .02, z), (.33, .02, .9), 'fridge')
    shell += ''.join(box((x + dx, back - .33, z), (.02, .31, .9), 'fridge') for dx in (-.31, .31))
    shell += box((x, back - .33, 1.78), (.33, .31, .02), 'fridge')
    shell += box((x, back - .33, .06), (.33, .31, .06), 'fridge')
    shell += ''.join(box((x, back - .33, level), (.29, .28, .008), LINING) for level in (.5, .85, 1.2, 1.5))
    scene.add('fridge_shell', 'fridge', shell + box((x, back - .045, z), (.29, .005, .88), LINING))
    pivot = np.array([x + .33, back - .65, z])
    door = box((-.33, -.03, 0), (.33, .03, .89), 'fridge') + box((-.61, -.085, .1), (.012, .012, .22), DARK)
    scene.add('fridge', 'fridge', door, pos=pivot, joint=hinge('fridge'))
    handle = np.array([x - .28, back - .735, 1.0])
    scene.containers['fridge'] = Container('fridge', 'fridge', 1.75, handle, pivot=pivot, step_back=(-.15, -.32))
    scene.slots += [Slot(np.array([x + dx, back - .45, level + .009]), 'in the fridge', IN_THE_FRIDGE, 'fridge')
                    for dx in (-.13, .1) for level in (.85, 1.2)]


def _table(scene: Scene):
    """A table behind the person and up to three chairs on its far side."""
    rng = scene.rng
    x, y, half_x, half_y = rng.uniform(-.5, .3), -.62, rng.uniform(.6, .85), .42
    corners = [(a, b) for a in (-1, 1) for b in (-1, 1)]
    legs = ''.join(box((x + a * (half_x - .05), y + b * (half_y - .05), .35), (.03, .03, .35), 'table')
                   for a, b in corners)
    scene.add('table', 'table', box((x, y, .72), (half_x, half_y, .02), 'table') + legs)
    scene.landmarks['table'] = np.array([x, y, .74])
    scene.slots += [Slot(np.array([x + a * half_x, y + dy, .741]), 'on the table', ON_THE_TABLE)
                    for a in (-.75, -.35, .05, .45, .8) for dy in (.2, -.1)]
    for i in range(rng.integers(1, 4)):
        cx, cy = x + (i - 1) * .5, y - .75
        legs = ''.join(box((cx + a * .17, cy + b * .17, .22), (.018, .018, .22), 'table') for a, b in corners)
        seat = box((cx, cy, .45), (.2, .2, .02), 'table') + box((cx, cy - .19, .72), (.2, .015, .26), 'table')
        scene.add(f'chair_{i}', 'chair', seat + legs)


def _bin(scene: Scene):
    """An open bin on the floor at the left end."""
    spot = np.array([-scene.size[0] / 2 + .3, scene.front - .35, 0])
    profile = [(0, 0), (.12, 0), (.16, .5), (.14, .5), (.10, .03), (0, .03)]
    colour = scene.pick('grey', 'black', 'blue', 'green')
    scene.add('bin', 'bin', scene.turned(profile, COLOURS[colour]), pos=spot, colour=colour)
    scene.landmarks['bin'] = spot


def _microwave(scene: Scene):
    """A microwave at the back of the counter in most kitchens."""
    if scene.rng.random() > .7:
        return
    slot = scene.pick(*[slot for slot in scene.slots if slot.distant])
    slot.occupant = 'microwave'
    x, y, z = slot.position + (0, .02, .13)
    shell = box((x, y, z), (.23, .14, .13), (.75, .75, .76))
    knob = cylinder((x + .19, y - .145, z - .04), .02, .012, DARK, axis=1)
    knob += box((x - .04, y - .145, z), (.16, .006, .1), (.05, .05, .06))
    scene.add('microwave', 'microwave', shell + knob)
