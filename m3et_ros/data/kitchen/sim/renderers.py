"""Which renderer works here: EGL, OSMesa, or the ray caster that needs no OpenGL at all.

OpenGL is tried in a child process, because a platform that fails to load stays loaded: PyOpenGL binds to the platform
it finds at its first import, and MuJoCo looks MUJOCO_GL up when it makes its first context.
"""

import functools
import logging
import os
import subprocess
import sys

log = logging.getLogger(__name__)

OPENGL = ('egl', 'osmesa')
BACKENDS = (*OPENGL, 'raycast')

REMEDY = {'egl': 'libegl1 libgl1-mesa-dri libopengl0', 'osmesa': 'libosmesa6'}
"""Debian packages that bring a platform."""

PROBE = """
import importlib, mujoco, sys
model = mujoco.MjModel.from_xml_string('<mujoco><worldbody><geom size="1"/></worldbody></mujoco>')
window = importlib.import_module('mujoco.' + sys.argv[1]).GLContext(64, 64)
window.make_current()
context = mujoco.MjrContext(model, 100)
mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, context)
works = context.offFBO != 0
context.free()
window.free()
sys.exit(0 if works else 'no offscreen framebuffer')
"""


def environment(platform: str) -> dict[str, str]:
    """What MuJoCo and PyOpenGL read to find a platform."""
    return {'MUJOCO_GL': platform, 'PYOPENGL_PLATFORM': platform}


def _in_use() -> str:
    """The platform PyOpenGL has bound this process to, or ''."""
    loaded = sys.modules.get('OpenGL.platform')
    return type(loaded.PLATFORM).__name__.removesuffix('Platform').lower() if loaded else ''


def obstacle(platform: str) -> str:
    """Why an OpenGL platform cannot be used in this process, or '' when it can."""
    if _in_use() not in ('', platform):
        return f'this process already uses {_in_use()}, and a process can use one OpenGL platform'
    return _try_in_child(platform)


@functools.lru_cache
def _try_in_child(platform: str) -> str:
    """Why a child process could not open a context, or ''; tried once per process."""
    try:
        probe = subprocess.run(
            [sys.executable, '-c', PROBE, platform],
            env=os.environ | environment(platform),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return 'opening a context took more than 60 s'
    if probe.returncode == 0:
        return ''
    last = (probe.stderr.strip().splitlines() or [f'exit status {probe.returncode}'])[-1]
    return f'{last} (on Debian, apt install {REMEDY[platform]})'


def choose_backend(preferred: str = 'auto') -> str:
    """The renderer to use: 'egl', 'osmesa' or 'raycast'.

    With 'auto' the first that works, in this order; what did not work is logged with the reason.

    Raises:
        ValueError: no backend has this name.
        RuntimeError: the backend asked for by name does not work here.
    """
    if preferred not in ('auto', *BACKENDS):
        raise ValueError(f'backend is {preferred!r}; give auto, {", ".join(BACKENDS)}')
    failed = {}
    by_use = sorted(BACKENDS, key=lambda name: name != _in_use())  # stay with what the process already uses
    for name in by_use if preferred == 'auto' else (preferred,):
        reason = obstacle(name) if name in OPENGL else ''
        if not reason:
            _tell(name, tuple(failed.items()))
            return name
        failed[name] = reason
    raise RuntimeError(f'backend {preferred} does not work here: {failed[preferred]}; use auto or raycast')


@functools.lru_cache
def _tell(name: str, failed: tuple[tuple[str, str], ...]):
    """Say once what renders and what was tried before; a second best is a warning."""
    tried = ''.join(f'; {other} does not work: {reason}' for other, reason in failed)
    log.log(logging.WARNING if failed else logging.INFO, 'the simulated kitchen is rendered with %s%s', name, tried)
