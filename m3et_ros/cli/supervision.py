"""Start a node, and start it again when it dies or stops answering.

    python -m m3et_ros.cli.supervision m3et_ros.ros.model_node --ros-args -p autostart:=true

`m3et robot` supervises its node itself; the launch files start this file as the executable `supervised_node`.

The node writes signs of life to a pipe (ros/heartbeat.py). It is started again at once the first time, then after
1, 2, 4, ... seconds, at most MOST_DELAY_S; after a minute of service the delays begin anew. A node that ends with exit
code 1 before it has served was refused its model, device or parameters: it is not started again, and neither is one
that has died MOST_LIVES times in a row before it served.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass

from m3et_ros.cli.output import Refused, print_status, report_error
from m3et_ros.cli.processes import POLL_S, Child, end_with_parent, running, stop_signals
from m3et_ros.ros.heartbeat import LONG_WORK, PIPE_VARIABLE, RESTARTED_VARIABLE, SERVES

SILENCE_S = 10.0
"""Seconds without a sign of life after which a node counts as hanging."""
START_S = 180.0
"""Seconds until the first sign of life."""
LONG_WORK_S = 1800.0
"""Seconds that loading a model may take; on first use a runtime compiles for minutes."""
TRACE_S = 1.0
"""Seconds in which a node that hangs prints where its threads are, before it is killed."""
MOST_DELAY_S = 30.0
STEADY_S = 60.0
"""Seconds of service after which the delays begin anew."""
MOST_LIVES = 5


class HeartbeatReader:
    """The reading end of a node's pipe.

    Attributes:
        served: the node has started as it should.
    """

    def __init__(self) -> None:
        self._pipe, self.write_end = os.pipe()
        os.set_blocking(self._pipe, False)
        self.served = False
        self._last, self._limit = time.monotonic(), START_S

    def close(self) -> None:
        """Close both ends."""
        os.close(self._pipe)
        os.close(self.write_end)

    def silent_s(self) -> float:
        """Return the seconds since the last sign of life where these are too many, else 0."""
        now = time.monotonic()
        try:
            signs = os.read(self._pipe, 4096)
        except BlockingIOError:
            signs = b''
        if signs:
            self.served |= SERVES in signs
            self._last, self._limit = now, LONG_WORK_S if signs.endswith(LONG_WORK) else SILENCE_S
        silence = now - self._last
        return silence if silence > self._limit else 0.0


@dataclass(frozen=True)
class Life:
    """The end of one life of a node."""

    # The process; None when a signal stopped the supervisor.
    ended: Child | None
    # Verb phrase that says why it ended, such as 'was killed by signal 9'.
    reason: str
    # Seconds since its start.
    lasted_s: float
    # It had started as it should.
    served: bool


def supervise(
    name: str,
    module: str,
    arguments: Sequence[str],
    stopped: threading.Event,
    *,
    respawn: bool = True,
    piped: bool = True,
) -> Child | None:
    """Run a node until it ends for good or a signal comes.

    Args:
        name: as Child takes it, like `module` and `arguments`.
        module: module of the node.
        arguments: command line of the node.
        stopped: set by a signal; the node is ended then.
        respawn: start the node again when it dies or hangs.
        piped: print its lines with its name in front; False leaves its output as it is.

    Returns:
        The ended node; None after a signal.
    """
    delay_s, again, in_vain, why = 0.0, 0, 0, ''
    while True:
        life = _live(name, module, arguments, stopped, why, piped)
        if life.ended is None or life.ended.code == 0 or not respawn:
            return life.ended
        in_vain = 0 if life.served else in_vain + 1
        if in_vain and ((life.ended.code == 1 and not again) or in_vain == MOST_LIVES):
            return life.ended
        if life.served and life.lasted_s >= STEADY_S:
            delay_s = 0.0
        again += 1
        why = f'it {life.reason}, restart {again}'
        print_status(
            f'm3et: the node {name} {life.reason}; it is started again'
            + (f' in {delay_s:g} s' if delay_s else '')
            + f', restart {again}.'
        )
        if stopped.wait(delay_s):
            return None
        delay_s = min(max(1.0, 2 * delay_s), MOST_DELAY_S)


def _live(name: str, module: str, arguments: Sequence[str], stopped: threading.Event, why: str, piped: bool) -> Life:
    """Run a node once, until it ends, hangs and is killed, or a signal comes."""
    start = time.monotonic()
    with closing(HeartbeatReader()) as reader:
        # A node that crashes or is sent SIGABRT prints where its threads are.
        environment = {PIPE_VARIABLE: str(reader.write_end), 'PYTHONFAULTHANDLER': '1'}
        if why:
            environment[RESTARTED_VARIABLE] = why
        child = Child(name, module, arguments, piped=piped, environment=environment, pipes=[reader.write_end])
        with running(child):
            while not stopped.wait(POLL_S):
                silent_s = reader.silent_s()
                if child.code is not None:
                    reader.silent_s()
                    return Life(child, _reason(child.code), time.monotonic() - start, reader.served)
                if silent_s:
                    child.kill(signal.SIGABRT)
                    stopped.wait(TRACE_S)
                    child.kill()
                    reason = f'has not answered for {silent_s:.0f} s'
                    return Life(child, reason, time.monotonic() - start, reader.served)
    return Life(None, '', time.monotonic() - start, reader.served)


def _reason(code: int) -> str:
    return f'was killed by signal {code - 128}' if code > 128 else f'ended with exit code {code}'


def main(arguments: Sequence[str] | None = None) -> int:
    """Supervise the module named by the first argument, with the arguments after it; return its exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0].startswith('-'):
        return report_error(Refused('supervised_node takes a module, such as m3et_ros.ros.model_node, first.', 2))
    end_with_parent()
    with stop_signals() as stopped:
        ended = supervise(words[0].rsplit('.', 1)[-1], words[0], words[1:], stopped, piped=False)
    return ended.code or 0 if ended else 0


if __name__ == '__main__':
    raise SystemExit(main())
