import os
import signal
import subprocess
import sys
import threading
import time

import psutil
import pytest

from m3et_ros.cli import processes
from m3et_ros.cli.processes import Child, running, stop_code, stop_signals, use_ros, wait_for_end
from m3et_ros.data.errors import InputError
from m3et_ros.ros.environment import Trouble

STUBBORN = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])
print('ready', child.pid)
time.sleep(600)
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Make a module that can be run as a child."""
    monkeypatch.setenv('PYTHONPATH', str(tmp_path))

    def write(text):
        (tmp_path / 'played.py').write_text(text)
        return 'played'

    return write


def wait_for(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_child_that_ends_by_itself_is_quoted(module):
    child = Child('one', module('print("hello"); raise SystemExit(3)'), show=False)
    with stop_signals() as stopped, running(child):
        assert wait_for_end([child], stopped) is child
    failure = child.failure()
    assert failure.code == 3 and 'one ended by itself with exit code 3' in str(failure) and 'hello' in str(failure)


def test_lines_are_printed_with_the_name_of_the_child(module, capfd):
    child = Child('one', module('print("hello")'))
    with running(child):
        wait_for(lambda: child.code is not None)
    assert capfd.readouterr().err == '[one] hello\n'


def test_leaving_the_block_ends_children_even_after_an_error(module):
    with pytest.raises(ZeroDivisionError):
        child = Child('one', module('import time; print("up", flush=True); time.sleep(600)'), show=False)
        with running(child):
            wait_for(lambda: child.lines)
            raise ZeroDivisionError
    assert child.code == 128 + signal.SIGTERM


def test_a_child_that_ignores_its_end_is_killed_with_its_own_children(module, monkeypatch):
    monkeypatch.setattr(processes, 'STOP_S', 0.2)
    child = Child('one', module(STUBBORN), show=False)
    with running(child):
        wait_for(lambda: child.lines)
    grandchild = int(child.lines[0].split()[1])
    assert child.code == 128 + signal.SIGKILL
    wait_for(lambda: not psutil.pid_exists(grandchild) or psutil.Process(grandchild).status() == psutil.STATUS_ZOMBIE)


def test_children_of_a_killed_parent_end_too(module):
    code = 'import sys; from m3et_ros.cli.processes import Child; child = Child("one", sys.argv[1]); sys.stdin.read()'
    sleeper = module('import os, time; print(os.getpid(), flush=True); time.sleep(600)')
    command = [sys.executable, '-c', code, sleeper]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as parent:
        child = psutil.Process(int(parent.stderr.readline().split()[1]))
        parent.kill()
    wait_for(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_wait_and_the_handlers_are_restored(number):
    before = signal.getsignal(number)
    with stop_signals() as stopped:
        os.kill(os.getpid(), number)
        assert wait_for_end([], stopped) is None
    assert signal.getsignal(number) is before


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_exit_code_names_the_signal(number):
    with stop_signals() as stopped:
        assert stopped.code == 0
        os.kill(os.getpid(), number)
        assert stopped.wait(60) and stopped.code == stop_code(stopped) == 128 + number
    assert stop_code(threading.Event()) == 130


def test_a_folder_with_the_name_of_the_package_does_not_hide_it(tmp_path, monkeypatch):
    (tmp_path / 'm3et_ros').mkdir()
    (tmp_path / 'm3et_ros' / '__init__.py').write_text('raise SystemExit("hidden")')
    monkeypatch.chdir(tmp_path)
    child = Child('child', 'this', show=False)
    with running(child):
        child.finish(60)
    assert not any('hidden' in line for line in child.lines)


def test_the_environment_is_told_once_before_ros_is_used(monkeypatch, capsys):
    monkeypatch.setattr('m3et_ros.cli.processes.settle', lambda: (Trouble('the log folder is lost', 'find it'),))
    monkeypatch.setenv('ROS_DOMAIN_ID', '3')
    use_ros()
    assert capsys.readouterr().err == 'm3et: the log folder is lost; find it.\n'
    monkeypatch.setenv('ROS_DOMAIN_ID', 'abc')
    with pytest.raises(InputError, match="ROS_DOMAIN_ID is 'abc'"):
        use_ros()
