"""Nodes as child processes: started with the same interpreter, watched, and never left behind."""

import ctypes
import os
import runpy
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from m3et_ros.cli.output import Refused, note

STOP_S = 5.0
"""How long a child may take to end after SIGTERM before it is killed."""
POLL_S = 0.1
QUOTED_LINES = 12
LAUNCHER = 'm3et_ros.cli.processes'
LOG_FORMAT = '{severity}: {message}'
"""Of the log lines of a child, unless the user has chosen one: our mark says already whose they are."""
SIGNALS = tuple(getattr(signal, name) for name in ('SIGINT', 'SIGTERM', 'SIGHUP') if hasattr(signal, name))


class Child:
    """A node in a process of its own. Its last lines are kept; each is shown on stderr when wished.

    Args:
        name: how its lines are marked.
        module: what is run, as `python -m module`.
        arguments: command line behind the module.
        show: whether its lines go to stderr as they come.
    """

    def __init__(self, name: str, module: str, arguments: Sequence[str] = (), *, show: bool = True):
        self.name = name
        self.lines: deque[str] = deque(maxlen=QUOTED_LINES)
        self._shown = show
        # A session of its own: Ctrl-C reaches the parent alone, which then stops its children in order.
        self._process = subprocess.Popen(
            [sys.executable, '-m', LAUNCHER, module, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors='replace',
            start_new_session=True,
            env={'RCUTILS_CONSOLE_OUTPUT_FORMAT': LOG_FORMAT} | os.environ | {'PYTHONUNBUFFERED': '1'},
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def code(self) -> int | None:
        """Exit code, 128 + n after signal n as a shell has it; None while it runs."""
        code = self._process.poll()
        return code if code is None or code >= 0 else 128 - code

    def terminate(self) -> None:
        """Ask it to end."""
        if self._process.poll() is None:
            self._process.terminate()

    def finish(self, timeout_s: float) -> None:
        """Wait for its end, and kill it and what it started when the time is up."""
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._reader.join(1.0)

    def failure(self) -> Refused:
        """The end of this process as an error, with its last lines where they were not shown."""
        self._reader.join(1.0)
        if self._shown:
            words = '; its last words stand above.'
        elif self.lines:
            words = '\n'.join(('; its last lines:', *(f'  {line}' for line in list(self.lines)[-QUOTED_LINES:])))
        else:
            words = ' without a word.'
        # 2 is reserved for results below a threshold.
        code = 1 if self.code in (0, 2) else self.code
        return Refused(f'{self.name} ended by itself with exit code {self.code}{words}', code)

    def _read(self) -> None:
        with self._process.stdout as stream:
            for line in stream:
                self.lines.append(line.rstrip())
                if self._shown:
                    note(f'[{self.name}] {line.rstrip()}')


@contextmanager
def running(*children: Child) -> Iterator[None]:
    """See to it that the children have ended when the block is left, however it is left."""
    try:
        yield
    finally:
        for child in children:
            child.terminate()
        for child in children:
            child.finish(STOP_S)


@contextmanager
def stop_signals() -> Iterator[threading.Event]:
    """An event that is set by SIGINT, SIGTERM or SIGHUP while the block lasts, instead of ending the process."""
    stopped = threading.Event()
    before = {number: signal.signal(number, lambda *_: stopped.set()) for number in SIGNALS}
    try:
        yield stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def watch(children: Sequence[Child], stopped: threading.Event) -> Child | None:
    """Wait until one of the children ends, and return it; None when a signal came first."""
    while not stopped.wait(POLL_S):
        ended = next((child for child in children if child.code is not None), None)
        if ended is not None:
            return ended
    return None


# MERGED m3et_ros/cli/child: Runs a module as a child that does not outlive its parent, however that ends.
#
# MERGED     python -m m3et_ros.cli.processes m3et_ros.ros.model_node --ros-args -p autostart:=true
PR_SET_PDEATHSIG = 1
"""prctl(2): the signal that this process gets when its parent dies."""


def main() -> None:
    """Run the module named by the first argument as if by `python -m`, with the arguments behind it."""
    if sys.platform == 'linux':
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGTERM))
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name='__main__', alter_sys=True)


if __name__ == '__main__':
    main()
