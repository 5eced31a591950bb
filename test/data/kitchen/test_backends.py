"""Which renderer is chosen, and what is said about it."""

import logging

import pytest

from m3et_ros.data.kitchen import backends

pytest.importorskip('mujoco')


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match='vulkan'):
        backends.choose_backend('vulkan')


def test_the_ray_caster_needs_no_trial(caplog):
    backends._tell.cache_clear()
    with caplog.at_level(logging.INFO, backends.__name__):
        assert backends.choose_backend('raycast') == 'raycast'
        backends.choose_backend('raycast')  # said once
    assert [r.message for r in caplog.records] == ['the simulated kitchen is rendered with raycast']


def test_auto_takes_the_first_that_works():
    working = [name for name in backends.OPENGL if not backends.obstacle(name)]
    assert backends.choose_backend('auto') == [*working, 'raycast'][0]


def test_a_fallback_says_what_was_tried_and_why(monkeypatch, caplog):
    monkeypatch.setenv('MUJOCO_EGL_DEVICE_ID', '99')  # no machine has a hundred
    backends._try_in_child.cache_clear()
    backends._tell.cache_clear()
    try:
        assert backends.choose_backend('auto') in ('osmesa', 'raycast')
        with pytest.raises(RuntimeError, match='backend egl does not work here: .+apt install libegl1'):
            backends.choose_backend('egl')
    finally:
        backends._try_in_child.cache_clear()
    assert caplog.records[0].levelno == logging.WARNING
    assert '; egl does not work: ' in caplog.records[0].message
