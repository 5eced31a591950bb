"""Lamps and daylight.

From a seed to a question: after sim/hand.py, before sim/scene.py.
"""

import numpy as np

from m3et_ros.data.kitchen.sim.parts import Scene
from m3et_ros.data.kitchen.sim.shapes import numbers
from m3et_ros.data.kitchen.sim.tones import draw_tone

HEADLIGHT = 'ambient=".48 .48 .49" diffuse=".30 .30 .30" specular="0 0 0"'
"""Light from all sides and from the camera, in the kitchens of version 1."""


def add_lights(scene: Scene) -> None:
    """Add the lamps to a scene, and set its headlight, its tone and whether its lamp casts shadows."""
    if not scene.varied:
        scene.headlight = HEADLIGHT
        scene.bodies.append(_lamp_and_daylight(scene.rng, scene.size[0]))
        return
    rng = scene.rng
    # The shares of the light: from all sides, from the camera, from lamps and from the window.
    shares = rng.dirichlet((6, 2, 4, 1.5))
    total = rng.uniform(1.25, 1.9)
    scene.shadows = bool(rng.random() < 0.5)
    scene.tone = draw_tone(rng)
    ambient, camera = total * shares[0] * _hue(rng, 0.06), total * min(shares[1], 0.3) * np.ones(3)
    scene.headlight = f'ambient="{numbers(ambient)}" diffuse="{numbers(camera)}" specular="0 0 0"'
    count = int(rng.integers(1, 4))
    brightness = total * shares[2] * rng.dirichlet((2.0,) * count) * 1.4
    for i, bright in enumerate(sorted(brightness, reverse=True)):
        place = (rng.uniform(-1.6, 1.6), rng.uniform(-1.3, 0.9), rng.uniform(1.9, 2.5))
        aim = (rng.uniform(-0.5, 0.5), rng.uniform(-0.3, 0.6), -1)
        scene.bodies.append(
            f'<light pos="{numbers(place)}" dir="{numbers(aim)}" cutoff="{rng.uniform(55, 85):.3f}" '
            f'exponent="{rng.uniform(0.2, 3):.3f}" attenuation="1 0 {rng.uniform(0.01, 0.06):.3f}" '
            f'diffuse="{numbers(bright * _hue(rng, 0.18))}" specular="{numbers([rng.uniform(0.05, 0.6)] * 3)}" '
            f'castshadow="{"true" if i == 0 else "false"}"/>'
        )
    daylight, place = total * shares[3] * 1.5 * _hue(rng, 0.15), (0.2 - scene.size[0] / 2, rng.uniform(-0.6, 0.3), 1.8)
    scene.bodies.append(
        f'<light pos="{numbers(place)}" dir="1 {rng.uniform(-0.3, 0.6):.3f} {rng.uniform(-0.7, -0.1):.3f}" '
        f'diffuse="{numbers(daylight)}" castshadow="false"/>'
    )


def _hue(rng: np.random.Generator, spread: float) -> np.ndarray:
    """Draw the colour (3,) of a light, warm or cold, with 1 as its brightest channel."""
    warmth = rng.uniform(-spread, spread)
    colour = np.array([1 + warmth, 1 + rng.uniform(-spread, spread) / 4, 1 - warmth])
    return colour / colour.max()


def _lamp_and_daylight(rng: np.random.Generator, room_width: float) -> str:
    """Format a ceiling lamp that casts shadows, and daylight from the window."""
    bright, warm = rng.uniform(0.33, 0.54), rng.uniform(0.8, 1)
    lamp = f'{bright:.3f} {bright * (0.9 + 0.1 * warm):.3f} {bright * warm:.3f}'
    return (
        f'<light pos="{rng.uniform(-0.8, 0.8):.3f} {rng.uniform(-0.5, 0.3):.3f} 2.5" dir="0 .15 -1" cutoff="70" '
        f'exponent="1" attenuation="1 0 0.02" diffuse="{lamp}" specular=".2 .2 .2" castshadow="true"/>'
        f'<light pos="{0.2 - room_width / 2:.3f} 0 1.8" dir="1 .2 -.3" '
        f'diffuse="{rng.uniform(0.05, 0.3):.3f} .2 .25" castshadow="false"/>'
    )
