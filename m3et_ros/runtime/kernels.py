"""The native scans: find, build and load their library.

    m3et build kernels            # needs a C++ compiler, takes some seconds, writes to the cache

The library uses the instructions that the CPU has. It is named after its source and the machine's architecture, so
that another version of the package never loads it.
"""

import hashlib
import logging
import os
import platform
import subprocess
from pathlib import Path

from m3et_ros.data.errors import InputError
from m3et_ros.data.files import write_atomically
from m3et_ros.ops import dispatch, native
from m3et_ros.runtime.machine import cache, compiler, foreign, private_folder

LOG = logging.getLogger(__name__)
SOURCE = Path(native.__file__).with_name('scans.cpp')
FLAGS = ('-O3', '-std=c++17', '-shared', '-fPIC', '-Wno-psabi', '-fno-math-errno', '-ffp-contract=fast')
LIMIT_S = 1800


def library() -> Path:
    """Return the path of the library of this source and machine; it need not exist."""
    digest = hashlib.sha256(SOURCE.read_bytes() + ' '.join(FLAGS).encode()).hexdigest()[:12]
    return cache() / 'kernels' / f'scans-{platform.machine()}-{digest}.so'


def build() -> Path:
    """Compile the library unless it exists; returns its path.

    Raises:
        InputError: there is no compiler, it failed, or the cache is not private.
    """
    path, program = library(), compiler()
    private_folder(path.parent)
    if path.exists() and not foreign(path):
        return path
    if program is None:
        raise InputError(
            'no_compiler',
            'There is no C++ compiler; install g++ (apt-get install g++) or name one in the environment variable CXX. '
            'The package runs without these kernels.',
        )
    try:
        with write_atomically(path) as part:
            command = [program, *FLAGS, str(SOURCE), '-o', str(part)]
            subprocess.run(command, check=True, capture_output=True, text=True, timeout=LIMIT_S)
            native.load(str(part))  # a library that this machine cannot open is dropped
            native.unload()
    except (subprocess.SubprocessError, OSError) as error:
        output = (getattr(error, 'stderr', '') or str(error)).strip().splitlines()
        raise InputError(
            'kernel_build',
            f'{program} could not build the kernels ({output[0] if output else error}); the package runs without them.',
        ) from error
    return path


def use_built() -> bool:
    """Load the library if it was built; returns whether the operators use it. M3ET_KERNELS=off prevents loading."""
    if native.loaded() or os.environ.get('M3ET_KERNELS') == 'off':
        return native.loaded()
    path = library()
    if not path.exists():
        return False
    if reason := foreign(path):
        LOG.warning('The native scans are not loaded: %s; the forms in torch serve.', reason)
        return False
    try:
        LOG.info('The native scans (%s) are used from %s.', native.load(str(path)), path.name)
    except OSError as error:
        LOG.warning('The native scans cannot be opened (%s); the forms in torch serve.', error)
    dispatch.forget()
    return native.loaded()
