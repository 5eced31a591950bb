"""Build with pip: run the CMakeLists.txt that colcon runs and pack what it installs.

    pip install .                      ROS 2 Jazzy from PyPI wheels
    ROS_WHEELS=kilted pip install .    ROS 2 Kilted from PyPI wheels

A sourced ROS installation is not looked at: there `colcon build` is the way, and colcon never reads this file.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import ClassVar

from setuptools import Command, setup
from setuptools.command.build import build
from setuptools.dist import Distribution

ROOT = Path(__file__).resolve().parent
NAME = 'm3et_ros'
GENERATED = ('msg', 'srv', 'action')
# Lists of requirements/ that are extras of this name; `all` takes them together.
EXTRAS = (
    'sim',
    'train',
    'report',
    'view',
    'vlm',
    'networks',
    'lerobot',
    'kernels',
    'int8',
    'nyu',
    'ray',
    'mcp',
    'rerun',
    'foxglove',
    'examples',
)
DEFAULT_ROS = 'jazzy'
# What a Python user needs of the ament prefix: libraries, `ros2 run` executables, share files, index.
SHARE = f'share/{NAME}'
INDEX = 'share/ament_index/resource_index'
DATA = (
    'lib/*.so',
    f'lib/{NAME}/*',
    f'{SHARE}/package.xml',
    f'{INDEX}/packages/{NAME}',
    f'{INDEX}/rosidl_interfaces/{NAME}',
    *(f'{SHARE}/{folder}/**/*' for folder in ('config', 'examples', 'launch', *GENERATED)),
)


def chosen_ros() -> str:
    """Return the ROS distribution whose wheels are used, from ROS_WHEELS; raises SystemExit on an unknown name."""
    distributions = sorted(path.name.removesuffix('-build.txt') for path in ROOT.glob('requirements/*-build.txt'))
    chosen = os.environ.get('ROS_WHEELS') or DEFAULT_ROS
    if chosen not in distributions:
        raise SystemExit(f'ROS_WHEELS={chosen}: there are wheels for {", ".join(distributions)} only; set one of them.')
    return chosen


def requirements(name: str) -> list[str]:
    """Return the lines of requirements/<name>.txt without comments."""
    lines = (ROOT / 'requirements' / f'{name}.txt').read_text().splitlines()
    return [line for line in lines if line and not line.startswith('#')]


def wheels_prefix() -> str:
    """Return the prefix that the ROS wheels were installed to."""
    import ament_package

    return str(Path(ament_package.__file__).resolve().parents[4])


class BuildInterfaces(Command):
    """Generate and compile the ROS interfaces, and lay them beside the hand-written modules."""

    description = 'generate and compile the ROS interfaces'
    user_options: ClassVar = [('build-lib=', None, 'where the package is built')]
    editable_mode = False

    def initialize_options(self):
        """Set the options to unknown, as setuptools asks."""
        self.build_lib = None

    def finalize_options(self):
        """Take the folder of the Python build."""
        self.set_undefined_options('build_py', ('build_lib', 'build_lib'))

    def run(self):
        """Compile into build/ros, copy the generated modules and list the share files."""
        stage = ROOT / 'build' / 'ros'
        shutil.rmtree(stage, ignore_errors=True)
        self.compile(stage)
        self.copy_modules(stage / 'python' / NAME, (ROOT if self.editable_mode else Path(self.build_lib)) / NAME)
        for path in (p for pattern in DATA for p in sorted(stage.glob(pattern)) if p.is_file()):
            self.distribution.data_files.append((str(path.parent.relative_to(stage)), [str(path.relative_to(ROOT))]))

    def compile(self, stage):
        """Run CMake in a temporary folder: under build isolation a lasting one would name deleted folders."""
        from cmake import CMAKE_BIN_DIR  # the wheel: without an active environment it is not on PATH

        prefix = wheels_prefix()
        env = dict(
            os.environ, AMENT_PREFIX_PATH=prefix, CMAKE_PREFIX_PATH=prefix, PATH=f'{CMAKE_BIN_DIR}:{os.environ["PATH"]}'
        )
        with tempfile.TemporaryDirectory() as folder:
            subprocess.run(
                [
                    'cmake',
                    '-S',
                    ROOT,
                    '-B',
                    folder,
                    '-DCMAKE_BUILD_TYPE=Release',
                    '-DBUILD_TESTING=OFF',
                    f'-DCMAKE_INSTALL_PREFIX={stage}',
                    f'-DPython3_EXECUTABLE={sys.executable}',
                    '-DPYTHON_INSTALL_DIR=python',
                    '-DEXECUTABLE_INTERPRETER=/usr/bin/env python3',
                    f'-DCMAKE_PROJECT_INCLUDE={ROOT}/cmake/ros_wheels.cmake',
                ],
                env=env,
                check=True,
            )
            subprocess.run(
                ['cmake', '--build', folder, '--target', 'install', '--parallel', str(os.cpu_count())],
                env=env,
                check=True,
            )

    @staticmethod
    def copy_modules(source, target):
        """Replace the generated modules and extensions in `target` by those in `source`."""
        for part in GENERATED:
            shutil.rmtree(target / part, ignore_errors=True)
        for path in [*source.glob('*.so'), *(p for part in GENERATED for p in (source / part).rglob('*.py'))]:
            copy = target / path.relative_to(source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, copy)

    def get_source_files(self):
        """Return nothing: MANIFEST.in lists the sources."""
        return []

    def get_outputs(self):
        """Return nothing: the wheel is packed from the build folder and the data files."""
        return []

    def get_output_mapping(self):
        """Return nothing: in editable mode the generated modules stand in the source package itself."""
        return {}


class BinaryDistribution(Distribution):
    """A distribution with compiled modules and data files."""

    def has_ext_modules(self):
        """Return True: the wheel is for one interpreter."""
        return True

    def has_data(self):
        """Say whether there are data files; under this name setuptools asks, and so packs them for `pip install -e`."""
        return self.has_data_files()


build.sub_commands = [*build.sub_commands, ('build_interfaces', None)]
setup(
    distclass=BinaryDistribution,
    cmdclass={'build_interfaces': BuildInterfaces},
    data_files=[],
    # Wheels of two distributions need other packages, so they must not have one name: 0.1.0 and 0.1.0+kilted.
    options={} if chosen_ros() == DEFAULT_ROS else {'egg_info': {'tag_build': f'+{chosen_ros()}'}},
    setup_requires=requirements(f'{chosen_ros()}-build'),
    install_requires=requirements('run') + requirements(chosen_ros()),
    extras_require={
        **{name: requirements(name) for name in EXTRAS},
        'all': [line for name in EXTRAS for line in requirements(name)],
        'test': requirements('test') + requirements(f'{chosen_ros()}-build'),
    },
)
