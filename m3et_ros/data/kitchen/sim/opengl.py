"""The OpenGL renderer: colour, depth and geom ids in two passes.

From a seed to a question: after sim/renderers.py, before sim/camera.py; sim/raycast.py replaces it where OpenGL
does not work.
"""

import importlib
import os
from typing import Any

import numpy as np

from m3et_ros.data.kitchen.sim.episode import import_mujoco
from m3et_ros.data.kitchen.sim.renderers import environment

MAX_GEOMS = 2000


class OpenGLRenderer:
    """Render one model off screen through EGL or OSMesa. Use it from one thread and close it.

    Args:
        model: mujoco.MjModel.
        platform: 'egl' or 'osmesa', as renderers.choose_backend found it to work.
        width: width of the picture in pixels, at most that of the model's offscreen buffer.
        height: the same.
        shadows: the lamp casts shadows.
    """

    def __init__(self, model: Any, *, platform: str, width: int, height: int, shadows: bool = True):
        self.mujoco = mujoco = import_mujoco()
        os.environ.update(environment(platform))
        self._window = importlib.import_module(f'mujoco.{platform}').GLContext(width, height)
        self._window.make_current()
        self._context = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_100.value)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN.value, self._context)
        self._context.readDepthMap = mujoco.mjtDepthMap.mjDEPTH_ZEROFAR
        self._scene = mujoco.MjvScene(model, maxgeom=MAX_GEOMS)
        self._scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = shadows
        self._option, self._rect = mujoco.MjvOption(), mujoco.MjrRect(0, 0, width, height)
        self._view = mujoco.MjvCamera()
        self._view.type, self._view.fixedcamid = mujoco.mjtCamera.mjCAMERA_FIXED, model.camera('ego').id
        self._model = model
        self._near = model.vis.map.znear * model.stat.extent
        self._far = model.vis.map.zfar * model.stat.extent

    def render(self, data: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Render the current pose of a mujoco.MjData.

        Returns:
            Colour (H, W, 3) uint8, depth (H, W) float32 in metres (NaN: out of range) and geom ids (H, W) int32 (-1:
            none).

        Raises:
            RuntimeError: the renderer has been closed.
        """
        if self._window is None:
            raise RuntimeError('this renderer is closed; make a new camera')
        self._window.make_current()
        self.mujoco.mjv_updateScene(
            self._model, data, self._option, None, self._view, self.mujoco.mjtCatBit.mjCAT_ALL.value, self._scene
        )
        rgb = np.empty((self._rect.height, self._rect.width, 3), np.uint8)
        codes, depth = np.empty_like(rgb), np.empty(rgb.shape[:2], np.float32)
        self._draw(rgb, None)
        flags = self.mujoco.mjtRndFlag
        for flag in (flags.mjRND_SEGMENT, flags.mjRND_IDCOLOR):
            self._scene.flags[flag] = 1
        self._draw(codes, depth)  # this pass has no antialiasing, so that its depth never blends near and far
        for flag in (flags.mjRND_SEGMENT, flags.mjRND_IDCOLOR):
            self._scene.flags[flag] = 0
        return rgb[::-1].copy(), metric_depth(depth[::-1], self._near, self._far), self._geoms(codes[::-1])

    def close(self) -> None:
        """Free the context; OSMesa complains at exit if this is left to the interpreter."""
        if self._window is not None:
            self._window.make_current()
            self._context.free()
            self._window.free()
            self._window = None

    def _draw(self, colour: np.ndarray, depth: np.ndarray | None) -> None:
        """Render one pass and read it back, bottom row first."""
        self.mujoco.mjr_render(self._rect, self._scene, self._context)
        self.mujoco.mjr_readPixels(colour, depth, self._rect, self._context)

    def _geoms(self, codes: np.ndarray) -> np.ndarray:
        """Decode the colours (H, W, 3) of the id pass to geom ids (H, W)."""
        geom = self.mujoco.mjtObj.mjOBJ_GEOM
        table = np.full(self._scene.ngeom + 1, -1, np.int32)
        for shown in self._scene.geoms[: self._scene.ngeom]:
            if shown.segid >= 0 and shown.objtype == geom:
                table[shown.segid + 1] = shown.objid
        return table[codes.astype(np.int32) @ (1, 256, 65536)]


def metric_depth(depth: np.ndarray, near: float, far: float) -> np.ndarray:
    """Convert a reversed depth buffer (0 at the far plane, 1 at the near one) to float32 metres, NaN at 0."""
    metres = far * near / (depth * np.float32(far - near) + np.float32(near))
    return np.where(depth > 0, metres, np.float32(np.nan)).astype(np.float32)
