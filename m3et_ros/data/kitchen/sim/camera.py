"""The camera on the person's head: picture, depth and masks of a state.

From a seed to a question: after sim/opengl.py or sim/raycast.py, before questions/frame_wordings.py.
"""

from dataclasses import dataclass
from typing import Self

import cv2
import numpy as np

from m3et_ros.data.frame import UNLABELLED
from m3et_ros.data.kitchen.sim.episode import Episode
from m3et_ros.data.kitchen.sim.opengl import OpenGLRenderer
from m3et_ros.data.kitchen.sim.raycast import RayCaster
from m3et_ros.data.kitchen.sim.renderers import choose_backend
from m3et_ros.data.kitchen.sim.vocabulary import CLASS_OF
from m3et_ros.data.kitchen.sim.world import ActionLabel, WorldState


@dataclass(frozen=True)
class Observation:
    """The camera's data at one tick."""

    # Colours, (H, W, 3) uint8, R G B.
    rgb: np.ndarray
    # Metres along the optical axis, (H, W) float32, NaN out of range (REP 118).
    depth: np.ndarray
    # Index into vocabulary.CLASSES, (H, W) uint8, 255 where unlabelled.
    semantic: np.ndarray
    # Position in Episode.instances counted from 1, (H, W) uint16, 0 for none.
    instance: np.ndarray
    # Pinhole intrinsics (3, 3) in pixels; the centre of the first pixel is (0, 0).
    K: np.ndarray
    # State of the world, including the camera's pose, the stamp and the actions.
    state: WorldState

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
    """Return the pinhole matrix (3, 3) of square pixels for a vertical field of view in degrees."""
    focal = 0.5 * height / np.tan(np.radians(fovy) / 2)
    return np.array([[focal, 0, (width - 1) / 2], [0, focal, (height - 1) / 2], [0, 0, 1]])


class Camera:
    """Render an episode. Use it as a context manager or close it.

    Args:
        episode: episode to render.
        backend: 'auto', 'egl', 'osmesa' or 'raycast'; see renderers.choose_backend.
        shadows: the lamp casts shadows; None draws them in the kitchens that have them. Without them OpenGL in software
            takes less than half the time. The ray caster never draws them.

    Raises:
        ValueError: no backend has this name.
        RuntimeError: the backend does not work here.
    """

    def __init__(self, episode: Episode, *, backend: str = 'auto', shadows: bool | None = None):
        self.episode, self.backend = episode, choose_backend(backend)
        self.K = intrinsics(episode.width, episode.height, episode.fovy)
        self._renderer: RayCaster | OpenGLRenderer
        if self.backend == 'raycast':
            self._renderer = RayCaster(episode.model, rays=pixel_rays(self.K, episode.width, episode.height))
        else:
            self._renderer = OpenGLRenderer(
                episode.model,
                platform=self.backend,
                width=episode.width,
                height=episode.height,
                shadows=episode.scene.shadows if shadows is None else shadows,
            )
        self._tones = episode.scene.tone.table() if episode.scene.tone else None
        self._instance_of, self._class_of = _lookups(episode)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Free the renderer."""
        self._renderer.close()

    def observe(self, state: WorldState) -> Observation:
        """Render the state that Episode.run has just yielded.

        Raises:
            ValueError: the episode has advanced since.
        """
        if state.tick != self.episode.world.tick:
            raise ValueError(
                f'tick {state.tick} has passed, the episode is at tick {self.episode.world.tick}; '
                'observe each state before requesting the next'
            )
        rgb, depth, geoms = self._renderer.render(self.episode.data)
        if self._tones is not None:
            rgb = cv2.LUT(rgb, self._tones)
        instance = self._instance_of[geoms]
        return Observation(rgb, depth, self._class_of[instance], instance, self.K, state)


def pixel_rays(K: np.ndarray, width: int, height: int) -> np.ndarray:
    """Return the directions (H, W, 3) through the pixel centres with z = 1, in the optical frame."""
    u, v = np.meshgrid(np.arange(width), np.arange(height))
    return np.stack([(u - K[0, 2]) / K[0, 0], (v - K[1, 2]) / K[1, 1], np.ones(u.shape)], axis=-1)


def _lookups(episode: Episode) -> tuple[np.ndarray, np.ndarray]:
    """Return the lookup tables geom id -> instance (uint16, last for id -1) and instance -> class (uint8)."""
    model, number = episode.model, {name: i for i, name in enumerate(episode.instances, start=1)}
    instance_of = np.zeros(model.ngeom + 1, np.uint16)
    for geom in range(model.ngeom):
        body = model.geom_bodyid[geom]
        while body and model.body(body).name not in number:  # a finger belongs to the hand, a lever to the tap
            body = model.body_parentid[body]
        instance_of[geom] = number.get(model.body(body).name, 0)
    classes = [CLASS_OF[instance.noun] for instance in episode.instances.values()]
    return instance_of, np.array([UNLABELLED, *classes], np.uint8)
