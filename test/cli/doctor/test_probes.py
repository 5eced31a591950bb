"""Probes of the doctor: each defect becomes a finding with its fix, and no probe fails."""

import os
import shutil
import sys
from collections import namedtuple

import pytest

from m3et_ros.cli.doctor import probes
from m3et_ros.data.extras import EXTRAS


@pytest.fixture(autouse=True)
def unchanged_environment(monkeypatch):
    """The doctor prepares the middleware as a node would; nothing of it may stay behind."""
    monkeypatch.setattr(os, 'environ', os.environ.copy())


def test_a_library_that_cannot_be_imported_is_named_with_its_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, 'tokenizers', None)
    findings = probes.Diagnosis()
    assert probes.libraries(findings)['tokenizers'] is None
    assert [(f.level, 'tokenizers' in f.what, 'pip install' in f.fix) for f in findings] == [('error', True, True)]


def test_doctor_survives_without_torch_and_rclpy(monkeypatch):
    for name in ('torch', 'rclpy', 'm3et_ros.ros.process'):
        monkeypatch.setitem(sys.modules, name, None)
    found, findings = probes.examine()
    assert found['compute'] == {} and found['ros']['rclpy'] is None
    errors = ' '.join(f.what for f in findings if f.level == 'error')
    assert 'torch cannot be imported' in errors and 'rclpy does not work' in errors


def add_wheel(folder, name, version):
    info = folder / f'{name.replace("-", "_")}-{version}.dist-info'
    info.mkdir()
    (info / 'METADATA').write_text(f'Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n')


def test_two_distributions_in_one_venv_are_an_error(tmp_path, monkeypatch):
    add_wheel(tmp_path, 'ros-humble-rclpy', '3.3.0')
    monkeypatch.syspath_prepend(tmp_path)
    findings = probes.Diagnosis()
    probes.ros(findings)
    assert any('humble' in f.what and 'mixed' in f.what and f.level == 'error' for f in findings)


def test_a_core_package_of_another_version_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, 'path', [str(tmp_path)])
    add_wheel(tmp_path, 'ros-jazzy-std-srvs', '5.3.6')
    add_wheel(tmp_path, 'ros-std-srvs', '5.5.1')
    findings = probes.Diagnosis()
    assert probes.ros(findings)['distribution'] == 'jazzy'
    assert 'ros-std-srvs 5.5.1 is installed with ROS jazzy, whose version is 5.3.6' in [f.what for f in findings]


def levels(findings):
    return [finding.level for finding in findings]


@pytest.mark.parametrize(('free', 'expected'), [(256 * 2**20, []), (256 * 2**20 - 1, ['warning'])])
def test_shared_memory_below_its_limit_is_a_warning(monkeypatch, free, expected):
    usage = namedtuple('Usage', 'total used free')
    monkeypatch.setattr(shutil, 'disk_usage', lambda path: usage(2**30, 2**30 - free, free))
    findings = probes.Diagnosis()
    assert probes.machine(findings)['shared_memory'] == {'bytes': 2**30, 'free': free}
    assert levels(findings) == expected


def test_a_sourced_distribution_beside_wheels_is_a_warning(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, 'path', [str(tmp_path)])
    findings = probes.Diagnosis()
    monkeypatch.setenv('ROS_DISTRO', 'jazzy')
    found = probes.ros(findings)
    assert (found['distribution'], found['from'], levels(findings)) == ('jazzy', 'installation', [])
    add_wheel(tmp_path, 'ros-jazzy-std-srvs', '5.3.6')
    found = probes.ros(findings)
    assert (found['from'], levels(findings)) == ('wheels', ['warning'])
    assert 'two client libraries in one process break' in findings[0].what


def test_the_environment_of_ros_is_reported(monkeypatch):
    for name, value in (('ROS_DOMAIN_ID', '42'), ('ROS_AUTOMATIC_DISCOVERY_RANGE', 'SUBNET')):
        monkeypatch.setenv(name, value)
    found = probes.ros(probes.Diagnosis())
    assert (found['domain_id'], found['discovery_range']) == ('42', 'SUBNET')
    monkeypatch.delenv('ROS_DOMAIN_ID')
    monkeypatch.delenv('ROS_AUTOMATIC_DISCOVERY_RANGE')
    found = probes.ros(probes.Diagnosis())
    assert (found['domain_id'], found['discovery_range']) == ('0', 'SUBNET')


def test_missing_interfaces_are_an_error_that_names_a_missing_compiler(monkeypatch):
    monkeypatch.setitem(sys.modules, 'm3et_ros.msg', None)
    monkeypatch.setattr(shutil, 'which', lambda name: None)
    findings = probes.Diagnosis()
    found = probes.package(findings)
    assert not found['interfaces'] and found['compiler'] is None and levels(findings) == ['error']
    assert findings[0].fix.startswith('apt install g++ make, then pip install .')


def test_an_opencv_that_decodes_other_pixels_is_an_error(monkeypatch):
    import cv2

    findings = probes.Diagnosis()
    probes.libraries(findings)
    assert findings == []
    decode = cv2.imdecode
    monkeypatch.setattr(cv2, 'imdecode', lambda *arguments: decode(*arguments) + 1)
    probes.libraries(findings)
    assert levels(findings) == ['error'] and 'does not decode what it encoded' in findings[0].what


def test_without_a_simulator_graphics_are_a_warning(monkeypatch):
    monkeypatch.setitem(sys.modules, 'mujoco', None)
    monkeypatch.setitem(sys.modules, 'm3et_ros.data.kitchen.sim.episode', None)
    findings = probes.Diagnosis()
    assert probes.graphics(findings) == {'backend': None} and levels(findings) == ['warning']


def test_the_first_renderer_that_works_is_named_with_the_obstacles_of_better_ones(monkeypatch):
    pytest.importorskip('mujoco')
    from m3et_ros.data.kitchen.sim import renderers

    monkeypatch.setattr(renderers, 'obstacle', lambda name: '' if name == 'osmesa' else 'no device')
    findings = probes.Diagnosis()
    assert probes.graphics(findings) == {'backend': 'osmesa', 'why_not': {'egl': 'no device'}} and findings == []
    monkeypatch.setattr(renderers, 'obstacle', lambda name: 'no device')
    found = probes.graphics(findings)
    assert found['backend'] == 'raycast' and levels(findings) == ['warning']


def test_optional_modules_are_not_imported():
    found = probes.extras(probes.Diagnosis())
    assert found.keys() == probes.OPTIONAL.keys()
    assert all(one['for'] == probes.OPTIONAL[name] for name, one in found.items())


def test_the_modules_of_every_extra_are_reported():
    assert {module for _, modules in EXTRAS.values() for module in modules} <= probes.OPTIONAL.keys()


def test_a_probe_that_fails_becomes_a_warning(monkeypatch):
    def broken(findings):
        raise OSError('no such thing')

    monkeypatch.setattr(probes, 'PROBES', {'machine': broken, 'extras': probes.extras})
    facts, findings = probes.examine()
    assert facts['machine'] == {} and facts['extras'] and levels(findings) == ['warning']
    assert 'the probe of machine could not be examined (OSError: no such thing)' in findings[0].what


def test_the_environment_is_examined_first_and_each_trouble_is_a_finding(monkeypatch, tmp_path):
    from m3et_ros.ros import environment

    assert next(iter(probes.PROBES)) == 'environment'
    environment.settle.cache_clear()
    monkeypatch.setattr(environment, 'SHARED_MEMORY', tmp_path)
    findings = probes.Diagnosis()
    for name, value in (('RMW_IMPLEMENTATION', ''), ('ROS_DOMAIN_ID', '5'), ('ROS_AUTOMATIC_DISCOVERY_RANGE', '')):
        monkeypatch.setenv(name, value)
    monkeypatch.setenv('HOME', str(tmp_path))
    found = probes.environment(findings)
    assert findings == [] and found['ROS_DOMAIN_ID'] == '5' and found['HOME'] == str(tmp_path)
    environment.settle.cache_clear()
    environment.drop_middleware.cache_clear()
    monkeypatch.setattr(environment, 'DROPPED', {})
    monkeypatch.setenv('RMW_IMPLEMENTATION', 'rmw_nosuch_cpp')
    monkeypatch.setenv('ROS_DOMAIN_ID', 'abc')
    monkeypatch.setenv('ROS_AUTOMATIC_DISCOVERY_RANGE', 'OFF')
    assert probes.environment(findings)['RMW_IMPLEMENTATION'] == 'rmw_nosuch_cpp'
    environment.settle.cache_clear()
    environment.drop_middleware.cache_clear()
    assert levels(findings) == ['warning', 'warning', 'error']
    assert [word in finding.what for word, finding in zip(('rmw_nosuch', 'OFF', "'abc'"), findings, strict=True)]
    assert findings[2].fix == 'correct the variable or unset it, for domain 0'
