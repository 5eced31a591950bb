"""A supervised node is started again when it dies or hangs, but not when it refuses its input."""

import os
import signal
import subprocess
import sys
import threading
import time

import psutil
import pytest

from m3et_ros.cli import supervision
from m3et_ros.cli.supervision import HeartbeatReader, main, supervise
from m3et_ros.ros.heartbeat import ALIVE, LONG_WORK, SERVES, Heartbeat

SERVING = (
    'from m3et_ros.ros.heartbeat import HEARTBEAT, RESTARTED, SERVES; import os, sys, time; HEARTBEAT.beat(SERVES); '
)


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Make a module that can be run as a node; it notes each of its lives."""
    monkeypatch.setenv('PYTHONPATH', str(tmp_path))
    monkeypatch.setenv('LIVES', str(tmp_path / 'lives'))
    (tmp_path / 'lives').write_text('')

    def write(text, imports=SERVING):
        life = 'import os; open(os.environ["LIVES"], "a").write(f"{os.getpid()}\\n")\n'
        (tmp_path / 'played.py').write_text(f'{life}{imports}\n{text}\n')
        return 'played'

    return write


def lives():
    with open(os.environ['LIVES']) as file:
        return [int(line) for line in file]


def wait_for(condition):
    deadline = time.monotonic() + 60
    while not (value := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return value


def gone(pid):
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


@pytest.fixture
def supervised(monkeypatch):
    """Run the supervisor on a thread; it returns the ended node, or None after the stop."""
    threads = []

    def start(module, **options):
        stopped, result = threading.Event(), []
        thread = threading.Thread(
            target=lambda: result.append(supervise('played', module, [], stopped, **options)), daemon=True
        )
        thread.start()
        threads.append((thread, stopped))
        return stopped, result

    yield start
    for thread, stopped in threads:
        stopped.set()
        thread.join(20)
        assert not thread.is_alive()


def test_a_node_that_is_killed_is_started_again_and_learns_why(module, supervised, capfd):
    stopped, result = supervised(module('print(f"({RESTARTED})", flush=True); time.sleep(600)'))
    for number in (1, 2):
        wait_for(lambda number=number: len(lives()) == number and f'[played] ({why(number)})' in read(capfd))
        os.kill(lives()[-1], signal.SIGKILL)
    wait_for(lambda: len(lives()) == 3)
    stopped.set()
    wait_for(lambda: result)
    assert result == [None] and all(gone(pid) for pid in lives())
    assert 'the node played was killed by signal 9; it is started again in 1 s, restart 2.' in read(capfd)


printed = []


def read(capfd):
    printed.append(capfd.readouterr().err)
    return ''.join(printed)


def why(number):
    return '' if number == 1 else f'it was killed by signal 9, restart {number - 1}'


def test_a_node_that_stands_still_is_killed_and_started_again(module, supervised, monkeypatch, capfd):
    monkeypatch.setattr(supervision, 'SILENCE_S', 0.5)
    loop = 'while True: HEARTBEAT.beat(); time.sleep(0.01)'
    supervised(module(loop))
    wait_for(lambda: len(lives()) == 1 and psutil.Process(lives()[0]).status() != psutil.STATUS_STOPPED)
    time.sleep(1)  # it serves
    assert len(lives()) == 1
    os.kill(lives()[0], signal.SIGSTOP)
    wait_for(lambda: len(lives()) == 2)
    assert gone(lives()[0]) and 'has not answered for' in read(capfd)


def test_a_node_that_hangs_prints_where(module, supervised, monkeypatch, capfd):
    monkeypatch.setattr(supervision, 'SILENCE_S', 0.5)
    supervised(module('def hang(): time.sleep(600)\nhang()'))
    wait_for(lambda: len(lives()) >= 2 and 'in hang' in read(capfd))


@pytest.mark.parametrize(
    ('text', 'imports', 'code', 'count'),
    [
        ('raise SystemExit(1)', '', 1, 1),  # refused
        ('HEARTBEAT.beat(); raise SystemExit(1)', 'from m3et_ros.ros.heartbeat import HEARTBEAT', 1, 1),
        ('raise SystemExit(0)', '', 0, 1),
        ('raise SystemExit(0)', SERVING, 0, 1),
        ('os.abort()', 'import os', 134, 3),
    ],
)
def test_a_node_that_ends_by_itself(module, monkeypatch, text, imports, code, count):
    monkeypatch.setattr(supervision, 'MOST_LIVES', 3)
    monkeypatch.setattr(supervision, 'MOST_DELAY_S', 0.01)
    ended = supervise('played', module(text, imports), [], threading.Event())
    assert (ended.code, len(lives())) == (code, count)


def test_a_node_that_was_refused_after_it_had_served_is_tried_again(module, supervised):
    text = 'HEARTBEAT.beat()\nraise SystemExit(9 if len(open(os.environ["LIVES"]).readlines()) == 1 else 1)'
    supervised(module(text))
    wait_for(lambda: len(lives()) == 3)


def test_without_respawn_the_first_death_is_the_last(module):
    ended = supervise('played', module('raise SystemExit(9)'), [], threading.Event(), respawn=False)
    assert (ended.code, len(lives())) == (9, 1)


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_the_executable_ends_its_node_with_itself(module, number):
    command = [
        sys.executable,
        '-m',
        'm3et_ros.cli.supervision',
        module('print(sys.argv[1:], flush=True); time.sleep(600)'),
    ]
    process = subprocess.Popen([*command, '--ros-args', 'x'], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "['--ros-args', 'x']\n"
    process.send_signal(number)
    assert process.wait(60) == (-number if number == signal.SIGKILL else 0)
    wait_for(lambda: gone(lives()[0]))
    process.stdout.close()


def test_the_executable_needs_a_module(capfd):
    assert main(['--ros-args']) == 2
    assert 'takes a module' in capfd.readouterr().err


def test_silence_counts_from_the_last_sign_and_long_work_has_a_limit_of_its_own(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(supervision.time, 'monotonic', lambda: now[0])
    reader = HeartbeatReader()
    writer = Heartbeat(reader.write_end, clock=lambda: now[0])

    def after(seconds):
        now[0] += seconds
        return reader.silent_s()

    assert after(supervision.START_S) == 0 and after(1) == supervision.START_S + 1 and not reader.served
    writer.beat(LONG_WORK)
    assert after(0) == 0 and not reader.served and after(supervision.LONG_WORK_S) == 0 and after(1) > 0
    writer.beat(ALIVE)
    assert after(0) == 0 and not reader.served and after(supervision.SILENCE_S) == 0
    assert after(1) == supervision.SILENCE_S + 1
    writer.beat(SERVES)
    assert after(0) == 0 and reader.served
    reader.close()
