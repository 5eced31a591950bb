"""The camera on the person's head: state to picture, depth and masks."""

from dataclasses import dataclass

import numpy as np

from m3et_ros.data.frame import UNLABELLED
from m3et_ros.data.kitchen.sim.episode import Episode
from m3et_ros.data.kitchen.sim.opengl import OpenGLRenderer
from m3et_ros.data.kitchen.sim.raycast import RayCaster
from m3et_ros.data.kitchen.sim.renderers import choose_backend
from m3et_ros.data.kitchen.sim.vocabulary import CLASS_OF
from m3et_ros.data.kitchen.sim.world import ActionLabel, State


@dataclass(frozen=True)
class Observation:
    """What the camera sees at one tick."""

    # Colours, (H, W, 3) uint8, R G B.
    rgb: np.ndarray
    # Metres along the optical axis, (H, W) float32, NaN where nothing is within range (REP 118).
    depth: np.ndarray
    # Index into vocabulary.CLASSES, (H, W) uint8, 255 where unlabelled.
    semantic: np.ndarray
    # Place in Episode.instances counted from 1, (H, W) uint16, 0 for none.
    instance: np.ndarray
    # Pinhole intrinsics (3, 3) in pixels; the centre of the first pixel is (0, 0).
    K: np.ndarray
    # What is the case, including the camera's pose, the stamp and the actions.
    state: State

    @property
    def pose(self) -> np.ndarray:
        """Camera in the room (4, 4), REP 103 optical frame: x right, y down, z forward."""
        return self.state.pose

    @property
    def stamp_s(self) -> float:
        """Seconds from the start of the episode."""
        return self.state.stamp_s

    @property
    def current(self) -> ActionLabel | None:
        """The action under way."""
        return self.state.current

    @property
    def finished(self) -> tuple[ActionLabel, ...]:
        """The actions done so far, in order."""
        return self.state.finished


def intrinsics(width: int, height: int, fovy: float) -> np.ndarray:
    """Pinhole matrix (3, 3) of square pixels for a vertical field of view in degrees."""
    focal = 0.5 * height / np.tan(np.radians(fovy) / 2)
    return np.array([[focal, 0, (width - 1) / 2], [0, focal, (height - 1) / 2], [0, 0, 1]])


class Camera:
    """Renders an episode; use it as a context manager or close it.

    Args:
        episode: what to look at.
        backend: 'auto', 'egl', 'osmesa' or 'raycast'; see backends.choose_backend.
        shadows: whether the lamp casts any; without them OpenGL in software needs less than half the time. The ray
            caster has none.

    Raises:
        ValueError: no backend has this name.
        RuntimeError: the backend asked for does not work here.
    """

    def __init__(self, episode: Episode, *, backend: str = 'auto', shadows: bool = True):
        self.episode, self.backend = episode, choose_backend(backend)
        self.K = intrinsics(episode.width, episode.height, episode.fovy)
        if self.backend == 'raycast':
            self._renderer = RayCaster(episode.model, rays=_rays(self.K, episode.width, episode.height))
        else:
            self._renderer = OpenGLRenderer(
                episode.model, platform=self.backend, width=episode.width, height=episode.height, shadows=shadows
            )
        self._instance_of, self._class_of = _lookups(episode)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        """Free the renderer."""
        self._renderer.close()

    def observe(self, state: State) -> Observation:
        """Render the state that Episode.run has just yielded.

        Raises:
            ValueError: the episode has moved on since.
        """
        if state.tick != self.episode.world.tick:
            raise ValueError(
                f'tick {state.tick} has gone by, the episode is at {self.episode.world.tick}; '
                'observe a state before asking for the next'
            )
        rgb, depth, geoms = self._renderer.render(self.episode.data)
        instance = self._instance_of[geoms]
        return Observation(rgb, depth, self._class_of[instance], instance, self.K, state)


def _rays(K: np.ndarray, width: int, height: int) -> np.ndarray:
    """Directions (H, W, 3) through the pixel centres with z = 1, in the optical frame."""
    u, v = np.meshgrid(np.arange(width), np.arange(height))
    return np.stack([(u - K[0, 2]) / K[0, 0], (v - K[1, 2]) / K[1, 1], np.ones(u.shape)], axis=-1)


def _lookups(episode: Episode) -> tuple[np.ndarray, np.ndarray]:
    """Geom id -> instance (uint16; the last entry is for id -1), and instance -> class (uint8)."""
    model, number = episode.model, {name: i for i, name in enumerate(episode.instances, start=1)}
    instance_of = np.zeros(model.ngeom + 1, np.uint16)
    for geom in range(model.ngeom):
        body = model.geom_bodyid[geom]
        while body and model.body(body).name not in number:  # a finger belongs to the hand, a lever to the tap
            body = model.body_parentid[body]
        instance_of[geom] = number.get(model.body(body).name, 0)
    classes = [CLASS_OF[instance.noun] for instance in episode.instances.values()]
    return instance_of, np.array([UNLABELLED, *classes], np.uint8)
