"""The person's right hand and forearm: a palm, four fingers of two joints, a thumb and a sleeve.

From a seed to a question: after sim/decor.py, before sim/lights.py.
"""

from m3et_ros.data.kitchen.sim.parts import Scene
from m3et_ros.data.kitchen.sim.shapes import Paint, body, box, capsule, free, hinge
from m3et_ros.data.kitchen.sim.vocabulary import COLOURS

SKINS = ((0.87, 0.67, 0.55), (0.62, 0.43, 0.31), (0.38, 0.25, 0.18))

BEND = {f'finger_{i}_{part}': gain for i in range(4) for part, gain in (('base', 1.0), ('tip', 1.3))}
BEND |= {'thumb_base': 0.5, 'thumb_tip': 0.6}
"""Joint of the hand -> radians in a closed fist; the curl of the hand (0..1) scales them all."""


def add_hand(scene: Scene) -> None:
    """Add the hand (fingers along y, palm towards -x, thumb up) and the sleeve to a scene."""
    skin, sleeve = scene.pick(*SKINS), COLOURS[scene.pick('blue', 'grey', 'red', 'green', 'black', 'white')]
    fingers = ''.join(_finger(i, z, skin) for i, z in enumerate((0.03, 0.010, -0.010, -0.03)))
    wrist = capsule((0, -0.05, 0), (0, -0.09, 0), 0.026, skin)
    palm = box((0, 0, 0), (0.013, 0.046, 0.040), skin)
    scene.add('hand', 'hand', palm + wrist + fingers + _thumb(skin), joint=free('hand'))
    scene.add('sleeve', 'clothes', capsule((0, -0.01, 0), (0, -0.62, 0), 0.043, sleeve), joint=free('sleeve'))


def _finger(i: int, z: float, skin: Paint) -> str:
    """Format two bones that bend towards the palm."""
    tip = body(
        f'finger_{i}_tip',
        capsule((0, 0, 0), (0, 0.032, 0), 0.0078, skin),
        pos=(0, 0.038, 0),
        joint=hinge(f'finger_{i}_tip'),
    )
    return body(
        f'finger_{i}',
        capsule((0, 0, 0), (0, 0.038, 0), 0.0085, skin) + tip,
        pos=(-0.006, 0.045, z),
        joint=hinge(f'finger_{i}_base'),
    )


def _thumb(skin: Paint) -> str:
    """Format the thumb at the upper edge of the palm."""
    tip = body(
        'thumb_tip',
        capsule((0, 0, 0), (-0.006, 0.028, 0), 0.009, skin),
        pos=(-0.018, 0.035, 0.012),
        joint=hinge('thumb_tip'),
    )
    return body(
        'thumb',
        capsule((0, 0, 0), (-0.018, 0.035, 0.012), 0.010, skin) + tip,
        pos=(-0.015, -0.01, 0.036),
        joint=hinge('thumb_base'),
    )
