"""The decisions of the set-up of `make demo` and `make test`; under make the set-up itself has already run.

Run: python -m pytest test/packaging/test_set_up.py
"""

import argparse
import importlib.util
import os
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
spec = importlib.util.spec_from_file_location('set_up_script', ROOT / 'scripts' / 'set_up.py')
script = importlib.util.module_from_spec(spec)
sys.modules[spec.name] = script
spec.loader.exec_module(script)


@pytest.fixture
def options(tmp_path, monkeypatch):
    """Return options for an existing, empty virtual environment; the log goes elsewhere."""
    (tmp_path / 'venv' / 'bin').mkdir(parents=True)
    (tmp_path / 'venv' / 'bin' / 'pip').touch()
    monkeypatch.setattr(script, 'LOG', tmp_path / 'build' / 'log')
    return argparse.Namespace(venv=tmp_path / 'venv', ros='jazzy', tests=False, torch_index='https://index.invalid/cpu')


def titles(options, stamp, **changed):
    """Return the remaining steps from `stamp` to a wanted state in which the parts `changed` differ."""
    wanted = {'ros': 'jazzy', 'package': 'a', 'locks': ['b', 'c'], **changed}
    return [step.title for step in script.steps_for(options, stamp, wanted)]


def test_second_start_has_nothing_to_do(options):
    for lock in ('b', 'c'):
        assert titles(options, {'ros': 'jazzy', 'package': 'a', 'lock': lock}) == []


def test_changed_interface_builds_the_package_only(options):
    assert titles(options, {'ros': 'jazzy', 'package': 'old', 'lock': 'b'}) == [
        'interfaces and package',
        'native scans',
    ]


def test_changed_pins_install_torch_from_the_given_index_first(options):
    steps = script.steps_for(options, {'package': 'a', 'lock': 'old'}, {'package': 'a', 'locks': ['b']})
    assert [step.title for step in steps] == [
        'torch',
        'Python packages and ROS 2 wheels',
        'interfaces and package',
        'native scans',
    ]
    assert steps[0].command[-3:] == ['--index-url', options.torch_index, 'torch>=2.6,<=2.13.0']
    assert steps[1].command[-4:] == ['--no-deps', '--require-hashes', '-r', 'requirements/lock/jazzy.txt']


def test_the_environment_of_the_tests_serves_the_demo_but_not_the_other_way_round(options, monkeypatch):
    asked = []
    monkeypatch.setattr(script, 'steps_for', lambda options, stamp, wanted: asked.append(wanted) or [])
    for options.tests in (False, True):
        script.set_up(options)
    demo, tests = (wanted['locks'] for wanted in asked)
    assert demo == [script.lock_checksum('jazzy-test'), script.lock_checksum('jazzy')] and tests == demo[:1]


def test_missing_environment_is_made_before_anything_is_installed(options):
    (options.venv / 'bin' / 'pip').unlink()
    left = titles(options, {})
    assert left.index('virtual environment venv') < left.index('torch')


def test_another_distribution_in_the_environment_is_refused(options):
    (options.venv / 'm3et_set_up.json').write_text('{"ros": "kilted"}')
    with pytest.raises(script.SetUpError, match='holds ROS kilted.*VENV=.venv-jazzy'):
        script.set_up(options)


def test_an_environment_of_another_python_is_refused(options):
    own = '.'.join(map(str, sys.version_info[:2]))
    settings = options.venv / 'pyvenv.cfg'
    settings.write_text('home = /usr/bin\nversion = 3.9.2\n')
    with pytest.raises(script.SetUpError, match=f'made by Python 3.9, .*PYTHON=python3.9, or add VENV=.venv-{own} to'):
        script.set_up(options)
    settings.write_text(f'version = {own}.99\n')
    assert script.python_of(options.venv) == own


def test_unknown_distribution_is_refused(options):
    options.ros = 'humble'
    with pytest.raises(script.SetUpError, match='no wheels are listed for ROS "humble": give jazzy or kilted'):
        script.set_up(options)


def test_packages_are_named_if_the_user_may_not_install_them(monkeypatch):
    monkeypatch.setattr(script, 'missing_packages', lambda: (['python3-venv'], ['libosmesa6']))
    monkeypatch.setattr(script, 'apt_get', lambda: None)
    with pytest.raises(script.SetUpError, match='run `apt-get install python3-venv libosmesa6` as root'):
        script.system_steps()


def test_a_missing_renderer_is_reported_without_stopping(monkeypatch, capsys):
    monkeypatch.setattr(script, 'missing_packages', lambda: ([], ['libosmesa6']))
    monkeypatch.setattr(script, 'apt_get', lambda: None)
    assert script.system_steps() == []
    assert 'ray caster' in capsys.readouterr().out


def test_a_step_that_outlasts_its_estimate_is_said_to():
    progress = script.Progress([script.Step('one', 400, []), script.Step('two', 40, [])])
    assert progress.left(0, progress.started).startswith('about ')
    progress.started -= 600  # as if the first step had begun ten minutes ago
    assert progress.left(0, progress.started) == 'longer than usual, at least 45'


def test_failed_step_stops_with_the_end_of_its_output(options, capsys):
    steps = [
        script.Step('optional', 1, [sys.executable, '-c', 'raise SystemExit(3)'], 'done without it'),
        script.Step('needed', 1, [sys.executable, '-c', 'print("the reason"); raise SystemExit(3)']),
        script.Step('never', 1, [sys.executable, '-c', 'pass']),
    ]
    with pytest.raises(script.SetUpError, match='set-up stopped at "needed"(.|\n)*the reason'):
        script.Progress(steps).run(dict(os.environ))
    printed = capsys.readouterr().out
    assert 'done without it' in printed and 's left' in printed and 'never' not in printed


def test_checksum_follows_contents_and_names(tmp_path, monkeypatch):
    monkeypatch.setattr(script, 'ROOT', tmp_path)
    (tmp_path / 'a.txt').write_text('1')
    first = script.checksum(['*.txt'])
    (tmp_path / 'b.txt').write_text('')
    second = script.checksum(['*.txt'])
    (tmp_path / 'a.txt').write_text('2')
    assert len({first, second, script.checksum(['*.txt'])}) == 3
