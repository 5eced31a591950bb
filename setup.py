"""Build with pip: runs the CMakeLists.txt that colcon runs and packs what it installs.

colcon never reads this file (package.xml says ament_cmake)."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from setuptools import Command, setup
from setuptools.command.build import build
from setuptools.dist import Distribution

ROOT = Path(__file__).resolve().parent
NAME = 'm3et_ros'
GENERATED = ('msg', 'srv', 'action')
# What a Python user needs of the ament prefix: libraries, `ros2 run` executables, share files, index.
DATA = ('lib/*.so', f'lib/{NAME}/*', f'share/{NAME}/package.xml', f'share/{NAME}/msg/*', f'share/{NAME}/srv/*', f'share/{NAME}/action/*',
        f'share/{NAME}/launch/*.py', f'share/{NAME}/config/*', f'share/ament_index/resource_index/packages/{NAME}',
        f'share/ament_index/resource_index/rosidl_interfaces/{NAME}')


def ament_prefixes():
    """A sourced ROS installation, or else the prefix the ROS wheels were installed to."""
    if os.environ.get('AMENT_PREFIX_PATH'):
        return os.environ['AMENT_PREFIX_PATH']
    import ament_package
    return str(Path(ament_package.__file__).resolve().parents[4])


class BuildInterfaces(Command):
    description = 'generate and compile the ROS interfaces'
    user_options = [('build-lib=', None, 'where the package is built')]
    editable_mode = False

    def initialize_options(self):
        self.build_lib = None

    def finalize_options(self):
        self.set_undefined_options('build_py', ('build_lib', 'build_lib'))

    def run(self):
        stage = ROOT / 'build' / 'ros'
        shutil.rmtree(stage, ignore_errors=True)
        prefixes = ament_prefixes()
        env = dict(os.environ, AMENT_PREFIX_PATH=prefixes, CMAKE_PREFIX_PATH=prefixes)
        with tempfile.TemporaryDirectory() as folder:
            subprocess.run(
                ['cmake', '-S', ROOT, '-B', folder, '-DCMAKE_BUILD_TYPE=Release', '-DBUILD_TESTING=OFF',
                 f'-DCMAKE_INSTALL_PREFIX={stage}', f'-DPython3_EXECUTABLE={sys.executable}',
                 '-DPYTHON_INSTALL_DIR=python', '-DCMAKE_POLICY_VERSION_MINIMUM=3.10',
                 f'-DCMAKE_PROJECT_INCLUDE={ROOT}/cmake/ros_wheels.cmake'],
                env=env, check=True)
            subprocess.run(['cmake', '--build', folder, '--target', 'install', '-j2'], env=env, check=True)

        source, target = stage / 'python' / NAME, (ROOT if self.editable_mode else Path(self.build_lib)) / NAME
        for part in GENERATED:
            shutil.rmtree(target / part, ignore_errors=True)
        for path in [*source.glob('*.so'), *(p for g in GENERATED for p in (source / g).rglob('*.py'))]:
            copy = target / path.relative_to(source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, copy)
        for path in (p for pattern in DATA for p in sorted(stage.glob(pattern))):
            self.distribution.data_files.append(
                (str(path.parent.relative_to(stage)), [str(path.relative_to(ROOT))]))

    def get_source_files(self):
        folders = ('msg', 'srv', 'action', 'launch', 'config', 'cmake')
        files = ['CMakeLists.txt', 'package.xml', f'resource/{NAME}']
        return files + [str(p.relative_to(ROOT)) for f in folders for p in (ROOT / f).glob('*.*')]

    def get_outputs(self):
        return []

    def get_output_mapping(self):
        return {}


class BinaryDistribution(Distribution):
    def has_ext_modules(self):
        return True

    def has_data(self):  # setuptools asks for this name and so leaves data_files out of `pip install -e`
        return self.has_data_files()


build.sub_commands = [*build.sub_commands, ('build_interfaces', None)]
setup(distclass=BinaryDistribution, cmdclass={'build_interfaces': BuildInterfaces}, data_files=[])
