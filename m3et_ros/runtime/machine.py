"""The cache folder, the C++ compiler and the CPU of this machine, for everything that compiles."""

import os
import platform
import shutil
from pathlib import Path

from m3et_ros.data.errors import InputError

COMPILERS = ('c++', 'g++', 'clang++')


def cache() -> Path:
    """Return the folder of compiled artefacts: $M3ET_CACHE, else m3et below the user's cache folder.

    Raises:
        InputError: 'cache_unwritable', no variable names one and the user has no home folder.
    """
    own = os.environ.get('M3ET_CACHE')
    try:
        return Path(own) if own else Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache') / 'm3et'
    except RuntimeError as error:
        raise InputError(
            'cache_unwritable', 'HOME is not set and this user has no home folder; name a folder in M3ET_CACHE.'
        ) from error


def private_folder(folder: Path) -> Path:
    """Create a folder of the cache that only this user may enter; returns it.

    Args:
        folder: below cache().

    Raises:
        InputError: 'cache_foreign', it or a folder on the way from cache() can be written by others;
            'cache_unwritable', it cannot be made.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if reason := foreign(folder):
            raise InputError('cache_foreign', f'{reason}; remove it, or name another folder in M3ET_CACHE.')
        folder.chmod(0o700)
    except OSError as error:
        raise InputError(
            'cache_unwritable',
            f'{folder} cannot be made ({error.strerror}); free some space or name another folder in M3ET_CACHE.',
        ) from error
    return folder


def foreign(path: Path) -> str:
    """Return the reason why code at a place must not be run: others may have put it there; '' where it may.

    Args:
        path: a file or folder of the cache that exists; the folders up to cache() are checked too.
    """
    if not hasattr(os, 'getuid'):
        return ''
    top = cache()
    for place in (path, *(parent for parent in path.parents if parent == top or top in parent.parents)):
        facts = place.stat()
        if facts.st_uid not in (0, os.getuid()):
            return f'{place} belongs to another user'
        if facts.st_mode & 0o022:
            return f'{place} can be written by other users'
    return ''


def compiler() -> str | None:
    """Return the path of a C++ compiler: $CXX, or the first of the usual names; None where there is none."""
    named = os.environ.get('CXX')
    return next((found for name in ([named] if named else COMPILERS) if (found := shutil.which(name))), None)


def cpu_facts() -> str:
    """Return model and instruction sets of the CPU."""
    try:
        lines = Path('/proc/cpuinfo').read_text().splitlines()
    except OSError:
        return platform.processor()
    return '\n'.join(dict.fromkeys(line for line in lines if line.startswith(('model name', 'flags', 'Features'))))


def lacks_vnni() -> bool:
    """Return True on an x86 CPU without the instructions for products in int8.

    There the sum of two products of 8 bits saturates at 16 bits, and int8 is slower than float32.
    """
    return platform.machine() == 'x86_64' and 'vnni' not in cpu_facts()
