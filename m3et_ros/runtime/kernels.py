"""The native scans and the native functions of images: find, build and load their libraries.

    m3et build kernels            # needs a C++ compiler, takes some seconds, writes to the cache

The libraries use the instructions that the CPU has. They are named after their source and the machine's architecture,
so that another version of the package never loads them.
"""

import ctypes
import hashlib
import logging
import os
import platform
import subprocess
from collections.abc import Callable
from pathlib import Path

from m3et_ros.data.errors import InputError
from m3et_ros.data.files import write_atomically
from m3et_ros.data.images import native as images
from m3et_ros.ops import dispatch, native
from m3et_ros.runtime.machine import cache, compiler, foreign, private_folder

LOG = logging.getLogger(__name__)
SOURCES = {'scans': Path(native.__file__).with_name('scans.cpp'), 'frames': images.SOURCE}
"""Source of each library."""
FLAGS = (
    '-O3',
    '-std=c++17',
    '-shared',
    '-fPIC',
    '-Wno-psabi',
    '-fno-math-errno',
    '-fno-trapping-math',
    '-ffp-contract=fast',
)
LIMIT_S = 1800


def library(name: str = 'scans') -> Path:
    """Return the path of a library, by its name in SOURCES, of this source and machine; it need not exist."""
    digest = hashlib.sha256(SOURCES[name].read_bytes() + ' '.join(FLAGS).encode()).hexdigest()[:12]
    return cache() / 'kernels' / f'{name}-{platform.machine()}-{digest}.so'


def build() -> Path:
    """Compile the libraries that do not exist; returns the path of the scans.

    Raises:
        InputError: there is no compiler, it failed, or the cache is not private.
    """
    private_folder(library().parent)
    for name in SOURCES:
        if not library(name).exists() or foreign(library(name)):
            _compile(name)
    return library()


def _compile(name: str) -> None:
    program = compiler()
    if program is None:
        raise InputError(
            'no_compiler',
            'There is no C++ compiler; install g++ (apt-get install g++) or name one in the environment variable CXX. '
            'The package runs without these kernels.',
        )
    try:
        with write_atomically(library(name)) as part:
            command = [program, *FLAGS, str(SOURCES[name]), '-o', str(part)]
            subprocess.run(command, check=True, capture_output=True, text=True, timeout=LIMIT_S)
            ctypes.CDLL(str(part))  # a library that this machine cannot open is dropped
    except (subprocess.SubprocessError, OSError) as error:
        output = (getattr(error, 'stderr', '') or str(error)).strip().splitlines()
        raise InputError(
            'kernel_build',
            f'{program} could not build the kernels ({output[0] if output else error}); the package runs without them.',
        ) from error


def use_built() -> bool:
    """Load the libraries that were built; returns whether the operators of scans use theirs.

    M3ET_KERNELS=off prevents loading.
    """
    if os.environ.get('M3ET_KERNELS') == 'off':
        return native.loaded()
    if not images.loaded():
        _load('frames', 'native functions of images', 'OpenCV serves', images.load)
    if not native.loaded() and _load('scans', 'native scans', 'the forms in torch serve', native.load):
        LOG.info('The native scans (%s) are used from %s.', native.instruction_set(), library().name)
        dispatch.forget()
    return native.loaded()


def _load(name: str, what: str, instead: str, load: Callable[[str], object]) -> bool:
    """Load a library if it was built and is our own; return whether it was."""
    path = library(name)
    if not path.exists():
        return False
    try:
        if reason := foreign(path):
            LOG.warning('The %s are not loaded: %s; %s.', what, reason, instead)
            return False
        load(str(path))
    except OSError as error:
        LOG.warning('The %s cannot be opened (%s); %s.', what, error, instead)
        return False
    return True
