#!/usr/bin/env python3
"""Write requirements/lock/: every package that set-up installs, in one version with its hashes.

make lock

Runs uv, which `make lock` installs. torch stays out, because its index decides between CPU and CUDA builds, and with it
what only its CUDA builds need.
"""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / 'requirements/lock'
OF_TORCH = re.compile(r'(torch|triton|nvidia-[a-z0-9-]+|cuda-[a-z0-9-]+)==')
HEAD = '# Written by `make lock`; do not edit.\n'


def lists(ros: str, *, tests: bool) -> list[str]:
    """Return the files of requirements/ from which an environment is made."""
    return ['run', 'sim', 'train', 'report', 'view', 'mcp', ros, f'{ros}-build', *(['test'] if tests else [])]


def lock(ros: str, *, tests: bool) -> str:
    """Return the lock of an environment: one version of each package for every Python from 3.11 on.

    The demo gets the versions of the tests, so that one environment serves both.
    """
    files = [f'requirements/{name}.txt' for name in lists(ros, tests=tests)]
    command = ['uv', 'pip', 'compile', '--universal', '--python-version', '3.11', '--generate-hashes', '--no-header']
    command += ['--no-annotate', '--quiet', *files]
    if not tests:
        command += ['--constraint', str(FOLDER / f'{ros}-test.txt')]
    text = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    packages = re.split(r'\n(?=\S)', text.strip())
    return HEAD + '\n'.join(package for package in packages if not OF_TORCH.match(package)) + '\n'


def main() -> None:
    """Write a lock for the demo and one for the tests of each ROS distribution."""
    FOLDER.mkdir(exist_ok=True)
    for path in sorted(ROOT.glob('requirements/*-build.txt')):
        ros = path.name.removesuffix('-build.txt')
        for tests in (True, False):
            (FOLDER / f'{ros}{"-test" if tests else ""}.txt').write_text(lock(ros, tests=tests))
            print(f'{ros}{" with tests" if tests else ""}: locked', file=sys.stderr)


if __name__ == '__main__':
    main()
