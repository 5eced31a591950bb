"""Commands run as a user runs them: as processes, always ended."""

import importlib
import inspect
import json
import subprocess
import sys
from contextlib import contextmanager

import pytest
import typer.main

COMMAND = (sys.executable, '-m', 'm3et_ros.cli.main')


@pytest.fixture(scope='session')
def m3et():
    """Run the command to its end; the result holds stdout, stderr and the exit code."""

    def run(*arguments, timeout=120):
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
                process.communicate(timeout=120)
            finally:
                process.kill()

    return run


@pytest.fixture
def border(monkeypatch):
    """Replace a function that a verb calls: its calls are recorded, bound to the signature of the real one."""

    def replace(target, result=None, *, last=False):
        module, name = target.rsplit('.', 1)
        signature = inspect.signature(getattr(importlib.import_module(module), name))
        calls = []

        def call(*arguments, **options):
            bound = signature.bind(*arguments, **options)
            values = dict(bound.arguments)
            for parameter in signature.parameters.values():
                if parameter.kind is inspect.Parameter.VAR_KEYWORD:
                    values |= values.pop(parameter.name, {})
            values.pop('context', None)
            calls.append(values)
            if last:
                raise Reached
            return result

        monkeypatch.setattr(target, call)
        return calls

    return replace


class Reached(Exception):  # noqa: N818 - it ends a verb where the test wants it
    """A verb has reached the border of the test."""


@pytest.fixture
def reach():
    """Run a verb that ends at a border."""
    from m3et_ros.cli.main import app

    def run(*words):
        with pytest.raises(Reached):
            app(args=[*map(str, words)], prog_name='m3et', standalone_mode=False)

    return run


@pytest.fixture
def every_option():
    """Check that command lines of one verb give each of its options, so that a test of wires leaves none out."""
    from m3et_ros.cli.main import app

    def check(*lines):
        verb = typer.main.get_command(app)
        words = [str(word) for word in lines[0]]
        while hasattr(verb, 'commands'):
            verb = verb.commands[words.pop(0)]
        given = {str(word) for line in lines for word in line}
        options = {tuple(one.opts + one.secondary_opts) for one in verb.params if one.param_type_name == 'option'}
        missing = [flags for flags in options if not given & set(flags)]
        assert not missing

    return check
