"""A kitchen from a random generator: MJCF text, texture files and the registries of parts.Scene.

From a seed to a question: after sim/hand.py, before sim/world.py.
"""

import numpy as np

from m3et_ros.data.kitchen.sim.furniture import add_furniture
from m3et_ros.data.kitchen.sim.hand import add_hand
from m3et_ros.data.kitchen.sim.objects import add_objects
from m3et_ros.data.kitchen.sim.parts import Scene
from m3et_ros.data.kitchen.sim.room import add_room
from m3et_ros.data.kitchen.sim.shapes import HIDDEN, body, cylinder, free

NEAR, FAR = 0.1, 12.0
"""Clipping planes of the camera in metres."""


def build_scene(rng: np.random.Generator) -> Scene:
    """Draw a kitchen: room, fixtures, objects, hand and lights."""
    scene = Scene(rng, (rng.uniform(4.2, 5.2), rng.uniform(3.8, 4.4), 2.6))
    add_room(scene)
    add_furniture(scene)
    add_objects(scene)
    add_hand(scene)
    stream = cylinder((0, 0, -0.05), 0.004, 0.05, (0.85, 0.85, 0.9), opacity=HIDDEN, name='stream')
    scene.add('stream', 'water', stream, joint=free('stream'))
    scene.bodies.append(_lights(rng, scene.size[0]))
    return scene


def mjcf(scene: Scene, *, width: int, height: int, fovy: float) -> str:
    """Format a scene as MJCF with a camera 'ego' on a body 'head'.

    A software renderer spends most of its time on vertices and shadows, not on pixels: hence few slices and a small
    shadow map. Such a map leaves specks on thin rods; strong ambient light and a distant near plane keep them faint.

    Args:
        scene: as from build_scene.
        width: width of the largest picture, in pixels.
        height: the same.
        fovy: vertical field of view in degrees.
    """
    head = body(
        'head',
        f'<inertial pos="0 0 0" mass="1" diaginertia="1 1 1"/><camera name="ego" fovy="{fovy}"/>',
        joint=free('head'),
    )
    return f"""<mujoco>
<compiler angle="radian" discardvisual="false"/>
<statistic extent="1" meansize=".1" center="0 0 1"/>
<option gravity="0 0 0"/>
<default><geom contype="0" conaffinity="0" density="300"/></default>
<visual>
  <global offwidth="{width}" offheight="{height}"/>
  <map znear="{NEAR}" zfar="{FAR}" shadowscale=".9"/>
  <quality shadowsize="1024" offsamples="4" numslices="16" numstacks="8" numquads="2"/>
  <headlight ambient=".48 .48 .49" diffuse=".30 .30 .30" specular="0 0 0"/>
</visual>
<asset>{''.join(scene.declarations)}</asset>
<worldbody>{''.join(scene.bodies)}{head}</worldbody>
</mujoco>"""


def _lights(rng: np.random.Generator, room_width: float) -> str:
    """Format a ceiling lamp that casts shadows, and daylight from the window."""
    bright, warm = rng.uniform(0.33, 0.54), rng.uniform(0.8, 1)
    lamp = f'{bright:.3f} {bright * (0.9 + 0.1 * warm):.3f} {bright * warm:.3f}'
    return (
        f'<light pos="{rng.uniform(-0.8, 0.8):.3f} {rng.uniform(-0.5, 0.3):.3f} 2.5" dir="0 .15 -1" cutoff="70" '
        f'exponent="1" attenuation="1 0 0.02" diffuse="{lamp}" specular=".2 .2 .2" castshadow="true"/>'
        f'<light pos="{0.2 - room_width / 2:.3f} 0 1.8" dir="1 .2 -.3" '
        f'diffuse="{rng.uniform(0.05, 0.3):.3f} .2 .25" castshadow="false"/>'
    )
