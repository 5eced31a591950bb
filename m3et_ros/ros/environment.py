"""The environment of a process that uses ROS, checked before rclpy is imported, which this file does not do.

rcl ends the process while it is imported, or prints lines of its own, where a variable of the environment does not fit.
"""

import os
import pwd
import stat
import sys
import tempfile
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from m3et_ros.data.errors import InputError

MOST_DOMAIN = 232
"""Highest domain whose ports Fast DDS can compute."""
RANGES = ('SUBNET', 'LOCALHOST', 'OFF', 'SYSTEM_DEFAULT')
"""Values of ROS_AUTOMATIC_DISCOVERY_RANGE."""
SHARED_MEMORY = Path('/dev/shm')
UDP_PROFILE = 'fastdds_udp.xml'
DROPPED: dict[str, str] = {}
"""Variables that this process has dropped, with the values that they had."""


class Trouble(NamedTuple):
    """Something in the environment that is wrong."""

    # One sentence without its full stop: what, and what follows from it.
    what: str
    # The way to mend it, likewise.
    fix: str

    def __str__(self) -> str:
        return f'{self.what}; {self.fix}.'


@lru_cache(maxsize=1)
def drop_middleware() -> Trouble | None:
    """Drop a middleware that is not installed; rcl would end the process with code 102 when it is imported.

    This package calls it before anything of it imports rclpy; `settle` returns what was wrong for the log.
    """
    wanted = os.environ.get('RMW_IMPLEMENTATION')
    if not wanted:
        return None
    present = sorted(set(_installed_middlewares()))
    if wanted in present or not present:
        return None
    DROPPED['RMW_IMPLEMENTATION'] = os.environ.pop('RMW_IMPLEMENTATION')
    return Trouble(
        f'RMW_IMPLEMENTATION is {wanted}, which is not installed here, so {present[0]} is used instead; nodes on '
        'another middleware may not answer',
        'unset the variable, or start every node with the same middleware',
    )


@lru_cache(maxsize=1)
def settle() -> tuple[Trouble, ...]:
    """Change the environment where rcl would end the process, for this process and its children; once a process.

    Returns:
        What was wrong, for the user; a second call returns the same.
    """
    return tuple(trouble for trouble in (drop_middleware(), _log_folder(), _discovery()) if trouble)


def check_domain() -> None:
    """Refuse a domain that is none.

    Raises:
        InputError: ROS_DOMAIN_ID is no whole number from 0 to MOST_DOMAIN.
    """
    text = os.environ.get('ROS_DOMAIN_ID') or '0'
    if not (text.isascii() and text.isdigit() and int(text) <= MOST_DOMAIN):
        raise InputError(
            'environment',
            f'ROS_DOMAIN_ID is {text!r}, and a domain is a whole number from 0 to {MOST_DOMAIN}; correct the variable '
            'or unset it, for domain 0',
        )


def foreign_shared_memory() -> Trouble | None:
    """Return the trouble that nodes of another user make: neither can open the other's shared memory; None for none."""
    try:
        owners = {path.stat().st_uid for path in SHARED_MEMORY.glob('fastrtps_*')} - {os.getuid()}
    except OSError:
        return None
    if not owners:
        return None
    names = ', '.join(sorted(_user(number) for number in owners))
    return Trouble(
        f'nodes of another user ({names}) have shared memory in {SHARED_MEMORY}, which {_user(os.getuid())} and they '
        'cannot open for each other, so they find each other and no message arrives',
        f'start all nodes as one user, or give both sides the profile config/{UDP_PROFILE} in '
        'FASTRTPS_DEFAULT_PROFILES_FILE and FASTDDS_DEFAULT_PROFILES_FILE',
    )


def _user(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return f'user {number}'


def _installed_middlewares() -> Iterator[str]:
    """Yield the middlewares whose libraries lie where ROS looks: below the ament prefixes and this Python's prefix."""
    prefixes = [*os.environ.get('AMENT_PREFIX_PATH', '').split(os.pathsep), sys.prefix]
    folders = [Path(prefix) / 'lib' for prefix in prefixes if prefix]
    folders += [Path(folder) for folder in os.environ.get('LD_LIBRARY_PATH', '').split(os.pathsep) if folder]
    for folder in folders:
        for path in folder.glob('librmw_*_cpp.so'):
            name = path.name.removeprefix('lib').removesuffix('.so')
            if '__' not in name and not name.endswith('_shared_cpp'):
                yield name


def _log_folder() -> Trouble | None:
    """Let the log files go to the folder of temporary files where their own cannot be written; rcl would not start."""
    own, home = os.environ.get('ROS_LOG_DIR'), os.environ.get('ROS_HOME')
    base = home or (f'{os.environ["HOME"]}/.ros' if os.environ.get('HOME') else '')
    wanted = Path(own or f'{base}/log').expanduser() if own or base else None
    if wanted is not None and _writable(wanted):
        return None
    os.environ['ROS_LOG_DIR'] = _temporary_folder()
    problem = f'the log folder {wanted} cannot be written' if wanted else 'HOME is not set'
    return Trouble(
        f'{problem}, so ROS writes its log files to {os.environ["ROS_LOG_DIR"]}',
        'set HOME to a folder that you may write, or ROS_LOG_DIR to one for log files',
    )


def _temporary_folder() -> str:
    """Return the user's own folder for log files below the system's temporary files; a new one if somebody has that."""
    folder = Path(tempfile.gettempdir()) / f'm3et-log-{os.getuid()}'
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        state = folder.lstat()
    except OSError:
        return tempfile.mkdtemp(prefix='m3et-log-')
    ours = stat.S_ISDIR(state.st_mode) and state.st_uid == os.getuid() and not state.st_mode & 0o022
    return str(folder) if ours else tempfile.mkdtemp(prefix='m3et-log-')


def _writable(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK | os.X_OK)


def _discovery() -> Trouble | None:
    wanted = os.environ.get('ROS_AUTOMATIC_DISCOVERY_RANGE')
    if not wanted or (wanted in RANGES and wanted != 'OFF'):
        return None
    what = 'is OFF, so no node finds another one' if wanted == 'OFF' else f'is {wanted}, which is no range'
    return Trouble(
        f'ROS_AUTOMATIC_DISCOVERY_RANGE {what}', 'unset the variable, or give SUBNET (this network) or LOCALHOST'
    )
