"""Commands run as a user runs them: as processes, always ended."""

import json
import subprocess
import sys
from contextlib import contextmanager

import pytest

COMMAND = (sys.executable, '-m', 'm3et_ros.cli.main')


@pytest.fixture(scope='session')
def m3et():
    """Run the command to its end; the result holds stdout, stderr and the exit code."""

    def run(*arguments, timeout=60):
        return subprocess.run([*COMMAND, *map(str, arguments)], capture_output=True, text=True, timeout=timeout)

    return run


@pytest.fixture(scope='session')
def m3et_json(m3et):
    """Run the command with --json and return its document."""

    def run(*arguments, **options):
        result = m3et(*arguments, '--json', **options)
        assert result.returncode == 0, result.stderr
        return json.loads(result.stdout)

    return run


@pytest.fixture(scope='session')
def m3et_started():
    """Run the command while a block lasts."""

    @contextmanager
    def run(*arguments):
        process = subprocess.Popen(
            [*COMMAND, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.communicate(timeout=15)
            finally:
                process.kill()

    return run
