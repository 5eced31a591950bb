"""m3et doctor: what it reports on this machine, as JSON and for people."""

import json
import os
import subprocess
import sys

import pytest

from m3et_ros.cli.doctor import probes
from m3et_ros.cli.doctor.app import format_fact
from m3et_ros.cli.main import main


@pytest.fixture(scope='module')
def examined():
    """Facts and findings of the doctor on this machine."""
    with pytest.MonkeyPatch.context() as patch:
        # The doctor prepares the middleware as a node would; nothing of it may stay behind.
        patch.setattr(os, 'environ', os.environ.copy())
        return probes.examine()


def test_this_machine_is_healthy(border, capsys, examined):
    border('m3et_ros.cli.doctor.probes.examine', examined)
    assert main(['doctor', '--json']) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts['healthy'] and not [f for f in facts['findings'] if f['level'] == 'error']
    assert facts['machine']['executable'] == sys.executable
    assert {kernel['op'] for kernel in facts['compute']['kernels']} == {'selective_scan', 'ssd'}
    assert facts['compute']['runtimes'].keys() == {'torch', 'compile', 'openvino', 'cuda'}
    assert facts['compute']['runtimes']['torch'] == 'ready'
    assert facts['ros']['distribution'] and facts['ros']['rmw'] and 'Fast DDS' in facts['ros']['profile']
    assert facts['graphics']['backend'] in ('egl', 'osmesa', 'raycast')
    assert facts['machine']['shared_memory']['bytes'] > 0


def test_something_broken_is_reported_with_exit_code_one(border, capsys):
    findings = [probes.Finding('error', 'tokenizers cannot be imported', 'pip install tokenizers')]
    border('m3et_ros.cli.doctor.probes.examine', ({}, findings))
    assert main(['doctor']) == 1
    printed = capsys.readouterr().out
    assert 'ERROR: tokenizers cannot be imported. Fix: pip install tokenizers.' in printed
    assert 'Broken and needed: 1.' in printed


@pytest.mark.parametrize(
    ('name', 'value', 'text'),
    [
        ('kernels', [{'op': 'ssd', 'kernel': 'cpp', 'reason': 'built'}], 'ssd: cpp (built)'),
        ('shared_memory', {'free': 64 * 2**20, 'bytes': 256 * 2**20}, '64 of 256 MB free'),
        ('shared_memory', None, 'none'),
        ('kernels', {'version': None, 'for': 'fused scans'}, 'not installed; used for fused scans'),
        ('mujoco', {'version': '3.1', 'for': 'the kitchen'}, '3.1'),
        ('mujoco', {'version': None, 'for': 'the kitchen'}, 'not installed; used for the kitchen'),
        ('why_not', {}, 'none'),
        ('why_not', {'egl': 'no device', 'osmesa': 'no library'}, 'egl: no device; osmesa: no library'),
        ('interfaces', True, 'yes'),
        ('interfaces', False, 'no'),
        ('devices', [], 'none'),
        ('devices', ['A', 'B'], 'A, B'),
        ('cuda', None, 'none'),
        ('threads', 2, '2'),
    ],
)
def test_facts_as_text(name, value, text):
    assert format_fact(name, value) == text


def test_every_kernel_has_a_line():
    kernels = [{'op': op, 'kernel': 'cpp', 'reason': 'built'} for op in ('ssd', 'selective_scan')]
    assert format_fact('kernels', kernels).splitlines()[1].strip() == 'selective_scan: cpp (built)'


def test_for_people_every_topic_is_printed_and_the_verdict_is_last(border, capsys, examined):
    border('m3et_ros.cli.doctor.probes.examine', examined)
    assert main(['doctor']) == 0
    lines = capsys.readouterr().out.splitlines()
    assert {'machine', 'package', 'libraries', 'compute', 'ros', 'graphics', 'extras'} <= set(lines)
    assert lines[-1] == 'Everything needed works.'


def test_a_foreign_environment_is_named_and_the_doctor_runs_to_its_end():
    odd = {'RMW_IMPLEMENTATION': 'rmw_nosuch_cpp', 'ROS_DOMAIN_ID': 'abc', 'HOME': '/proc/nohome'}
    line = [sys.executable, '-m', 'm3et_ros.cli.main', 'doctor']
    done = subprocess.run(line, env=os.environ | odd, capture_output=True, text=True, timeout=120)
    lines = done.stdout.splitlines()
    assert done.returncode == 1 and 'Traceback' not in done.stderr
    assert lines[0] == 'environment' and '  RMW_IMPLEMENTATION rmw_nosuch_cpp' in lines and 'extras' in lines
    assert any(line.startswith('WARNING: RMW_IMPLEMENTATION is rmw_nosuch_cpp') for line in lines)
    assert any(line.startswith('WARNING: the log folder /proc/nohome/.ros/log') for line in lines)
    assert any(line.startswith("ERROR: ROS_DOMAIN_ID is 'abc'") for line in lines)
    assert lines[-1] == 'Broken and needed: 1.'
