"""Colour, depth and ids by OpenGL, in two passes."""

import importlib
import os

import numpy as np

from m3et_ros.data.kitchen.sim.episode import import_mujoco
from m3et_ros.data.kitchen.sim.renderers import environment

MAX_GEOMS = 2000


class OpenGLRenderer:
    """Renders one model off screen through EGL or OSMesa; use it from one thread and close it.

    Args:
        model: mujoco.MjModel.
        platform: 'egl' or 'osmesa', found to work by backends.choose_backend.
        width, height: pixels, at most the model's offscreen buffer.
        shadows: whether the lamp casts any.
    """

    def __init__(self, model, *, platform: str, width: int, height: int, shadows: bool = True):
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

    def render(self, data) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Colour (H, W, 3) uint8, depth (H, W) float32 metres (NaN: nothing), geom ids (H, W) int32 (-1: none).

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
        self._draw(codes, depth)  # without antialiasing, so that its depth has no blends between near and far
        for flag in (flags.mjRND_SEGMENT, flags.mjRND_IDCOLOR):
            self._scene.flags[flag] = 0
        return rgb[::-1].copy(), self._metres(depth[::-1]), self._geoms(codes[::-1])

    def close(self):
        """Free the context; OSMesa complains at exit when this is left to the interpreter."""
        if self._window is not None:
            self._window.make_current()
            self._context.free()
            self._window.free()
            self._window = None

    def _draw(self, colour, depth):
        """Render and read back, bottom row first."""
        self.mujoco.mjr_render(self._rect, self._scene, self._context)
        self.mujoco.mjr_readPixels(colour, depth, self._rect, self._context)

    def _metres(self, depth: np.ndarray) -> np.ndarray:
        """Undo the reversed projection (0 far, 1 near)."""
        metres = self._far * self._near / (depth * np.float32(self._far - self._near) + np.float32(self._near))
        return np.where(depth > 0, metres, np.float32(np.nan)).astype(np.float32)

    def _geoms(self, codes: np.ndarray) -> np.ndarray:
        """Colours of the id pass to geom ids."""
        geom = self.mujoco.mjtObj.mjOBJ_GEOM
        table = np.full(self._scene.ngeom + 1, -1, np.int32)
        for shown in self._scene.geoms[: self._scene.ngeom]:
            if shown.segid >= 0 and shown.objtype == geom:
                table[shown.segid + 1] = shown.objid
        return table[codes.astype(np.int32) @ (1, 256, 65536)]
