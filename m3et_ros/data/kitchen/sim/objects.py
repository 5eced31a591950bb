"""Objects that the hand can pick up: one maker per noun. An object stands on z = 0 around the z axis.

From a seed to a question: after sim/furniture.py, before sim/decor.py.
"""

from collections.abc import Callable

import numpy as np

from m3et_ros.data.kitchen.sim import textures
from m3et_ros.data.kitchen.sim.parts import Scene, Slot, Thing
from m3et_ros.data.kitchen.sim.shapes import HIDDEN, box, capsule, chain, cylinder, ellipsoid, free, hollow
from m3et_ros.data.kitchen.sim.vocabulary import COLOURS

BLACK, WHITE, STEEL, STALK = COLOURS['black'], COLOURS['white'], (0.72, 0.73, 0.75), (0.2, 0.3, 0.1)

COLOURS_OF = {
    'milk': ('white',),
    'pan': ('black',),
    'apple': ('red', 'green', 'yellow'),
    'orange': ('orange',),
    'lemon': ('yellow',),
    'tomato': ('red',),
    'onion': ('brown', 'purple', 'white'),
    'potato': ('brown',),
    'egg': ('white', 'brown'),
    'banana': ('yellow',),
    'carrot': ('orange',),
    'cucumber': ('green',),
    'bread': ('brown',),
    'spoon': ('grey',),
    'knife': ('grey',),
    'sponge': ('yellow', 'green', 'blue', 'pink'),
    'board:chopping': ('brown',),
}
"""Noun -> its possible colour words; a noun that is not listed comes in every colour."""

# Half axes in metres of the round foods.
ROUND = {
    'apple': (0.038, 0.038, 0.036),
    'orange': (0.038, 0.038, 0.038),
    'lemon': (0.028, 0.036, 0.028),
    'tomato': (0.034, 0.034, 0.029),
    'onion': (0.035, 0.035, 0.031),
    'potato': (0.032, 0.045, 0.027),
    'egg': (0.022, 0.028, 0.022),
}

ALWAYS = ('cup', 'bottle', 'milk', 'bowl', 'spoon', 'knife', 'pan', 'plate', 'sponge', 'carrot')
OFTEN = (
    'cup',
    'glass',
    'bowl',
    'plate',
    'bottle',
    'jar',
    'can',
    'box',
    'pot',
    'kettle',
    'apple',
    'orange',
    'lemon',
    'tomato',
    'onion',
    'potato',
    'egg',
    'banana',
    'carrot',
    'cucumber',
    'bread',
    'board:chopping',
)
AGAIN = ('spoon', 'knife', 'cup', 'glass', 'milk')

Made = tuple[str, Thing]
"""Geoms and measures of one object."""


def add_objects(scene: Scene) -> None:
    """Draw objects and lay them into the slots of a furnished scene."""
    rng = scene.rng
    wanted = [
        *ALWAYS,
        *rng.choice(OFTEN, rng.integers(*((10, 38) if scene.varied else (16, 26)))),
        *rng.choice(AGAIN, 4),
    ]
    for noun in map(str, wanted):
        slot = _free_slot(scene, noun)
        if slot:
            slot.occupant = _add(scene, noun)


def _free_slot(scene: Scene, noun: str) -> Slot | None:
    """Draw a free slot: pans and pots go on the hob, other objects mostly to slots that are meant for them."""
    free_slots = [slot for slot in scene.slots if slot.takes(noun)]
    proper = [slot for slot in free_slots if slot.accepts]
    hob = [slot for slot in proper if slot.place == 'on the hob']
    if hob and noun in ('pan', 'pot'):
        return scene.pick(*hob)
    if proper and scene.rng.random() < 0.6:
        return scene.pick(*proper)
    return scene.pick(*free_slots) if free_slots else None


def _add(scene: Scene, noun: str) -> str:
    """Add one object with a body of its own and return its name."""
    name = f'{noun}_{len(scene.things)}'
    colour = scene.pick(*COLOURS_OF.get(noun, tuple(COLOURS)))
    geoms, thing = MAKERS[noun](scene, noun, np.array(COLOURS[colour]), scene.rng.uniform(0.9, 1.15))
    if thing.inner:
        geoms += cylinder(
            (0, 0, 0.012), thing.inner[0], 0.001, (0.8, 0.8, 0.85), opacity=HIDDEN, name=f'filling_{name}'
        )
    scene.things[name] = thing
    scene.add(name, noun, geoms, joint=free(name), colour=colour)
    return name


def _sizes(scene: Scene, k: float, wide: float = 1.25, tall: float = 1.25) -> tuple[float, float]:
    """Return the scales of width and height: a varied object is up to so much wider or taller than its scale k."""
    return k * scene.between(0.85, wide, usual=1.0), k * scene.between(0.75, tall, usual=1.0)


def _cup(scene, noun, colour, k) -> Made:
    wide, tall = _sizes(scene, k)
    handle = [
        (0, -0.04 * wide, 0.07 * tall),
        (0, -0.065 * wide, 0.06 * tall),
        (0, -0.065 * wide, 0.035 * tall),
        (0, -0.037 * wide, 0.02 * tall),
    ]
    base = scene.between(0.032, 0.04, usual=0.032)
    geoms = scene.revolved(hollow(base * wide, 0.04 * wide, 0.09 * tall, 0.008), scene.glaze(colour))
    geoms += chain(handle, scene.between(0.004, 0.007, usual=0.005), colour)
    return geoms, Thing(noun, 0.09 * tall, 0.04 * wide, 0.054 * tall, inner=(0.026 * wide, 0.065 * tall))


def _glass(scene, noun, colour, k) -> Made:
    wide, tall = _sizes(scene, k)
    clear = scene.between(0.3, 0.6, usual=0.45)
    geoms = scene.revolved(hollow(0.028 * wide, 0.036 * wide, 0.13 * tall, 0.003), 0.5 + 0.5 * colour, opacity=clear)
    return geoms, Thing(noun, 0.13 * tall, 0.035 * wide, 0.078 * tall, inner=(0.025 * wide, 0.09 * tall))


def _bowl(scene, noun, colour, k) -> Made:
    wide, tall = _sizes(scene, k)
    profile = [
        (0, 0),
        (0.035 * wide, 0),
        (0.062 * wide, 0.02 * tall),
        (0.078 * wide, 0.065 * tall),
        (0.068 * wide, 0.065 * tall),
        (0.052 * wide, 0.03 * tall),
        (0.03 * wide, 0.012),
        (0, 0.012),
    ]
    measures = Thing(noun, 0.065 * tall, 0.078 * wide, 0.05 * tall, inner=(0.052 * wide, 0.04 * tall))
    return scene.revolved(profile, scene.glaze(colour)), measures


def _plate(scene, noun, colour, k) -> Made:
    rim = scene.between(0.012, 0.032, usual=0.02)
    if scene.happens(0.2):
        half = 0.09 * k
        return box((0, 0, 0.008), (half, half, 0.008), scene.glaze(colour)), Thing(noun, 0.016, half, 0.02)
    profile = [(0, 0), (0.07, 0), (0.115 * k, rim), (0.112 * k, rim + 0.004), (0.068, 0.007), (0, 0.007)]
    return scene.revolved(profile, scene.glaze(colour)), Thing(noun, rim + 0.004, 0.115 * k, 0.02)


def _bottle(scene, noun, colour, k) -> Made:
    wide, tall = scene.between(0.8, 1.3, usual=1.0), k * scene.between(0.75, 1.15, usual=1.0)
    height, neck, shoulder = 0.26 * tall, scene.between(0.01, 0.02, usual=0.013), scene.between(0.1, 0.19, usual=0.15)
    profile = [
        (0, 0),
        (0.034 * wide, 0),
        (0.036 * wide, 0.01),
        (0.036 * wide, shoulder * tall),
        (neck, 0.21 * tall),
        (neck, height),
        (0, height),
    ]
    cap = WHITE if np.allclose(colour, BLACK) else BLACK
    label = BLACK if np.allclose(colour, WHITE) else WHITE
    geoms = scene.revolved(profile, scene.glaze(colour)) + cylinder((0, 0, height), neck + 0.002, 0.012, cap)
    if not scene.happens(0.4):
        geoms += cylinder((0, 0, 0.5 * shoulder * tall if scene.varied else 0.085), 0.0366 * wide, 0.03, label)
    return geoms, Thing(noun, height, 0.037 * wide, 0.1, mouth=(0, 0, height + 0.012))


def _jar(scene, noun, colour, k) -> Made:
    wide, tall = _sizes(scene, k)
    height, radius = 0.12 * tall, 0.04 * wide
    lid = scene.pick(*scene.options(('grey',), ('grey', 'white', 'black', 'brown')))
    geoms = cylinder((0, 0, height * 0.42), radius, height * 0.42, scene.glaze(colour))
    geoms += cylinder((0, 0, height * 0.9), 0.042 * wide, height * 0.08, COLOURS[lid])
    return geoms, Thing(noun, height, 0.042 * wide, 0.07 * tall)


def _can(scene, noun, colour, k) -> Made:
    wide, tall = _sizes(scene, k, tall=1.15)
    height = 0.11 * tall
    geoms = cylinder((0, 0, height / 2), 0.034 * wide, height / 2, scene.glaze(colour))
    geoms += cylinder((0, 0, height), 0.031 * wide, 0.002, (0.7, 0.7, 0.7))
    return geoms, Thing(noun, height, 0.034 * wide, 0.065 * tall)


def _box(scene, noun, colour, k) -> Made:
    wide, tall = _sizes(scene, k, tall=1.15)
    half = (0.075 * wide, 0.028 * k * scene.between(0.7, 1.8, usual=1.0), 0.11 * tall)
    printed = scene.material(f'label_{len(scene.things)}', textures.label(scene.rng, colour))
    return box((0, 0, half[2]), half, printed), Thing(noun, 2 * half[2], half[0], half[2])


def _milk(scene, noun, colour, k) -> Made:
    wide, half = scene.between(0.032, 0.045, usual=0.035), 0.1 * k * scene.between(0.75, 1.1, usual=1.0)
    band = scene.pick(*scene.options(('blue',), ('blue', 'green', 'red')))
    geoms = box((0, 0, half), (wide, wide, half), scene.glaze(colour))
    geoms += box((0, 0, 2 * half + 0.015), (0.5 * wide, 0.98 * wide, 0.018), colour)
    geoms += box((0, 0, 0.9 * half), (1.01 * wide, 1.01 * wide, 0.3 * half), COLOURS[band])
    return geoms, Thing(noun, 2 * half + 0.03, wide, half, mouth=(0, 0, 2 * half + 0.03))


def _pan(scene, noun, colour, k) -> Made:
    radius, height = 0.115 * k * scene.between(0.8, 1.1, usual=1.0), scene.between(0.04, 0.07, usual=0.05)
    length = scene.between(0.11, 0.19, usual=0.15)
    handle = capsule((0, -radius, height * 0.8), (0, -radius - length, height + 0.02), 0.011, (0.1, 0.1, 0.1))
    geoms = scene.revolved(hollow(0.92 * radius, radius, height, 0.012), scene.glaze(colour)) + handle
    return geoms, Thing(noun, height, radius, 0.04, inner=(0.8 * radius, 0.02))


def _pot(scene, noun, colour, k) -> Made:
    radius, height = 0.095 * k * scene.between(0.85, 1.15, usual=1.0), scene.between(0.105, 0.16, usual=0.12)
    ears = ''.join(
        chain(
            [
                (a * radius, -0.025, 0.1),
                (a * (radius + 0.025), -0.02, 0.1),
                (a * (radius + 0.025), 0.02, 0.1),
                (a * radius, 0.025, 0.1),
            ],
            0.006,
            colour,
        )
        for a in (-1, 1)
    )
    geoms = scene.revolved(hollow(0.92 * radius, radius, height, 0.012), scene.glaze(colour)) + ears
    return geoms, Thing(noun, height, radius, 0.09, inner=(0.8 * radius, 0.05))


def _kettle(scene, noun, colour, k) -> Made:
    height = 0.2 * k
    top = scene.between(0.045, 0.072, usual=0.055)
    profile = [(0, 0), (0.075, 0), (0.078, 0.03), (top, 0.9 * height), (0.02, height), (0, height)]
    geoms = scene.revolved(profile, scene.glaze(colour)) + capsule((-0.06, 0, 0.09), (-0.12, 0, 0.16), 0.012, colour)
    geoms += chain([(0.055, 0, 0.165), (0.11, 0, 0.15), (0.085, 0, 0.05)], 0.01, (0.1, 0.1, 0.1))
    return geoms, Thing(noun, height, 0.1, 0.1, mouth=(-0.13, 0, 0.17))


def _round(scene, noun, colour, k) -> Made:
    if noun in ('onion', 'potato', 'egg') and np.allclose(colour, COLOURS['brown']):
        colour = 0.6 * colour + 0.4 * np.array((0.85, 0.65, 0.4))
    half = k * np.array(ROUND[noun]) * [scene.between(0.88, 1.12, usual=1.0) for _ in range(3)]
    geoms = ellipsoid((0, 0, half[2]), half, scene.glaze(colour))
    if noun in ('apple', 'tomato', 'onion'):
        geoms += capsule((0, 0, 2 * half[2] - 0.003), (0, 0.004, 2 * half[2] + 0.012), 0.003, STALK)
    return geoms, Thing(noun, 2 * half[2], half[0], max(1.2 * half[2], 0.02))


def _banana(scene, noun, colour, k) -> Made:
    bend = [(0.08 * np.sin(t) - 0.05, 0.09 * np.cos(t), 0.017) for t in np.linspace(0.4, 2.6, 6)]
    tips = capsule(bend[-1], (bend[-1][0] - 0.02, bend[-1][1] - 0.012, 0.017), 0.006, COLOURS['brown'])
    return chain(bend, 0.015, colour) + tips, Thing(noun, 0.032, 0.035, 0.02)


def _carrot(scene, noun, colour, k) -> Made:
    green = capsule((0, 0.085, 0.018), (0, 0.11, 0.022), 0.006, COLOURS['green']) if noun == 'carrot' else ''
    radius, end = scene.between(0.013, 0.021, usual=0.017), scene.between(0.05, 0.075, usual=0.07)
    geoms = capsule((0, -end, radius), (0, 0.07, radius), radius, scene.glaze(colour)) + green
    return geoms, Thing(noun, 2 * radius, 0.02, 0.02)


def _bread(scene, noun, colour, k) -> Made:
    half = (scene.between(0.045, 0.065, usual=0.06), scene.between(0.09, 0.15, usual=0.11), 0.048)
    loaf = ellipsoid((0, 0, 0.046), half, scene.glaze(np.array((0.70, 0.48, 0.25))))
    return loaf, Thing(noun, 0.09, half[0], 0.054)


def _spoon(scene, noun, colour, k) -> Made:
    geoms = capsule((0, -0.09, 0.008), (0, 0.03, 0.008), 0.006, STEEL)
    geoms += ellipsoid((0, 0.055, 0.008), (0.018 * scene.between(0.7, 1.3, usual=1.0), 0.028, 0.006), STEEL)
    return geoms, Thing(noun, 0.015, 0.015, 0.02)


def _knife(scene, noun, colour, k) -> Made:
    blade, grip = scene.between(0.05, 0.09, usual=0.075), scene.pick(*scene.options((BLACK,), (COLOURS['brown'],)))
    geoms = capsule((0, -0.09, 0.009), (0, 0.02, 0.009), 0.009, grip)
    geoms += box((0, 0.02 + blade, 0.009), (0.012, blade, 0.002), STEEL)
    return geoms, Thing(noun, 0.018, 0.015, 0.02)


def _sponge(scene, noun, colour, k) -> Made:
    length = scene.between(0.04, 0.06, usual=0.05)
    return box((0, 0, 0.015), (0.035, length, 0.015), scene.glaze(colour)), Thing(noun, 0.03, 0.035, 0.02)


def _board(scene, noun, colour, k) -> Made:
    wood = 'table'
    if scene.varied:
        timber = scene.pick((0.55, 0.36, 0.2), (0.45, 0.28, 0.15), (0.6, 0.42, 0.24))
        wood = scene.material(f'board_{len(scene.things)}', textures.texture(scene.rng, 'wood', timber), repeat=2)
    half = (scene.between(0.1, 0.15, usual=0.14), scene.between(0.08, 0.12, usual=0.11), 0.01)
    return box((0, 0, 0.01), half, wood), Thing(noun, 0.02, 0.12, 0.02)


MAKERS: dict[str, Callable[..., Made]] = {
    'cup': _cup,
    'glass': _glass,
    'bowl': _bowl,
    'plate': _plate,
    'bottle': _bottle,
    'jar': _jar,
    'can': _can,
    'box': _box,
    'milk': _milk,
    'pan': _pan,
    'pot': _pot,
    'kettle': _kettle,
    'banana': _banana,
    'carrot': _carrot,
    'cucumber': _carrot,
    'bread': _bread,
    'spoon': _spoon,
    'knife': _knife,
    'sponge': _sponge,
    'board:chopping': _board,
    **dict.fromkeys(ROUND, _round),
}
"""Noun -> its maker: (scene, noun, R G B in 0..1, scale) -> geoms and measures."""
