"""Nodes as child processes: started with the same interpreter, observed, and always ended.

A child is started through this module, so that it ends when its parent ends, for whatever reason:

    python -m m3et_ros.cli.processes m3et_ros.ros.model_node --ros-args -p autostart:=true
"""

import ctypes
import os
import runpy
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from m3et_ros.cli.output import Refused, print_status
from m3et_ros.ros.environment import check_domain, settle

STOP_S = 5.0
"""Seconds that a child may take to end after SIGTERM before it is killed."""
POLL_S = 0.1
QUOTED_LINES = 12
LAUNCHER = 'm3et_ros.cli.processes'
LOG_FORMAT = '{severity}: {message}'
"""Format of the log lines of a child unless the user chose one; the name of the child is put in front anyway."""
INTERRUPTED = 128 + signal.SIGINT
"""Exit code of a command that Ctrl-C has cut short, as in a shell."""
PR_SET_PDEATHSIG = 1
"""prctl(2): the signal that a process gets when its parent dies."""
SIGNALS = tuple(getattr(signal, name) for name in ('SIGINT', 'SIGTERM', 'SIGHUP') if hasattr(signal, name))


class Child:
    """A node in a process of its own; its last lines of output are stored.

    Args:
        name: mark in front of its lines.
        module: module to run, as in `python -m module`.
        arguments: command line after the module.
        show: print its lines on stderr as they come.
        piped: read its lines; False lets it write to the output of this process, and nothing is stored.
        environment: variables beside those of this process.
        pipes: file descriptors that it inherits.
    """

    def __init__(
        self,
        name: str,
        module: str,
        arguments: Sequence[str] = (),
        *,
        show: bool = True,
        piped: bool = True,
        environment: Mapping[str, str] | None = None,
        pipes: Sequence[int] = (),
    ):
        self.name = name
        self.lines: deque[str] = deque(maxlen=QUOTED_LINES)
        self._show = show
        format_ = {'RCUTILS_CONSOLE_OUTPUT_FORMAT': LOG_FORMAT} if piped else {}
        # A session of its own: Ctrl-C reaches the parent alone, which then stops its children in order.
        self._process = subprocess.Popen(
            [sys.executable, '-P', '-m', LAUNCHER, module, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if piped else None,
            stderr=subprocess.STDOUT if piped else None,
            text=True,
            errors='replace',
            start_new_session=True,
            pass_fds=pipes,
            env=format_ | os.environ | {'PYTHONUNBUFFERED': '1', **(environment or {})},
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        if piped:
            self._reader.start()

    @property
    def code(self) -> int | None:
        """Exit code, 128 + n after signal n as in a shell; None while the process runs."""
        code = self._process.poll()
        return code if code is None or code >= 0 else 128 - code

    def terminate(self) -> None:
        """Send SIGTERM unless the process has ended."""
        if self._process.poll() is None:
            self._process.terminate()

    def finish(self, timeout_s: float) -> None:
        """Wait for the end, and kill the process with its own children after `timeout_s` seconds."""
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()
        self._join()

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send a signal to the process and its own children, and wait for its end after SIGKILL."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, number)
        if number == signal.SIGKILL:
            self._process.wait()

    def failure(self) -> Refused:
        """Return the end of this process as an error, with its last lines unless they were printed already."""
        self._join()
        if self._show:
            details = '; its last lines are printed above.'
        elif self.lines:
            details = '\n'.join(('; its last lines:', *(f'  {line}' for line in list(self.lines))))
        else:
            details = ' and printed nothing.'
        # 2 is reserved for results below a threshold.
        code = 1 if self.code in (0, 2) else self.code
        return Refused(f'{self.name} ended by itself with exit code {self.code}{details}', code)

    def _join(self) -> None:
        if self._reader.is_alive():
            self._reader.join(1.0)

    def _read(self) -> None:
        with self._process.stdout as stream:
            for line in stream:
                self.lines.append(line.rstrip())
                if self._show:
                    print_status(f'[{self.name}] {line.rstrip()}')


@contextmanager
def running(*children: Child) -> Iterator[None]:
    """End the children when the block is left, also by an exception."""
    try:
        yield
    finally:
        for child in children:
            child.terminate()
        for child in children:
            child.finish(STOP_S)


class StopEvent(threading.Event):
    """An event that a signal sets.

    Attributes:
        code: exit code of a command that the signal has cut short, 128 + its number; 0 before.
    """

    code = 0

    def set_by(self, number: int) -> None:
        """Set the event and record the signal."""
        self.code = self.code or 128 + number
        self.set()


@contextmanager
def stop_signals() -> Iterator[StopEvent]:
    """Yield an event that SIGINT, SIGTERM and SIGHUP set while the block lasts, instead of ending the process."""
    stopped = StopEvent()
    before = {number: signal.signal(number, lambda number, _: stopped.set_by(number)) for number in SIGNALS}
    try:
        yield stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def stop_code(stopped: threading.Event) -> int:
    """Return the exit code of a command that `stopped` has cut short: 128 + the signal's number, as in a shell."""
    return getattr(stopped, 'code', 0) or INTERRUPTED


def wait_for_end(children: Sequence[Child], stopped: threading.Event) -> Child | None:
    """Wait until one of the children ends and return it; return None when a signal came first."""
    while not stopped.wait(POLL_S):
        for child in children:
            if child.code is not None:
                return child
    return None


def use_ros() -> None:
    """Prepare the environment before this process or a child of it imports rclpy, and print what was wrong with it.

    Raises:
        InputError: ROS_DOMAIN_ID is no domain.
    """
    check_domain()
    for trouble in settle():
        print_status(f'm3et: {trouble}')


def end_with_parent() -> None:
    """Let the kernel send SIGTERM to this process when its parent ends; Linux only."""
    if sys.platform == 'linux':
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGTERM))


def main() -> None:
    """Run the module named by the first argument as `python -m` would, with the arguments after it."""
    end_with_parent()
    # Before the module imports rclpy, which would end the process. The node itself logs what was wrong.
    settle()
    # Until the node has handlers of its own, Ctrl-C ends it without the traceback of an import.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name='__main__', alter_sys=True)


if __name__ == '__main__':
    main()
