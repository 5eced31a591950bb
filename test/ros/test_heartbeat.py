"""Signs of life on the pipe of a supervisor."""

import os
import subprocess
import sys

from m3et_ros.ros.heartbeat import ALIVE, LONG_WORK, PIPE_VARIABLE, RESTARTED_VARIABLE, Heartbeat


def test_signs_are_written_at_most_twice_a_second_and_around_long_work():
    now, (read, write) = [0.0], os.pipe()
    heart = Heartbeat(write, clock=lambda: now[0])
    for step in range(10):
        now[0] = step / 10
        heart.beat()
    assert os.read(read, 100) == 2 * ALIVE
    with heart.long_work():
        assert os.read(read, 100) == LONG_WORK
    assert os.read(read, 100) == ALIVE
    os.close(read)
    now[0] = 5.0
    heart.beat()  # nobody reads any more
    now[0] = 6.0
    heart.beat()
    os.close(write)


def test_a_supervisor_that_does_not_read_stops_nothing():
    read, write = os.pipe()
    heart = Heartbeat(write)
    for _ in range(100_000):
        heart.beat(LONG_WORK)
    os.close(read)
    os.close(write)


def test_a_process_takes_its_pipe_from_the_environment_and_its_children_do_not():
    code = (
        'import os; from m3et_ros.ros.heartbeat import HEARTBEAT, RESTARTED; HEARTBEAT.beat(); '
        f'print(RESTARTED, [name for name in os.environ if name in ("{PIPE_VARIABLE}", "{RESTARTED_VARIABLE}")])'
    )
    read, write = os.pipe()
    environment = os.environ | {PIPE_VARIABLE: str(write), RESTARTED_VARIABLE: 'it fell'}
    done = subprocess.run(
        [sys.executable, '-c', code], env=environment, pass_fds=[write], capture_output=True, text=True, check=True
    )
    assert done.stdout == 'it fell []\n' and os.read(read, 10) == ALIVE
    os.close(read)
    os.close(write)
