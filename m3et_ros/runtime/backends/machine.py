"""The cache folder and the C++ compiler of this machine, for everything that compiles."""

import os
import shutil
from pathlib import Path

COMPILERS = ('c++', 'g++', 'clang++')


def cache() -> Path:
    """Return the folder of compiled artefacts: $M3ET_CACHE, else m3et below the user's cache folder."""
    own = os.environ.get('M3ET_CACHE')
    return Path(own) if own else Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache') / 'm3et'


def compiler() -> str | None:
    """Return the path of a C++ compiler: $CXX, or the first of the usual names; None where there is none."""
    named = os.environ.get('CXX')
    return next((found for name in ([named] if named else COMPILERS) if (found := shutil.which(name))), None)
