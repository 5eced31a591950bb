import json
import os
import sys

import pytest

from m3et_ros.cli.doctor import probes
from m3et_ros.cli.main import main


@pytest.fixture(autouse=True)
def unchanged_environment(monkeypatch):
    """The doctor prepares the middleware as a node would; nothing of it may stay behind."""
    monkeypatch.setattr(os, 'environ', os.environ.copy())


def test_this_machine_is_healthy(capsys):
    assert main(['doctor', '--json']) == 0
    found = json.loads(capsys.readouterr().out)
    assert found['healthy'] and not [f for f in found['findings'] if f['level'] == 'error']
    assert found['machine']['executable'] == sys.executable
    assert {kernel['op'] for kernel in found['compute']['kernels']} == {'selective_scan', 'ssd'}
    assert found['compute']['runtimes'].keys() == {'torch', 'compile', 'openvino', 'cuda'}
    assert found['compute']['runtimes']['torch'] == 'ready'
    assert found['ros']['distribution'] and found['ros']['rmw'] and 'Fast DDS' in found['ros']['profile']
    assert found['graphics']['backend'] in ('egl', 'osmesa', 'raycast')
    assert found['machine']['shared_memory']['bytes'] > 0


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


def test_a_core_package_of_another_distribution_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, 'path', [str(tmp_path)])
    add_wheel(tmp_path, 'ros-jazzy-std-srvs', '5.3.6')
    add_wheel(tmp_path, 'ros-std-srvs', '5.5.1')
    findings = probes.Diagnosis()
    assert probes.ros(findings)['distribution'] == 'jazzy'
    assert 'ros-std-srvs 5.5.1 is installed with ROS jazzy, whose version is 5.3.6' in [f.what for f in findings]


def test_something_broken_is_said_and_makes_exit_code_one(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, 'tokenizers', None)
    assert main(['doctor']) == 1
    shown = capsys.readouterr().out
    assert 'ERROR: tokenizers cannot be imported' in shown and 'Broken and needed: 1.' in shown
