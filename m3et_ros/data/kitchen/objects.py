"""Things that can be picked up: one maker per noun, standing on z = 0 round the z axis."""

from collections.abc import Callable

import numpy as np

from m3et_ros.data.kitchen import textures
from m3et_ros.data.kitchen.parts import Scene, Thing
from m3et_ros.data.kitchen.shapes import HIDDEN, box, capsule, chain, cylinder, ellipsoid, free, hollow
from m3et_ros.data.kitchen.vocabulary import COLOURS

BLACK, WHITE, STEEL, STALK = COLOURS['black'], COLOURS['white'], (.72, .73, .75), (.2, .3, .1)

COLOURS_OF = {
    'milk': ('white',), 'pan': ('black',), 'apple': ('red', 'green', 'yellow'), 'orange': ('orange',),
    'lemon': ('yellow',), 'tomato': ('red',), 'onion': ('brown', 'purple', 'white'), 'potato': ('brown',),
    'egg': ('white', 'brown'), 'banana': ('yellow',), 'carrot': ('orange',), 'cucumber': ('green',),
    'bread': ('brown',), 'spoon': ('grey',), 'knife': ('grey',), 'sponge': ('yellow', 'green', 'blue', 'pink'),
    'board:chopping': ('brown',),
}
"""Colour words of the nouns that do not come in every colour."""

# Half axes in metres of what is round.
ROUND = {
    'apple': (.038, .038, .036), 'orange': (.038, .038, .038), 'lemon': (.028, .036, .028),
    'tomato': (.034, .034, .029), 'onion': (.035, .035, .031), 'potato': (.032, .045, .027), 'egg': (.022, .028, .022),
}

ALWAYS = ('cup', 'bottle', 'milk', 'bowl', 'spoon', 'knife', 'pan', 'plate', 'sponge', 'carrot')
OFTEN = ('cup', 'glass', 'bowl', 'plate', 'bottle', 'jar', 'can', 'box', 'pot', 'kettle', 'apple', 'orange', 'lemon',
         'tomato', 'onion', 'potato', 'egg', 'banana', 'carrot', 'cucumber', 'bread', 'board:chopping')
AGAIN = ('spoon', 'knife', 'cup', 'glass', 'milk')

Made = tuple[str, Thing]
"""Geoms and measures of one thing."""


def add_objects(scene: Scene):
    """Fill the slots."""
    rng = scene.rng
    wanted = [*ALWAYS, *rng.choice(OFTEN, rng.integers(16, 26)), *rng.choice(AGAIN, 4)]
    for noun in map(str, wanted):
        slot = _free_slot(scene, noun)
        if slot:
            slot.occupant = _add(scene, noun)


def _free_slot(scene: Scene, noun: str):
    """A spot for the noun; spots meant for it go first more often than not, and pans go on the hob."""
    free_slots = [slot for slot in scene.slots if slot.takes(noun)]
    proper = [slot for slot in free_slots if slot.accepts]
    hob = [slot for slot in proper if slot.place == 'on the hob']
    choice = hob if hob and noun in ('pan', 'pot') else proper if proper and scene.rng.random() < .6 else free_slots
    return scene.pick(*choice) if choice else None


def _add(scene: Scene, noun: str) -> str:
    """Make one thing and give it a body; returns its name."""
    name = f'{noun}_{len(scene.things)}'
    colour = scene.pick(*COLOURS_OF.get(noun, tuple(COLOURS)))
    geoms, thing = MAKERS[noun](scene, noun, np.array(COLOURS[colour]), scene.rng.uniform(.9, 1.15))
    if thing.inner:
        geoms += cylinder((0, 0, .012), thing.inner[0], .001, (.8, .8, .85), opacity=HIDDEN, name=f'filling_{name}')
    scene.things[name] = thing
    scene.add(name, noun, geoms, joint=free(name), colour=colour)
    return name


def _cup(scene, noun, colour, k) -> Made:
    handle = [(0, -.04 * k, .07 * k), (0, -.065 * k, .06 * k), (0, -.065 * k, .035 * k), (0, -.037 * k, .02 * k)]
    geoms = scene.turned(hollow(.032 * k, .04 * k, .09 * k, .008), colour) + chain(handle, .005, colour)
    return geoms, Thing(noun, .09 * k, .04 * k, .054 * k, inner=(.026 * k, .065 * k))


def _glass(scene, noun, colour, k) -> Made:
    geoms = scene.turned(hollow(.028 * k, .036 * k, .13 * k, .003), .5 + .5 * colour, opacity=.45)
    return geoms, Thing(noun, .13 * k, .035 * k, .078 * k, inner=(.025 * k, .09 * k))


def _bowl(scene, noun, colour, k) -> Made:
    profile = [(0, 0), (.035 * k, 0), (.062 * k, .02 * k), (.078 * k, .065 * k), (.068 * k, .065 * k),
               (.052 * k, .03 * k), (.03 * k, .012), (0, .012)]
    return scene.turned(profile, colour), Thing(noun, .065 * k, .078 * k, .05 * k, inner=(.052 * k, .04 * k))


def _plate(scene, noun, colour, k) -> Made:
    profile = [(0, 0), (.07, 0), (.115 * k, .02), (.112 * k, .024), (.068, .007), (0, .007)]
    return scene.turned(profile, colour), Thing(noun, .024, .115 * k, .02)


def _bottle(scene, noun, colour, k) -> Made:
    height = .26 * k
    profile = [(0, 0), (.034, 0), (.036, .01), (.036, .15 * k), (.013, .21 * k), (.013, height), (0, height)]
    cap = WHITE if np.allclose(colour, BLACK) else BLACK
    label = BLACK if np.allclose(colour, WHITE) else WHITE
    geoms = scene.turned(profile, colour) + cylinder((0, 0, height), .015, .012, cap)
    geoms += cylinder((0, 0, .085), .0366, .03, label)
    return geoms, Thing(noun, height, .037, .1, mouth=(0, 0, height + .012))


def _jar(scene, noun, colour, k) -> Made:
    height = .12 * k
    geoms = cylinder((0, 0, height * .42), .04 * k, height * .42, colour)
    geoms += cylinder((0, 0, height * .9), .042 * k, height * .08, COLOURS['grey'])
    return geoms, Thing(noun, height, .042 * k, .07 * k)


def _can(scene, noun, colour, k) -> Made:
    height = .11 * k
    geoms = cylinder((0, 0, height / 2), .034 * k, height / 2, colour)
    return geoms + cylinder((0, 0, height), .031 * k, .002, (.7, .7, .7)), Thing(noun, height, .034 * k, .065 * k)


def _box(scene, noun, colour, k) -> Made:
    half = (.075 * k, .028 * k, .11 * k)
    printed = scene.material(f'label_{len(scene.things)}', textures.label(scene.rng, colour))
    return box((0, 0, half[2]), half, printed), Thing(noun, 2 * half[2], half[0], half[2])


def _milk(scene, noun, colour, k) -> Made:
    wide, half = .035, .1 * k
    geoms = box((0, 0, half), (wide, wide, half), colour)
    geoms += box((0, 0, 2 * half + .015), (.5 * wide, .98 * wide, .018), colour)
    geoms += box((0, 0, .9 * half), (1.01 * wide, 1.01 * wide, .3 * half), COLOURS['blue'])
    return geoms, Thing(noun, 2 * half + .03, wide, half, mouth=(0, 0, 2 * half + .03))


def _pan(scene, noun, colour, k) -> Made:
    radius, height = .115 * k, .05
    handle = capsule((0, -radius, height * .8), (0, -radius - .15, height + .02), .011, (.1, .1, .1))
    geoms = scene.turned(hollow(.92 * radius, radius, height, .012), colour) + handle
    return geoms, Thing(noun, height, radius, .04, inner=(.8 * radius, .02))


def _pot(scene, noun, colour, k) -> Made:
    radius, height = .095 * k, .12
    ears = ''.join(chain([(a * radius, -.025, .1), (a * (radius + .025), -.02, .1), (a * (radius + .025), .02, .1),
                          (a * radius, .025, .1)], .006, colour) for a in (-1, 1))
    geoms = scene.turned(hollow(.92 * radius, radius, height, .012), colour) + ears
    return geoms, Thing(noun, height, radius, .09, inner=(.8 * radius, .05))


def _kettle(scene, noun, colour, k) -> Made:
    height = .2 * k
    profile = [(0, 0), (.075, 0), (.078, .03), (.055, .9 * height), (.02, height), (0, height)]
    geoms = scene.turned(profile, colour) + capsule((-.06, 0, .09), (-.12, 0, .16), .012, colour)
    geoms += chain([(.055, 0, .165), (.11, 0, .15), (.085, 0, .05)], .01, (.1, .1, .1))
    return geoms, Thing(noun, height, .1, .1, mouth=(-.13, 0, .17))


def _round(scene, noun, colour, k) -> Made:
    if noun in ('onion', 'potato', 'egg') and np.allclose(colour, COLOURS['brown']):
        colour = .6 * colour + .4 * np.array((.85, .65, .4))
    half = k * np.array(ROUND[noun])
    geoms = ellipsoid((0, 0, half[2]), half, colour)
    if noun in ('apple', 'tomato', 'onion'):
        geoms += capsule((0, 0, 2 * half[2] - .003), (0, .004, 2 * half[2] + .012), .003, STALK)
    return geoms, Thing(noun, 2 * half[2], half[0], max(1.2 * half[2], .02))


def _banana(scene, noun, colour, k) -> Made:
    bend = [(.08 * np.sin(t) - .05, .09 * np.cos(t), .017) for t in np.linspace(.4, 2.6, 6)]
    tips = capsule(bend[-1], (bend[-1][0] - .02, bend[-1][1] - .012, .017), .006, COLOURS['brown'])
    return chain(bend, .015, colour) + tips, Thing(noun, .032, .035, .02)


def _carrot(scene, noun, colour, k) -> Made:
    green = capsule((0, .085, .018), (0, .11, .022), .006, COLOURS['green']) if noun == 'carrot' else ''
    return capsule((0, -.07, .017), (0, .07, .017), .017, colour) + green, Thing(noun, .034, .02, .02)


def _bread(scene, noun, colour, k) -> Made:
    return ellipsoid((0, 0, .046), (.06, .11, .048), (.70, .48, .25)), Thing(noun, .09, .06, .054)


def _spoon(scene, noun, colour, k) -> Made:
    geoms = capsule((0, -.09, .008), (0, .03, .008), .006, STEEL)
    geoms += ellipsoid((0, .055, .008), (.018, .028, .006), STEEL)
    return geoms, Thing(noun, .015, .015, .02)


def _knife(scene, noun, colour, k) -> Made:
    geoms = capsule((0, -.09, .009), (0, .02, .009), .009, BLACK) + box((0, .095, .009), (.012, .075, .002), STEEL)
    return geoms, Thing(noun, .018, .015, .02)


def _sponge(scene, noun, colour, k) -> Made:
    return box((0, 0, .015), (.035, .05, .015), colour), Thing(noun, .03, .035, .02)


def _board(scene, noun, colour, k) -> Made:
    return box((0, 0, .01), (.14, .11, .01), 'table'), Thing(noun, .02, .12, .02)


MAKERS: dict[str, Callable[..., Made]] = {
    'cup': _cup, 'glass': _glass, 'bowl': _bowl, 'plate': _plate, 'bottle': _bottle, 'jar': _jar, 'can': _can,
    'box': _box, 'milk': _milk, 'pan': _pan, 'pot': _pot, 'kettle': _kettle, 'banana': _banana, 'carrot': _carrot,
    'cucumber': _carrot, 'bread': _bread, 'spoon': _spoon, 'knife': _knife, 'sponge': _sponge,
    'board:chopping': _board, **dict.fromkeys(ROUND, _round),
}
"""Maker of each noun: (scene, noun, R G B in 0..1, scale) -> geoms and measures."""
