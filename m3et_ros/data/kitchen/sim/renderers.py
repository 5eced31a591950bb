"""The choice of a renderer: EGL, OSMesa, or the ray caster that needs no OpenGL.

OpenGL is tried in a child process, because a platform stays loaded even if it fails: PyOpenGL binds to the platform of
its first import, and MuJoCo reads MUJOCO_GL when it makes its first context.

From a seed to a question: after sim/episode.py, before sim/opengl.py and sim/raycast.py.
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
"""OpenGL platform -> the Debian packages that provide it."""

TIMEOUT_S = 60

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
    """Return the environment variables by which MuJoCo and PyOpenGL find a platform."""
    return {'MUJOCO_GL': platform, 'PYOPENGL_PLATFORM': platform}


def _in_use() -> str:
    """Return the platform to which PyOpenGL has bound this process, or ''."""
    loaded = sys.modules.get('OpenGL.platform')
    return type(loaded.PLATFORM).__name__.removesuffix('Platform').lower() if loaded else ''


def obstacle(platform: str) -> str:
    """Return the reason why this process cannot use an OpenGL platform, or '' if it can."""
    if _in_use() not in ('', platform):
        return f'this process already uses {_in_use()}, and a process can use one OpenGL platform'
    return try_in_child(platform)


@functools.lru_cache
def try_in_child(platform: str) -> str:
    """Return the reason why a child process cannot open a context, or ''; tried once per process."""
    try:
        probe = subprocess.run(
            [sys.executable, '-c', PROBE, platform],
            env=os.environ | environment(platform),
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f'opening a context took more than {TIMEOUT_S} s'
    if probe.returncode == 0:
        return ''
    last = (probe.stderr.strip().splitlines() or [f'exit status {probe.returncode}'])[-1]
    return f'{last} (on Debian, apt install {REMEDY[platform]})'


def choose_backend(preferred: str = 'auto') -> str:
    """Return the renderer to use: 'egl', 'osmesa' or 'raycast'.

    Args:
        preferred: one of them, or 'auto' for the first that works, in this order. The log names those that do not
            work, with the reasons.

    Raises:
        ValueError: no backend has this name.
        RuntimeError: the preferred backend does not work here.
    """
    if preferred not in ('auto', *BACKENDS):
        raise ValueError(f'backend is {preferred!r}; give auto, {", ".join(BACKENDS)}')
    failed: dict[str, str] = {}
    by_use = sorted(BACKENDS, key=lambda name: name != _in_use())  # stay with the platform of the process
    for name in by_use if preferred == 'auto' else (preferred,):
        reason = obstacle(name) if name in OPENGL else ''
        if not reason:
            log_choice(name, tuple(failed.items()))
            return name
        failed[name] = reason
    raise RuntimeError(f'backend {preferred} does not work here: {failed[preferred]}; use auto or raycast')


@functools.lru_cache
def log_choice(name: str, failed: tuple[tuple[str, str], ...]) -> None:
    """Log once which renderer is used and what was tried before it; a second choice is a warning."""
    tried = ''.join(f'; {other} does not work: {reason}' for other, reason in failed)
    log.log(logging.WARNING if failed else logging.INFO, 'the simulated kitchen is rendered with %s%s', name, tried)
