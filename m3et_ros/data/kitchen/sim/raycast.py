"""The ray caster: colour, depth and geom ids without OpenGL, in flat colours and with exact depth.

From a seed to a question: after sim/renderers.py, before sim/camera.py, in the place of sim/opengl.py.
"""

from typing import Any

import numpy as np

from m3et_ros.data.kitchen.sim.episode import import_mujoco

AMBIENT, HEADLIGHT, LAMP = 0.46, 0.26, 0.24
"""Light from all sides, from the camera and from the first light of the model."""

UNSET = 0.5
"""R, G and B of a geom whose colour MuJoCo takes from its material."""


class RayCaster:
    """Render one model with one ray per pixel.

    Args:
        model: mujoco.MjModel.
        rays: (H, W, 3) directions in the optical frame of the camera with z = 1, so that distances are depths.
    """

    def __init__(self, model: Any, *, rays: np.ndarray):
        self.mujoco, self._model = import_mujoco(), model
        self._shape, self._rays = rays.shape, rays.reshape(-1, 3)
        self._camera = model.camera('ego').id
        self._materials = mean_colours(model)
        self._far = model.vis.map.zfar * model.stat.extent

    def render(self, data: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Render the current pose of a mujoco.MjData.

        Returns:
            Colour (H, W, 3) uint8, depth (H, W) float32 in metres (NaN: out of range) and geom ids (H, W) int32 (-1:
            none).
        """
        origin = data.cam_xpos[self._camera]
        turn = data.cam_xmat[self._camera].reshape(3, 3) * (1, -1, -1)
        rays = self._rays @ turn.T
        count = len(rays)
        geoms, depth = np.empty((count, 1), np.int32), np.empty((count, 1))
        normals = np.zeros((3 * count, 1))
        self.mujoco.mj_multiRay(
            self._model,
            data,
            origin[:, None],
            rays.reshape(-1, 1),
            None,
            True,
            -1,
            geoms,
            depth,
            normals,
            count,
            self._far,
        )
        geoms, depth, normals = geoms[:, 0], depth[:, 0], normals.reshape(-1, 3)
        rgb = self._shade(data, geoms, origin + rays * depth[:, None], rays, normals)
        in_range = np.where((geoms >= 0) & (depth < self._far), depth, np.nan).astype(np.float32)
        shape = self._shape[:2]
        return rgb.reshape(self._shape), in_range.reshape(shape), geoms.reshape(shape)

    def close(self) -> None:
        """Do nothing: a ray caster holds no context."""

    def _shade(
        self, data: Any, geoms: np.ndarray, points: np.ndarray, rays: np.ndarray, normals: np.ndarray
    ) -> np.ndarray:
        """Shade hits (P,) at points (P, 3) by Lambert's law; returns (P, 3) uint8."""
        toward = rays / np.linalg.norm(rays, axis=1, keepdims=True)
        facing = np.einsum('pi,pi->p', normals, toward)
        normals = np.where(facing[:, None] > 0, -normals, normals)
        to_lamp = data.light_xpos[0] - points
        to_lamp /= np.linalg.norm(to_lamp, axis=1, keepdims=True)
        lamp = np.clip(np.einsum('pi,pi->p', normals, to_lamp), 0, 1)
        light = AMBIENT + HEADLIGHT * np.abs(facing) + LAMP * lamp
        material = self._model.geom_matid[:, None]
        own = self._model.geom_rgba[:, :3]
        level = np.where((own == UNSET).all(axis=1, keepdims=True), 1, own)  # a coat of a material
        colours = np.where(material >= 0, self._materials[material[:, 0]] * level, own)
        colours = np.vstack([colours, np.zeros(3)])  # black for geom -1
        return (255 * np.clip(colours[geoms] * light[:, None], 0, 1)).astype(np.uint8)


def mean_colours(model: Any) -> np.ndarray:
    """Return the mean R G B of each material's texture, (materials, 3) in 0..1."""
    role = import_mujoco().mjtTextureRole.mjTEXROLE_RGB.value
    colours = model.mat_rgba[:, :3].copy()
    for material, texture in enumerate(model.mat_texid[:, role]):
        if texture >= 0:
            start, channels = model.tex_adr[texture], model.tex_nchannel[texture]
            size = model.tex_height[texture] * model.tex_width[texture] * channels
            pixels = model.tex_data[start : start + size].reshape(-1, channels)
            colours[material] *= pixels[:, :3].mean(axis=0) / 255
    return colours
