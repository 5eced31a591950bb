"""The fixtures: base units with drawers, sink and tap, hob and oven, wall cupboards, fridge, table, chairs and bin.

From a seed to a question: after sim/room.py, before sim/objects.py.
"""

import numpy as np

from m3et_ros.data.kitchen.sim import textures
from m3et_ros.data.kitchen.sim.parts import Container, Scene, Slot
from m3et_ros.data.kitchen.sim.shapes import HIDDEN, Paint, Triple, body, box, capsule, chain, cylinder, hinge, slide
from m3et_ros.data.kitchen.sim.vocabulary import COLOURS, OBJECTS

UNIT = 0.6
"""Width of a base unit in metres."""

TOP = 0.911
"""Height of the counter top in metres."""

IN_DRAWERS = ('spoon', 'knife', 'sponge')
IN_CUPBOARDS = ('cup', 'glass', 'bowl', 'jar', 'can', 'box', 'plate')
IN_THE_FRIDGE = ('milk', 'bottle', 'jar', 'egg', 'tomato', 'carrot', 'cucumber', 'apple', 'lemon', 'can')
ON_THE_HOB = ('pan', 'pot', 'kettle')
SMALL = ('cup', 'glass', 'bottle', 'jar', 'can', 'milk', 'apple', 'orange', 'lemon', 'tomato', 'onion', 'potato', 'egg')
ON_THE_TABLE = tuple(noun for noun in OBJECTS if noun not in ('pan', 'board:chopping'))  # both are too long

DARK, CHROME, LINING, TRAY = (0.25, 0.25, 0.27), (0.7, 0.72, 0.74), (0.9, 0.92, 0.93), (0.75, 0.7, 0.6)

STONES = ((0.85, 0.84, 0.8), (0.3, 0.3, 0.32), (0.62, 0.45, 0.28))
DARK_STONES = ((0.12, 0.12, 0.13), (0.55, 0.56, 0.58), (0.35, 0.42, 0.38), (0.72, 0.62, 0.5))
TIMBERS = ((0.65, 0.45, 0.25), (0.45, 0.28, 0.15), (0.8, 0.7, 0.55))
CLOTHS = ((0.9, 0.9, 0.88), (0.25, 0.16, 0.1), (0.55, 0.3, 0.28), (0.35, 0.45, 0.55), (0.15, 0.15, 0.16))


def add_furniture(scene: Scene) -> None:
    """Add the fixtures, the slots for objects and the containers to a room."""
    _paint(scene)
    left = -scene.size[0] / 2 + 0.05
    count = int((scene.size[0] - 0.85) // UNIT)
    sink, hob = scene.rng.permutation(count)[:2]
    for i in range(count):
        x = left + UNIT * (i + 0.5)
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
    if scene.varied:
        _back_row(scene)


def _back_row(scene: Scene) -> None:
    """Add slots for small objects along the wall, beside those of the units that hold no microwave."""
    rear = [slot for slot in scene.slots if slot.place == 'on the counter' and slot.distant and not slot.occupant]
    scene.slots += [
        Slot(slot.position + (dx, 0.03, 0), slot.place, SMALL, distant=True) for slot in rear for dx in (-0.2, 0.2)
    ]


def _paint(scene: Scene) -> None:
    """Declare the materials of fronts, tops, table, steel and fridge."""
    rng = scene.rng
    word = scene.pick('white', 'grey', 'brown', 'green', 'blue', 'yellow')
    front = [0.8 * level + 0.12 for level in COLOURS[word]]
    pattern = scene.pick(*scene.options(('wood', 'plain'), ('plain', 'stripes')))
    scene.paints['front'] = (pattern, word)
    gloss = scene.between(0.0, 0.9, usual=0.15)
    scene.material(
        'front', textures.texture(rng, pattern, front), repeat=scene.between(1, 3, usual=1.5), specular=gloss
    )
    stone = scene.pick(*scene.options(STONES, DARK_STONES))
    pattern = scene.pick(*scene.options(('marble', 'speckle', 'wood'), ('terrazzo', 'stone', 'tiles', 'plain')))
    gloss = scene.between(0.0, 1.0, usual=0.15)
    scene.material(
        'top', textures.texture(rng, pattern, stone), repeat=scene.between(0.7, 3, usual=1.2), specular=gloss
    )
    timber = scene.pick(*scene.options(TIMBERS, CLOTHS))
    pattern = scene.pick(*scene.options(('wood',), ('wood', 'planks', 'plain', 'gingham', 'stripes', 'marble', 'dots')))
    gloss = scene.between(0.0, 0.7, usual=0.15)
    scene.material(
        'table', textures.texture(rng, pattern, timber), repeat=scene.between(0.8, 2.5, usual=1), specular=gloss
    )
    scene.material('steel', textures.texture(rng, 'speckle', (0.62, 0.64, 0.66)), repeat=2, specular=0.6)
    enamel = COLOURS[
        scene.pick(*scene.options(('white', 'grey', 'red', 'blue', 'black'), ('yellow', 'green', 'brown')))
    ]
    gloss = scene.between(0.1, 1.0, usual=0.3)
    scene.material('fridge', textures.texture(rng, 'plain', enamel), repeat=1, specular=gloss)


def _handle(scene: Scene, half: Triple) -> tuple[Triple, Paint]:
    """Return the half sizes and the paint of a handle; a varied one is longer or shorter, and of any metal."""
    scaled = np.array(half) * np.where(np.array(half) > 0.012, scene.between(0.4, 1.3, usual=1.0), 1.0)
    return scaled, scene.pick(*scene.options((DARK,), (CHROME, (0.55, 0.42, 0.2), (0.1, 0.1, 0.1))))


def _sink(scene: Scene, x: float) -> None:
    """Add a basin in the counter, with the tap above it."""
    back, front = scene.size[1] / 2, scene.front
    scene.add(
        'sink_base',
        'cupboard',
        box((x, back - 0.3, 0.34), (0.3, 0.3, 0.34), scene.face('front'))
        + box((x, front + 0.012, 0.775), (0.3, 0.012, 0.095), scene.face('front'))
        + box((x + 0.03, front - 0.012, 0.5), *_handle(scene, (0.01, 0.01, 0.07))),
    )
    rim = (
        ((0, 0.58), (0.3, 0.05)),
        ((0, 0.06), (0.3, 0.06)),
        ((-0.25, 0.32), (0.05, 0.21)),
        ((0.25, 0.32), (0.05, 0.21)),
    )
    scene.add(
        'sink_top', 'top', ''.join(box((x + dx, back - dy, 0.89), (*half, 0.02), 'top') for (dx, dy), half in rim)
    )
    sides = (
        ((0, 0.535), (0.21, 0.006)),
        ((0, 0.115), (0.21, 0.006)),
        ((-0.205, 0.32), (0.006, 0.21)),
        ((0.205, 0.32), (0.006, 0.21)),
    )
    basin = box((x, back - 0.32, 0.70), (0.21, 0.21, 0.01), 'steel') + cylinder(
        (x, back - 0.32, 0.712), 0.025, 0.003, DARK
    )
    basin += ''.join(box((x + dx, back - dy, 0.80), (*half, 0.1), 'steel') for (dx, dy), half in sides)
    scene.add('sink', 'sink', basin)
    _tap(scene, x, back)
    scene.landmarks['sink'] = np.array([x, back - 0.30, 0.86])


def _tap(scene: Scene, x: float, back: float) -> None:
    """Add a spout with a lever on its right, and the water that runs while the lever is up."""
    bends = [(x, back - 0.08, 0.9), (x, back - 0.08, 1.16), (x, back - 0.27, 1.16), (x, back - 0.27, 1.12)]
    lever = body(
        'lever',
        capsule((0, 0, 0), (0.09, 0, 0.02), 0.010, CHROME),
        pos=(x + 0.02, back - 0.08, 1.02),
        joint=hinge('tap', (0, 1, 0)),
    )
    scene.add('tap', 'tap', chain(bends, 0.014, CHROME) + lever)
    scene.containers['tap'] = Container('tap', 'tap', -0.9, np.array([x + 0.11, back - 0.08, 1.04]))
    scene.add(
        'water', 'water', cylinder((x, back - 0.27, 0.915), 0.009, 0.205, (0.6, 0.8, 1), opacity=HIDDEN, name='water')
    )


def _base(scene: Scene, i: int, x: float) -> None:
    """Add the carcass and the top of a base unit."""
    back = scene.size[1] / 2
    scene.add(f'base_{i}', 'cupboard', box((x, back - 0.3, 0.435), (0.298, 0.29, 0.435), scene.face('front')))
    scene.add(f'top_{i}', 'top', box((x, back - 0.315, 0.89), (0.3, 0.315, 0.02), 'top'))


def _hob(scene: Scene, i: int, x: float) -> None:
    """Add four plates over an oven."""
    back, front = scene.size[1] / 2, scene.front
    _base(scene, i, x)
    plates = ''.join(
        cylinder((x + dx, back - 0.32 + dy, 0.9205), 0.075, 0.001, (0.25, 0.08, 0.06))
        for dx in (-0.13, 0.13)
        for dy in (-0.11, 0.11)
    )
    scene.add('hob', 'hob', box((x, back - 0.32, 0.915), (0.27, 0.24, 0.005), (0.05, 0.05, 0.06)) + plates)
    knobs = ''.join(
        cylinder((x + dx, front, 0.8), 0.018, 0.015, (0.8, 0.8, 0.8), axis=1) for dx in (-0.2, -0.07, 0.07, 0.2)
    )
    scene.add(
        'oven',
        'oven',
        box((x, front + 0.02, 0.42), (0.29, 0.015, 0.30), (0.12, 0.12, 0.13))
        + box((x, front + 0.003, 0.40), (0.2, 0.006, 0.17), (0.03, 0.03, 0.05))
        + box((x, front - 0.01, 0.66), (0.22, 0.01, 0.01), 'steel')
        + knobs,
    )
    scene.slots += [Slot(np.array([x + dx, back - 0.43, 0.922]), 'on the hob', ON_THE_HOB) for dx in (-0.13, 0.13)]


def _drawer_unit(scene: Scene, i: int, x: float) -> None:
    """Add a drawer over a panel, slots on the top and often a wall cupboard above."""
    back, front, name = scene.size[1] / 2, scene.front, f'drawer_{i}'
    _base(scene, i, x)
    tray = ''.join(box((dx, 0.24, -0.03), (0.006, 0.22, 0.05), TRAY) for dx in (-0.25, 0.25))
    tray += box((0, 0.24, -0.08), (0.25, 0.22, 0.006), TRAY) + box((0, 0.455, -0.03), (0.25, 0.006, 0.05), TRAY)
    face = box((0, 0, 0), (0.285, 0.012, 0.1), scene.face('front')) + box(
        (0, 0.02 - 0.045, -0.03), *_handle(scene, (0.09, 0.012, 0.012))
    )
    scene.add(name, 'drawer', face + tray, pos=(x, front + 0.005, 0.74), joint=slide(name, (0, -1, 0)))
    scene.containers[name] = Container('drawer', name, 0.34, np.array([x, front - 0.035, 0.71]), np.array([0, -1.0, 0]))
    scene.add(
        f'panel_{i}',
        'cupboard',
        box((x, front + 0.005, 0.31), (0.285, 0.012, 0.29), scene.face('front'))
        + box((x + 0.22, front - 0.012, 0.5), *_handle(scene, (0.01, 0.01, 0.07))),
    )
    scene.slots += [
        Slot(np.array([x + dx, front + 0.25, 0.667]), 'in the drawer', IN_DRAWERS, name) for dx in (-0.12, 0.1)
    ]
    scene.slots += [Slot(np.array([x + dx, back - 0.44, TOP]), 'on the counter') for dx in (-0.16, 0.14)]
    scene.slots.append(Slot(np.array([x, back - 0.17, TOP]), 'on the counter', distant=True))
    if scene.rng.random() < 0.75:
        _wall_cupboard(scene, f'cupboard_{i}', x)


def _wall_cupboard(scene: Scene, name: str, x: float) -> None:
    """Add a cupboard to the wall, with a door hinged left or right."""
    back, z, side = scene.size[1] / 2, 1.72, scene.pick(1, -1)
    shell = box((x, back - 0.01, z), (0.295, 0.01, 0.33), scene.face('front'))
    shell += ''.join(box((x, back - 0.16, z + dz), (0.295, 0.15, 0.01), scene.face('front')) for dz in (0.32, -0.32))
    shell += ''.join(box((x + dx, back - 0.16, z), (0.01, 0.15, 0.33), scene.face('front')) for dx in (-0.285, 0.285))
    scene.add(f'{name}_shell', 'cupboard', shell)
    pivot = np.array([x - side * 0.29, back - 0.315, z])
    door = box((side * 0.29, -0.01, 0), (0.285, 0.01, 0.325), scene.face('front'))
    door += box((side * 0.52, -0.035, -0.2), *_handle(scene, (0.008, 0.012, 0.06)))
    scene.add(name, 'cupboard', door, pos=pivot, joint=hinge(name))
    handle = np.array([x + side * 0.23, back - 0.36, z - 0.2])
    scene.containers[name] = Container('cupboard', name, -side * 1.75, handle, pivot=pivot, step_back=(0.0, -0.22))
    scene.slots += [
        Slot(np.array([x + dx, back - 0.19, z - 0.309]), 'in the cupboard', IN_CUPBOARDS, name) for dx in (-0.14, 0.14)
    ]


def _fridge(scene: Scene) -> None:
    """Add a tall fridge with four shelves at the right end."""
    back, x, z = scene.size[1] / 2, scene.size[0] / 2 - 0.38, 0.9
    shell = box((x, back - 0.02, z), (0.33, 0.02, 0.9), scene.face('fridge'))
    shell += ''.join(box((x + dx, back - 0.33, z), (0.02, 0.31, 0.9), scene.face('fridge')) for dx in (-0.31, 0.31))
    shell += box((x, back - 0.33, 1.78), (0.33, 0.31, 0.02), scene.face('fridge'))
    shell += box((x, back - 0.33, 0.06), (0.33, 0.31, 0.06), scene.face('fridge'))
    shell += ''.join(box((x, back - 0.33, level), (0.29, 0.28, 0.008), LINING) for level in (0.5, 0.85, 1.2, 1.5))
    scene.add('fridge_shell', 'fridge', shell + box((x, back - 0.045, z), (0.29, 0.005, 0.88), LINING))
    pivot = np.array([x + 0.33, back - 0.65, z])
    door = box((-0.33, -0.03, 0), (0.33, 0.03, 0.89), scene.face('fridge')) + box(
        (-0.61, -0.085, 0.1), *_handle(scene, (0.012, 0.012, 0.22))
    )
    scene.add('fridge', 'fridge', door, pos=pivot, joint=hinge('fridge'))
    handle = np.array([x - 0.28, back - 0.735, 1.0])
    scene.containers['fridge'] = Container('fridge', 'fridge', 1.75, handle, pivot=pivot, step_back=(-0.15, -0.32))
    scene.slots += [
        Slot(np.array([x + dx, back - 0.45, level + 0.009]), 'in the fridge', IN_THE_FRIDGE, 'fridge')
        for dx in (-0.13, 0.1)
        for level in (0.85, 1.2)
    ]


def _table(scene: Scene) -> None:
    """Add a table behind the person and one to three chairs on its far side."""
    rng = scene.rng
    x, y, half_x, half_y = rng.uniform(-0.5, 0.3), -0.62, rng.uniform(0.6, 0.85), scene.between(0.36, 0.46, usual=0.42)
    high, leg = scene.between(0.64, 0.82, usual=0.72), scene.between(0.018, 0.05, usual=0.03)
    corners = [(a, b) for a in (-1, 1) for b in (-1, 1)]
    legs = ''.join(
        box(
            (x + a * (half_x - 0.05), y + b * (half_y - 0.05), high / 2 - 0.01),
            (leg, leg, high / 2 - 0.01),
            scene.face('table'),
        )
        for a, b in corners
    )
    scene.add('table', 'table', box((x, y, high), (half_x, half_y, 0.02), 'table') + legs)
    scene.landmarks['table'] = np.array([x, y, high + 0.02])
    scene.slots += [
        Slot(np.array([x + a * half_x, y + dy, high + 0.021]), 'on the table', ON_THE_TABLE)
        for a in (-0.75, -0.35, 0.05, 0.45, 0.8)
        for dy in (0.2, -0.1)
    ]
    if scene.varied:
        scene.slots += [
            Slot(np.array([x + a * half_x, y - 0.29, high + 0.021]), 'on the table', SMALL, distant=True)
            for a in (-0.6, -0.2, 0.2, 0.6)
        ]
    for i in range(rng.integers(1, 4)):
        cx, cy = x + (i - 1) * 0.5, y - 0.75
        legs = ''.join(
            box((cx + a * 0.17, cy + b * 0.17, 0.22), (0.018, 0.018, 0.22), scene.face('table')) for a, b in corners
        )
        back = scene.between(0.1, 0.3, usual=0.26)
        seat = box((cx, cy, 0.45), (0.2, 0.2, 0.02), scene.face('table'))
        seat += box((cx, cy - 0.19, 0.46 + back), (0.2, 0.015, back), scene.face('table'))
        scene.add(f'chair_{i}', 'chair', seat + legs)


def _bin(scene: Scene) -> None:
    """Add an open bin to the floor at the left end."""
    spot = np.array([-scene.size[0] / 2 + 0.3, scene.front - 0.35, 0])
    high, foot = scene.between(0.35, 0.58, usual=0.5), scene.between(0.1, 0.15, usual=0.12)
    profile = [(0, 0), (foot, 0), (0.16, high), (0.14, high), (0.10, 0.03), (0, 0.03)]
    colour = scene.pick(*scene.options(('grey', 'black', 'blue', 'green'), ('red', 'white', 'yellow')))
    scene.add('bin', 'bin', scene.revolved(profile, scene.glaze(np.array(COLOURS[colour]))), pos=spot, colour=colour)
    scene.landmarks['bin'] = spot


def _microwave(scene: Scene) -> None:
    """Add a microwave to the back of the counter in most kitchens."""
    if scene.rng.random() > 0.7:
        return
    slot = scene.pick(*[slot for slot in scene.slots if slot.distant])
    slot.occupant = 'microwave'
    x, y, z = slot.position + (0, 0.02, 0.13)
    grey = scene.between(0.1, 0.95, usual=0.75)
    shell = box((x, y, z), (0.23, 0.14, 0.13), (grey, grey, grey + 0.01))
    knob = cylinder((x + 0.19, y - 0.145, z - 0.04), 0.02, 0.012, DARK, axis=1)
    knob += box((x - 0.04, y - 0.145, z), (0.16, 0.006, 0.1), (0.05, 0.05, 0.06))
    scene.add('microwave', 'microwave', shell + knob)
