"""A kitchen from a random generator: MJCF text, texture files and the registries of parts.Scene.

From a seed to a question: after sim/lights.py, before sim/mounts.py.
"""

import numpy as np

from m3et_ros.data.kitchen.sim.decor import add_decor
from m3et_ros.data.kitchen.sim.furniture import add_furniture
from m3et_ros.data.kitchen.sim.hand import add_hand
from m3et_ros.data.kitchen.sim.lights import add_lights
from m3et_ros.data.kitchen.sim.objects import add_objects
from m3et_ros.data.kitchen.sim.parts import Scene
from m3et_ros.data.kitchen.sim.room import add_room
from m3et_ros.data.kitchen.sim.shapes import HIDDEN, body, cylinder, free

NEAR, FAR = 0.1, 12.0
"""Clipping planes of the camera in metres."""

DEFAULT_VERSION = 2
"""Version of the kitchens that commands make unless another is asked for: that of the weights in the package."""


def build_scene(rng: np.random.Generator, version: int = DEFAULT_VERSION) -> Scene:
    """Draw a kitchen: room, fixtures, objects, hand and lights.

    Args:
        rng: random generator.
        version: version of the generator; a kitchen of version 2 has more kinds of light, surface, shape and clutter.
    """
    scene = Scene(rng, (rng.uniform(4.2, 5.2), rng.uniform(3.8, 4.4), 2.6), varied=version > 1)
    add_room(scene)
    add_furniture(scene)
    add_objects(scene)
    if scene.varied:
        add_decor(scene)
    add_hand(scene)
    stream = cylinder((0, 0, -0.05), 0.004, 0.05, (0.85, 0.85, 0.9), opacity=HIDDEN, name='stream')
    scene.add('stream', 'water', stream, joint=free('stream'))
    add_lights(scene)
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
  <headlight {scene.headlight}/>
</visual>
<asset>{''.join(scene.declarations)}</asset>
<worldbody>{''.join(scene.bodies)}{head}</worldbody>
</mujoco>"""
