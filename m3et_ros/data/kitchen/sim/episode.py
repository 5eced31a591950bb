"""An episode: a person at work in a seeded kitchen, tick by tick.

The simulation itself is kinematic and runs without MuJoCo (see scene, world and planner). MuJoCo poses the bodies for
the renderers. The extra `sim` brings it, and it is imported only when an episode is made, so that labels, questions and
caches can be used on a machine without it.

From a seed to a question: after sim/planner.py, before sim/renderers.py.
"""

from collections.abc import Iterator
from types import ModuleType
from typing import Any

import numpy as np

from m3et_ros.data.extras import require
from m3et_ros.data.kitchen.sim.actions import ACTIONS
from m3et_ros.data.kitchen.sim.hand import BEND
from m3et_ros.data.kitchen.sim.motion import walk
from m3et_ros.data.kitchen.sim.mounts import STRAIGHT, Mount
from m3et_ros.data.kitchen.sim.parts import Instance
from m3et_ros.data.kitchen.sim.planner import choose
from m3et_ros.data.kitchen.sim.scene import DEFAULT_VERSION, build_scene, mjcf
from m3et_ros.data.kitchen.sim.world import ActionLabel, World, WorldState

FPS = 10.0
"""Ticks per second of simulated time in caches and, by default, in episodes."""

OPTICAL_TO_MUJOCO = np.diag([1.0, -1.0, -1.0])
"""MuJoCo cameras look along -z with y up; optical frames look along z with y down."""


def import_mujoco() -> ModuleType:
    """Import MuJoCo.

    Raises:
        InputError: 'needs_extra', it is not installed.
    """
    require('sim')
    import mujoco

    return mujoco


def perform(world: World) -> Iterator[None]:
    """Look round the kitchen, then do one action after another, without end."""
    scene = world.scene
    back = scene.size[1] / 2 - 0.3
    views = [np.array([x, back, 1.0]) for x in scene.units] + [np.array([scene.size[0] / 2 - 0.4, back, 1.2])]
    yield from walk(world, (0, 0.3), views[0], 0.8)
    for view in views[1::2]:
        yield from walk(world, (0.3 * view[0], 0.35), view, 0.8)
    yield from walk(world, (0, 0.45), scene.landmarks['table'], 0.8)
    while True:
        verb, target = choose(world)
        yield from ACTIONS[verb](world, target)


class Episode:
    """One seeded episode: the same seed gives the same kitchen, actions, labels and frames.

    Args:
        seed: whole number from 0.
        width: width of the largest picture to be rendered, 16 to 4096 pixels.
        height: the same.
        fovy: vertical field of view in degrees, 20 to 150.
        fps: ticks per second of simulated time, 1 to 240.
        version: version of the generator, 1 or 2; it decides how the kitchen looks and what the questions ask for.
        mount: mount of the camera on the head.

    Raises:
        ValueError: an argument is out of its range.
        ImportError: MuJoCo is not installed.
    """

    def __init__(
        self,
        seed: int,
        *,
        width: int = 640,
        height: int = 480,
        fovy: float = 72.0,
        fps: float = FPS,
        version: int = DEFAULT_VERSION,
        mount: Mount = STRAIGHT,
    ):
        for name, value, low, high in (
            ('seed', seed, 0, 2**63),
            ('width', width, 16, 4096),
            ('height', height, 16, 4096),
            ('fovy', fovy, 20, 150),
            ('fps', fps, 1, 240),
            ('version', version, 1, 2),
        ):
            if not low <= value <= high:
                raise ValueError(f'{name} is {value}; give {low} to {high}')
        mujoco = import_mujoco()
        self.version = version
        self.seed, self.width, self.height, self.fovy, self.fps = seed, width, height, fovy, fps
        for_scene, for_person = np.random.default_rng(seed).spawn(2)
        self.scene = build_scene(for_scene, version)
        xml = mjcf(self.scene, width=width, height=height, fovy=fovy)
        self.model = mujoco.MjModel.from_xml_string(xml, self.scene.assets)
        self.data = mujoco.MjData(self.model)
        self.world = World(self.scene, for_person, fps, mount)
        self._script = perform(self.world)
        self._figure = Figure(self.model, self.data)

    @property
    def instances(self) -> dict[str, Instance]:
        """Every instance by name; its position in this order, counted from 1, is its value in instance masks."""
        return self.scene.instances

    @property
    def labels(self) -> tuple[ActionLabel, ...]:
        """The actions finished so far."""
        return tuple(self.world.labels)

    def run(self, count: int) -> Iterator[WorldState]:
        """Advance by `count` ticks; the MuJoCo model shows the yielded state until the next one is requested."""
        for _ in range(count):
            self.world.advance(self._script)
            self._figure.pose(self.world)
            yield self.world.snapshot()


class Figure:
    """The bodies of a MuJoCo model, posed after a world.

    Args:
        model: mujoco.MjModel of the scene.
        data: its mujoco.MjData.
    """

    def __init__(self, model: Any, data: Any):
        self.mujoco, self.model, self.data = import_mujoco(), model, data
        self.address = {model.joint(i).name: model.joint(i).qposadr[0] for i in range(model.njnt)}

    def pose(self, world: World) -> None:
        """Bring every body to its position in the world."""
        camera = world.camera_pose()
        self._set_free_joint('head', camera[:3, 3], camera[:3, :3] @ OPTICAL_TO_MUJOCO)
        self._set_free_joint('hand', world.hand, world.hand_rotation)
        self._set_free_joint('sleeve', *world.forearm())
        for joint, gain in BEND.items():
            self.data.qpos[self.address[joint]] = gain * world.curl
        for name, container in world.scene.containers.items():
            self.data.qpos[self.address[container.joint]] = container.travel * world.openness[name]
        for name, rotation in world.rotation.items():
            self._set_free_joint(name, world.position_of(name), rotation)
        self._show_liquids(world)
        self.mujoco.mj_kinematics(self.model, self.data)
        self.mujoco.mj_camlight(self.model, self.data)

    def _set_free_joint(self, joint: str, position: np.ndarray, rotation: np.ndarray) -> None:
        """Set a free joint to a position (3,) and a rotation (3, 3)."""
        at = self.address[joint]
        quaternion = np.zeros(4)
        self.mujoco.mju_mat2Quat(quaternion, np.ascontiguousarray(rotation).ravel())
        self.data.qpos[at : at + 3], self.data.qpos[at + 3 : at + 7] = position, quaternion

    def _show_liquids(self, world: World) -> None:
        """Show the running water, the poured stream and the fillings; hide those that are absent."""
        self.model.geom('water').rgba[3] = 0.55 if world.running else 0
        self.model.geom('stream').rgba[3] = 0 if world.stream is None else 0.9
        if world.stream is not None:
            self._set_free_joint('stream', world.stream, np.eye(3))
        for name, fill in world.fill.items():
            inner = world.scene.things[name].inner
            if inner and fill:
                radius, depth = inner
                filling = self.model.geom(f'filling_{name}')
                filling.rgba[3] = 1
                filling.size[:2] = radius * (0.85 + 0.1 * fill), 0.001 + 0.5 * depth * fill
                filling.pos[2] = 0.008 + filling.size[1]
