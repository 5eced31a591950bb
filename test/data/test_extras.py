"""Extras that are absent: one sentence with the command that installs all of them."""

import sys

import pytest

from m3et_ros.data.errors import InputError
from m3et_ros.data.extras import EXTRAS, require
from m3et_ros.data.kitchen.sim.episode import import_mujoco


def test_what_is_installed_passes():
    require(*set(EXTRAS) - {'rerun'})  # 170 MB that the tests do without


def test_every_absent_extra_is_named_in_one_command(monkeypatch):
    for module in ('mujoco', 'matplotlib', 'jinja2'):
        monkeypatch.setitem(sys.modules, module, None)
    require('train')
    with pytest.raises(InputError) as refused:
        require('sim', 'train', 'report')
    assert refused.value.reason == 'needs_extra'
    assert str(refused.value) == (
        'The simulated kitchen needs mujoco and a report needs matplotlib and jinja2, which cannot be imported; '
        "run pip install 'm3et_ros[sim,report]'."
    )


def test_the_kitchen_names_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, 'mujoco', None)
    with pytest.raises(InputError, match=r'm3et_ros\[sim\]'):
        import_mujoco()
