"""Objects that the hand can pick up: one maker per noun. An object stands on z = 0 around the z axis.

From a seed to a question: after sim/furniture.py, before sim/hand.py.
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
    wanted = [*ALWAYS, *rng.choice(OFTEN, rng.integers(16, 26)), *rng.choice(AGAIN, 4)]
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


def _cup(scene, noun, colour, k) -> Made:
    handle = [
        (0, -0.04 * k, 0.07 * k),
        (0, -0.065 * k, 0.06 * k),
        (0, -0.065 * k, 0.035 * k),
        (0, -0.037 * k, 0.02 * k),
    ]
    geoms = scene.revolved(hollow(0.032 * k, 0.04 * k, 0.09 * k, 0.008), colour) + chain(handle, 0.005, colour)
    return geoms, Thing(noun, 0.09 * k, 0.04 * k, 0.054 * k, inner=(0.026 * k, 0.065 * k))


def _glass(scene, noun, colour, k) -> Made:
    geoms = scene.revolved(hollow(0.028 * k, 0.036 * k, 0.13 * k, 0.003), 0.5 + 0.5 * colour, opacity=0.45)
    return geoms, Thing(noun, 0.13 * k, 0.035 * k, 0.078 * k, inner=(0.025 * k, 0.09 * k))


def _bowl(scene, noun, colour, k) -> Made:
    profile = [
        (0, 0),
        (0.035 * k, 0),
        (0.062 * k, 0.02 * k),
        (0.078 * k, 0.065 * k),
        (0.068 * k, 0.065 * k),
        (0.052 * k, 0.03 * k),
        (0.03 * k, 0.012),
        (0, 0.012),
    ]
    return scene.revolved(profile, colour), Thing(noun, 0.065 * k, 0.078 * k, 0.05 * k, inner=(0.052 * k, 0.04 * k))


def _plate(scene, noun, colour, k) -> Made:
    profile = [(0, 0), (0.07, 0), (0.115 * k, 0.02), (0.112 * k, 0.024), (0.068, 0.007), (0, 0.007)]
    return scene.revolved(profile, colour), Thing(noun, 0.024, 0.115 * k, 0.02)


def _bottle(scene, noun, colour, k) -> Made:
    height = 0.26 * k
    profile = [(0, 0), (0.034, 0), (0.036, 0.01), (0.036, 0.15 * k), (0.013, 0.21 * k), (0.013, height), (0, height)]
    cap = WHITE if np.allclose(colour, BLACK) else BLACK
    label = BLACK if np.allclose(colour, WHITE) else WHITE
    geoms = scene.revolved(profile, colour) + cylinder((0, 0, height), 0.015, 0.012, cap)
    geoms += cylinder((0, 0, 0.085), 0.0366, 0.03, label)
    return geoms, Thing(noun, height, 0.037, 0.1, mouth=(0, 0, height + 0.012))


def _jar(scene, noun, colour, k) -> Made:
    height = 0.12 * k
    geoms = cylinder((0, 0, height * 0.42), 0.04 * k, height * 0.42, colour)
    geoms += cylinder((0, 0, height * 0.9), 0.042 * k, height * 0.08, COLOURS['grey'])
    return geoms, Thing(noun, height, 0.042 * k, 0.07 * k)


def _can(scene, noun, colour, k) -> Made:
    height = 0.11 * k
    geoms = cylinder((0, 0, height / 2), 0.034 * k, height / 2, colour)
    return geoms + cylinder((0, 0, height), 0.031 * k, 0.002, (0.7, 0.7, 0.7)), Thing(
        noun, height, 0.034 * k, 0.065 * k
    )


def _box(scene, noun, colour, k) -> Made:
    half = (0.075 * k, 0.028 * k, 0.11 * k)
    printed = scene.material(f'label_{len(scene.things)}', textures.label(scene.rng, colour))
    return box((0, 0, half[2]), half, printed), Thing(noun, 2 * half[2], half[0], half[2])


def _milk(scene, noun, colour, k) -> Made:
    wide, half = 0.035, 0.1 * k
    geoms = box((0, 0, half), (wide, wide, half), colour)
    geoms += box((0, 0, 2 * half + 0.015), (0.5 * wide, 0.98 * wide, 0.018), colour)
    geoms += box((0, 0, 0.9 * half), (1.01 * wide, 1.01 * wide, 0.3 * half), COLOURS['blue'])
    return geoms, Thing(noun, 2 * half + 0.03, wide, half, mouth=(0, 0, 2 * half + 0.03))


def _pan(scene, noun, colour, k) -> Made:
    radius, height = 0.115 * k, 0.05
    handle = capsule((0, -radius, height * 0.8), (0, -radius - 0.15, height + 0.02), 0.011, (0.1, 0.1, 0.1))
    geoms = scene.revolved(hollow(0.92 * radius, radius, height, 0.012), colour) + handle
    return geoms, Thing(noun, height, radius, 0.04, inner=(0.8 * radius, 0.02))


def _pot(scene, noun, colour, k) -> Made:
    radius, height = 0.095 * k, 0.12
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
    geoms = scene.revolved(hollow(0.92 * radius, radius, height, 0.012), colour) + ears
    return geoms, Thing(noun, height, radius, 0.09, inner=(0.8 * radius, 0.05))


def _kettle(scene, noun, colour, k) -> Made:
    height = 0.2 * k
    profile = [(0, 0), (0.075, 0), (0.078, 0.03), (0.055, 0.9 * height), (0.02, height), (0, height)]
    geoms = scene.revolved(profile, colour) + capsule((-0.06, 0, 0.09), (-0.12, 0, 0.16), 0.012, colour)
    geoms += chain([(0.055, 0, 0.165), (0.11, 0, 0.15), (0.085, 0, 0.05)], 0.01, (0.1, 0.1, 0.1))
    return geoms, Thing(noun, height, 0.1, 0.1, mouth=(-0.13, 0, 0.17))


def _round(scene, noun, colour, k) -> Made:
    if noun in ('onion', 'potato', 'egg') and np.allclose(colour, COLOURS['brown']):
        colour = 0.6 * colour + 0.4 * np.array((0.85, 0.65, 0.4))
    half = k * np.array(ROUND[noun])
    geoms = ellipsoid((0, 0, half[2]), half, colour)
    if noun in ('apple', 'tomato', 'onion'):
        geoms += capsule((0, 0, 2 * half[2] - 0.003), (0, 0.004, 2 * half[2] + 0.012), 0.003, STALK)
    return geoms, Thing(noun, 2 * half[2], half[0], max(1.2 * half[2], 0.02))


def _banana(scene, noun, colour, k) -> Made:
    bend = [(0.08 * np.sin(t) - 0.05, 0.09 * np.cos(t), 0.017) for t in np.linspace(0.4, 2.6, 6)]
    tips = capsule(bend[-1], (bend[-1][0] - 0.02, bend[-1][1] - 0.012, 0.017), 0.006, COLOURS['brown'])
    return chain(bend, 0.015, colour) + tips, Thing(noun, 0.032, 0.035, 0.02)


def _carrot(scene, noun, colour, k) -> Made:
    green = capsule((0, 0.085, 0.018), (0, 0.11, 0.022), 0.006, COLOURS['green']) if noun == 'carrot' else ''
    return capsule((0, -0.07, 0.017), (0, 0.07, 0.017), 0.017, colour) + green, Thing(noun, 0.034, 0.02, 0.02)


def _bread(scene, noun, colour, k) -> Made:
    return ellipsoid((0, 0, 0.046), (0.06, 0.11, 0.048), (0.70, 0.48, 0.25)), Thing(noun, 0.09, 0.06, 0.054)


def _spoon(scene, noun, colour, k) -> Made:
    geoms = capsule((0, -0.09, 0.008), (0, 0.03, 0.008), 0.006, STEEL)
    geoms += ellipsoid((0, 0.055, 0.008), (0.018, 0.028, 0.006), STEEL)
    return geoms, Thing(noun, 0.015, 0.015, 0.02)


def _knife(scene, noun, colour, k) -> Made:
    geoms = capsule((0, -0.09, 0.009), (0, 0.02, 0.009), 0.009, BLACK) + box(
        (0, 0.095, 0.009), (0.012, 0.075, 0.002), STEEL
    )
    return geoms, Thing(noun, 0.018, 0.015, 0.02)


def _sponge(scene, noun, colour, k) -> Made:
    return box((0, 0, 0.015), (0.035, 0.05, 0.015), colour), Thing(noun, 0.03, 0.035, 0.02)


def _board(scene, noun, colour, k) -> Made:
    return box((0, 0, 0.01), (0.14, 0.11, 0.01), 'table'), Thing(noun, 0.02, 0.12, 0.02)


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
