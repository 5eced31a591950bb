#!/usr/bin/env python3
"""Create the virtual environment of `make demo` and `make test`; a second run only compares checksums.

    python3 scripts/set_up.py [--tests] [--venv .venv] [--ros jazzy] [--torch-index URL]

It uses the standard library only, because it runs before anything is installed. The output of the tools goes to
build/set_up.log.
"""

import argparse
import ctypes.util
import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
LOG = ROOT / 'build' / 'set_up.log'
# Files that the environment holds as copies; after a change the package is built again.
BUILT_FROM = (
    'msg/*',
    'srv/*',
    'action/*',
    'launch/*',
    'config/**/*',
    'examples/*',
    'cmake/*',
    'CMakeLists.txt',
    'package.xml',
    'setup.py',
    'setup.cfg',
    'pyproject.toml',
)


class SetUpError(Exception):
    """The set-up cannot continue; the message says what is wrong and how to fix it."""


class Step(NamedTuple):
    """One command of the set-up; with `otherwise`, a failure only prints that sentence."""

    title: str
    seconds: float  # usual duration
    command: list[str]
    otherwise: str = ''


class Progress:
    """Runner of the steps that reports the time left, scaled by the real duration of finished steps."""

    def __init__(self, steps):
        self.steps = steps
        self.started = time.monotonic()
        self.on_terminal = sys.stdout.isatty()

    def run(self, environment):
        """Run every step; raise SetUpError with the end of the log if one fails."""
        LOG.parent.mkdir(exist_ok=True)
        with LOG.open('w') as log:
            for index, step in enumerate(self.steps):
                print('$', *step.command, file=log, flush=True)
                process = subprocess.Popen(
                    step.command, cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT
                )
                self.wait(index, process)
                if process.returncode and not step.otherwise:
                    raise SetUpError(self.failure(step))
                if process.returncode:
                    self.say(step.otherwise)
        self.say(f'set-up done in {time.monotonic() - self.started:.0f} s')

    def wait(self, index, process):
        """Report until the process ends: every second on a terminal, every 15 s in a log."""
        begun, reported = time.monotonic(), -1e9
        while process.poll() is None:
            now = time.monotonic()
            if now - reported >= (1 if self.on_terminal else 15):
                reported = now
                self.say(
                    f'set-up {index + 1}/{len(self.steps)}: {self.steps[index].title}, '
                    f'{self.left(index, begun)} s left',
                    end='' if self.on_terminal else '\n',
                )
            time.sleep(0.2)

    def left(self, index, begun):
        """Return the seconds left in step `index`, begun at `begun`, and in those after it, in words."""
        usual = [step.seconds for step in self.steps]
        # The first, short steps say little about this machine, so a minute of usual speed is added.
        scale = (60 + begun - self.started) / (60 + sum(usual[:index]))
        here, after = usual[index] * scale - (time.monotonic() - begun), scale * sum(usual[index + 1 :])
        return f'about {here + after:.0f}' if here > 5 else f'longer than usual, at least {5 + after:.0f}'

    def say(self, text, end='\n'):
        """Print over the last report on a terminal."""
        start = '\r\033[K' if self.on_terminal else ''
        print(f'{start}{text}', end=end, flush=True)

    def failure(self, step):
        """Return the sentence and the end of the log for a failed step."""
        self.say('', end='')
        end = LOG.read_text(errors='replace').splitlines()[-20:]
        return '\n'.join([f'set-up stopped at "{step.title}"; the end of {LOG}:', *end])


def missing_packages():
    """Return (to_build, to_render): the Debian packages that are missing."""
    to_build = []
    of_debian = Path(sys.executable).resolve().parent == Path('/usr/bin')
    if of_debian and not importlib.util.find_spec('ensurepip'):
        to_build.append('python3-venv')
    if of_debian and not Path(sysconfig.get_path('include'), 'Python.h').is_file():
        to_build.append('python3-dev')
    if not shutil.which('g++'):
        to_build.append('g++')
    return to_build, [] if any(map(ctypes.util.find_library, ('OSMesa', 'EGL'))) else ['libosmesa6']


def apt_get():
    """Return the apt-get command if it may be used without asking, or None."""
    if not shutil.which('apt-get'):
        return None
    if os.geteuid() == 0:
        return ['apt-get']
    allowed = shutil.which('sudo') and not subprocess.run(['sudo', '-n', 'true'], capture_output=True).returncode
    return ['sudo', '-n', 'apt-get'] if allowed else None


def system_steps():
    """Return the steps that install missing Debian packages; raise SetUpError if needed ones cannot be installed."""
    to_build, to_render = missing_packages()
    apt = apt_get()
    slower = (
        'no OSMesa or EGL library: the simulated camera uses its slower ray caster (fix: apt-get install libosmesa6)'
    )
    if to_build and not apt:
        raise SetUpError(
            f'{", ".join(to_build)} missing, and this user may not install them: run `apt-get install '
            f'{" ".join(to_build + to_render)}` as root, then try again.'
        )
    if to_render and not apt:
        print(slower)
    if not apt or not to_build + to_render:
        return []
    install = [*apt, 'install', '-y', '--no-install-recommends']
    return [
        Step('package lists of the system', 10, [*apt, 'update'], 'the package lists could not be refreshed'),
        *([Step(f'system packages {" ".join(to_build)}', 30, [*install, *to_build])] if to_build else []),
        *([Step('rendering library', 20, [*install, *to_render], slower)] if to_render else []),
    ]


def lock_name(options):
    """Return the name of the file of requirements/lock/ to install."""
    return f'{options.ros}-test' if options.tests else options.ros


def lock_checksum(name):
    """Return the checksum of a lock, with the list that has the range of torch."""
    return checksum([f'requirements/lock/{name}.txt', 'requirements/run.txt'])


def checksum(patterns):
    """Return the sha256 of the names and contents of the files that the patterns match."""
    total = hashlib.sha256()
    for path in sorted({path for pattern in patterns for path in ROOT.glob(pattern) if path.is_file()}):
        if '__pycache__' not in path.parts:
            total.update(f'{path.relative_to(ROOT)} {hashlib.sha256(path.read_bytes()).hexdigest()}\n'.encode())
    return total.hexdigest()


def python_of(venv):
    """Return the Python version of an environment, such as 3.12, or '' if there is none."""
    settings = venv / 'pyvenv.cfg'
    lines = settings.read_text().splitlines() if settings.is_file() else []
    version = next((line.partition('=')[2].strip() for line in lines if line.startswith('version')), '')
    return '.'.join(version.split('.')[:2])


def read_stamp(path):
    """Return the state that an earlier set-up recorded, {} if there was none."""
    return json.loads(path.read_text()) if path.is_file() else {}


def steps_for(options, stamp, wanted):
    """Return the steps from the state in `stamp` to the state `wanted`."""
    python = str(options.venv / 'bin' / 'python')
    pip = [python, '-m', 'pip', 'install', '--disable-pip-version-check', '--no-input']
    steps = []
    if not (options.venv / 'bin' / 'pip').exists():
        title = f'virtual environment {options.venv.name}'
        steps = [*system_steps(), Step(title, 6, [sys.executable, '-m', 'venv', str(options.venv)])]
    if stamp.get('lock') not in wanted['locks']:
        run = (ROOT / 'requirements' / 'run.txt').read_text().split()
        torch = next(word for word in run if word.startswith('torch'))
        lock = f'requirements/lock/{lock_name(options)}.txt'
        # Without an index pip's own settings select the build of torch.
        index = ['--index-url', options.torch_index] if options.torch_index else []
        steps += [
            Step('torch', 45, [*pip, *index, torch]),
            # The lock lists everything: versions and hashes of what torch needs, too.
            Step('Python packages and ROS 2 wheels', 75, [*pip, '--no-deps', '--require-hashes', '-r', lock]),
        ]
    if steps or stamp.get('package') != wanted['package']:
        steps += [
            Step('interfaces and package', 60, [*pip, '--no-build-isolation', '--no-deps', '-e', '.']),
            Step(
                'native scans',
                12,
                [python, '-m', 'm3et_ros.cli.main', 'build', 'kernels'],
                f'The native scans were not built: {LOG} says why. The package runs without them, more slowly.',
            ),
        ]
    return steps


def set_up(options):
    """Bring the environment up to date; raise SetUpError if that fails."""
    if sys.version_info < (3, 11):  # noqa: UP036 - this script may be started by any Python
        raise SetUpError(
            f'Python {sys.version.split()[0]} is too old, 3.11 is needed: give another one, as in '
            '`make demo PYTHON=python3.11`.'
        )
    if not (ROOT / 'requirements/lock' / f'{lock_name(options)}.txt').is_file():
        raise SetUpError(f'no wheels are listed for ROS "{options.ros}": give jazzy or kilted.')
    own, there = '.'.join(map(str, sys.version_info[:2])), python_of(options.venv)
    if there not in ('', own):
        raise SetUpError(
            f'{options.venv} was made by Python {there}, and this is Python {own}: give PYTHON=python{there}, or add '
            f'VENV=.venv-{own} to the make command.'
        )
    path = options.venv / 'm3et_set_up.json'
    stamp = read_stamp(path)
    # What the tests need holds what the demo needs.
    enough = [f'{options.ros}-test'] if options.tests else [f'{options.ros}-test', options.ros]
    wanted = {'ros': options.ros, 'package': checksum(BUILT_FROM), 'locks': [lock_checksum(name) for name in enough]}
    if stamp.get('ros', options.ros) != options.ros:
        raise SetUpError(
            f'{options.venv} holds ROS {stamp["ros"]}, and two distributions do not mix: add '
            f'VENV=.venv-{options.ros} to the make command.'
        )
    steps = steps_for(options, stamp, wanted)
    if steps:
        Progress(steps).run(dict(os.environ, ROS_WHEELS=options.ros))
        lock = stamp['lock'] if stamp.get('lock') in wanted['locks'] else lock_checksum(lock_name(options))
        path.write_text(json.dumps({'ros': options.ros, 'package': wanted['package'], 'lock': lock}, indent=1))


def main():
    """Read the command line and set up; the exit code is 1 if the set-up fails."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--venv', type=lambda text: Path(text).absolute(), default=ROOT / '.venv')
    parser.add_argument('--ros', default='jazzy', help='jazzy or kilted')
    parser.add_argument('--torch-index', default='', help='package index with the build of torch')
    parser.add_argument('--tests', action='store_true', help='also install the packages of the tests')
    try:
        set_up(parser.parse_args())
    except SetUpError as error:
        sys.exit(str(error))


if __name__ == '__main__':
    main()
