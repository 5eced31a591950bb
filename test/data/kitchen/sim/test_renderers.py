"""The choice of a renderer and its log line."""

import logging
import os
import subprocess
import sys

import pytest

from m3et_ros.data.kitchen import Camera, Episode
from m3et_ros.data.kitchen.sim import renderers

CHOOSE = """
import logging
logging.basicConfig(format='%(levelname)s %(message)s')
from m3et_ros.data.kitchen import choose_backend
print(choose_backend('auto'))
try:
    choose_backend('egl')
except RuntimeError as error:
    print(error)
"""


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match='vulkan'):
        renderers.choose_backend('vulkan')


def test_the_ray_caster_needs_no_trial(caplog):
    renderers.log_choice.cache_clear()
    with caplog.at_level(logging.INFO, renderers.__name__):
        assert renderers.choose_backend('raycast') == 'raycast'
        renderers.choose_backend('raycast')  # logged once
    assert [r.message for r in caplog.records] == ['the simulated kitchen is rendered with raycast']


def test_auto_takes_the_first_that_works():
    working = [name for name in renderers.OPENGL if not renderers.obstacle(name)]
    assert renderers.choose_backend('auto') == [*working, 'raycast'][0]


def test_one_process_keeps_to_one_platform():
    backend = renderers.choose_backend('auto')
    if backend == 'raycast':
        pytest.skip('neither EGL nor OSMesa opens a context on this machine')
    Camera(Episode(0, width=64, height=48), backend=backend).close()
    (other,) = set(renderers.OPENGL) - {backend}
    assert renderers.obstacle(other).startswith(f'this process already uses {backend}')
    assert renderers.choose_backend('auto') == backend


def test_a_fallback_says_what_was_tried_and_why():
    no_such_device = os.environ | {'MUJOCO_EGL_DEVICE_ID': '99'}
    done = subprocess.run(
        [sys.executable, '-c', CHOOSE], env=no_such_device, capture_output=True, text=True, check=True
    )
    chosen, refusal = done.stdout.splitlines()
    assert chosen in ('osmesa', 'raycast')
    assert done.stderr.startswith(f'WARNING the simulated kitchen is rendered with {chosen}; egl does not work: ')
    assert refusal.startswith('backend egl does not work here: ') and refusal.endswith('; use auto or raycast')


def test_a_platform_is_named_to_mujoco_and_to_pyopengl():
    assert renderers.environment('osmesa') == {'MUJOCO_GL': 'osmesa', 'PYOPENGL_PLATFORM': 'osmesa'}
    assert renderers.environment('egl') == {'MUJOCO_GL': 'egl', 'PYOPENGL_PLATFORM': 'egl'}


def test_a_failed_trial_names_the_debian_packages(monkeypatch):
    monkeypatch.setattr(renderers, 'PROBE', 'raise SystemExit("no display")')
    assert renderers.try_in_child.__wrapped__('osmesa') == 'no display (on Debian, apt install libosmesa6)'
    monkeypatch.setattr(renderers, 'PROBE', 'raise SystemExit(3)')
    assert renderers.try_in_child.__wrapped__('egl').startswith('exit status 3 (on Debian, apt install libegl1 ')


def test_a_trial_that_hangs_is_given_up(monkeypatch):
    monkeypatch.setattr(renderers, 'PROBE', 'import time; time.sleep(60)')
    monkeypatch.setattr(renderers, 'TIMEOUT_S', 0.5)
    assert renderers.try_in_child.__wrapped__('osmesa') == 'opening a context took more than 0.5 s'
