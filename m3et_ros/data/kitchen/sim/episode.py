"""A person at work in a seeded kitchen, tick by tick."""

from collections.abc import Iterator

import numpy as np

from m3et_ros.data.kitchen.sim.actions import ACTIONS
from m3et_ros.data.kitchen.sim.hand import BEND
from m3et_ros.data.kitchen.sim.motion import walk
from m3et_ros.data.kitchen.sim.parts import Instance
from m3et_ros.data.kitchen.sim.planner import choose
from m3et_ros.data.kitchen.sim.scene import build_scene, mjcf
from m3et_ros.data.kitchen.sim.world import ActionLabel, State, World

FPS = 10.0
"""Ticks per second of simulated time."""

OPTICAL_TO_MUJOCO = np.diag([1.0, -1.0, -1.0])
"""MuJoCo cameras look along -z with y up; optical frames along z with y down."""


def perform(world: World) -> Iterator[None]:
    """Look round the kitchen, then do one thing after another, without end."""
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
        seed: whole number >= 0.
        width, height: largest picture to be rendered, in pixels.
        fovy: vertical field of view in degrees, 20..150.
        fps: ticks per second of simulated time.

    Raises:
        ValueError: an argument is out of its range.
        ImportError: MuJoCo is not installed.
    """

    def __init__(self, seed: int, *, width: int = 640, height: int = 480, fovy: float = 72.0, fps: float = 10.0):
        for name, value, low, high in (
            ('seed', seed, 0, 2**63),
            ('width', width, 16, 4096),
            ('height', height, 16, 4096),
            ('fovy', fovy, 20, 150),
            ('fps', fps, 1, 240),
        ):
            if not low <= value <= high:
                raise ValueError(f'{name} is {value}; give {low} to {high}')
        mujoco = import_mujoco()
        self.seed, self.width, self.height, self.fovy, self.fps = seed, width, height, fovy, fps
        for_scene, for_person = np.random.default_rng(seed).spawn(2)
        self.scene = build_scene(for_scene)
        xml = mjcf(self.scene, width=width, height=height, fovy=fovy)
        self.model = mujoco.MjModel.from_xml_string(xml, self.scene.assets)
        self.data = mujoco.MjData(self.model)
        self.world = World(self.scene, for_person, fps)
        self._script = perform(self.world)
        self._figure = Figure(self.model, self.data)

    @property
    def instances(self) -> dict[str, Instance]:
        """Every instance by name; its place in this order, counted from 1, is its value in instance masks."""
        return self.scene.instances

    @property
    def labels(self) -> tuple[ActionLabel, ...]:
        """The actions finished so far."""
        return tuple(self.world.labels)

    def run(self, count: int) -> Iterator[State]:
        """Go on for so many ticks; the model stands as yielded until the next one is asked for."""
        for _ in range(count):
            self.world.advance(self._script)
            self._figure.pose(self.world)
            yield self.world.snapshot()


class Figure:
    """Writes the state of a world into a MuJoCo model."""

    def __init__(self, model, data):
        self.mujoco, self.model, self.data = import_mujoco(), model, data
        self.address = {model.joint(i).name: model.joint(i).qposadr[0] for i in range(model.njnt)}

    def pose(self, world: World):
        """Bring every body to where the world says it is."""
        camera = world.camera_pose()
        self._place('head', camera[:3, 3], camera[:3, :3] @ OPTICAL_TO_MUJOCO)
        self._place('hand', world.hand, world.hand_rotation)
        self._place('sleeve', *world.forearm())
        for joint, gain in BEND.items():
            self.data.qpos[self.address[joint]] = gain * world.curl
        for name, container in world.scene.containers.items():
            self.data.qpos[self.address[container.joint]] = container.travel * world.openness[name]
        for name, rotation in world.rotation.items():
            self._place(name, world.where(name), rotation)
        self._pour(world)
        self.mujoco.mj_kinematics(self.model, self.data)
        self.mujoco.mj_camlight(self.model, self.data)

    def _place(self, joint: str, position, rotation):
        """Set a free joint."""
        at = self.address[joint]
        quaternion = np.zeros(4)
        self.mujoco.mju_mat2Quat(quaternion, np.ascontiguousarray(rotation).ravel())
        self.data.qpos[at : at + 3], self.data.qpos[at + 3 : at + 7] = position, quaternion

    def _pour(self, world: World):
        """Show water, the stream and fillings where there are any."""
        self.model.geom('water').rgba[3] = 0.55 if world.running else 0
        self.model.geom('stream').rgba[3] = 0 if world.stream is None else 0.9
        if world.stream is not None:
            self._place('stream', world.stream, np.eye(3))
        for name, fill in world.fill.items():
            if fill:
                radius, depth = world.scene.things[name].inner
                filling = self.model.geom(f'filling_{name}')
                filling.rgba[3] = 1
                filling.size[:2] = radius * (0.85 + 0.1 * fill), 0.001 + 0.5 * depth * fill
                filling.pos[2] = 0.008 + filling.size[1]


# MERGED m3et_ros/data/kitchen/simulator: The one door to MuJoCo, which is an optional dependency.
def import_mujoco():
    """The mujoco module.

    Raises:
        ImportError: it is not installed; the message says how to get it.
    """
    try:
        import mujoco
    except ImportError as error:
        raise ImportError('the simulated kitchen needs MuJoCo; run `pip install mujoco`') from error
    return mujoco
