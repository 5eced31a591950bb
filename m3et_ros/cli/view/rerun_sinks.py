"""Recordings of Rerun: as a file, in a window, or on a page of this machine."""

import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from m3et_ros.cli.output import Refused, print_status
from m3et_ros.cli.processes import Child, running
from m3et_ros.data.files import refuse_unwritable, write_atomically

if TYPE_CHECKING:
    from rerun import RecordingStream

APPLICATION = 'm3et_ros'
SUFFIX = '.rrd'
LOOPBACK = '127.0.0.1'
START_S = 60.0
"""Longest wait for the viewer in seconds."""
POLL_S = 0.1
MODULE = 'm3et_ros.cli.view.rerun_sinks'
MEMORY = '25%'
"""Share of this machine's memory after which the viewer drops the oldest data."""


@contextmanager
def recording_to_file(path: Path) -> Iterator['RecordingStream']:
    """Yield a recording that becomes a file when the block ends without an error; else nothing is left of it.

    Args:
        path: file to create.

    Raises:
        Refused: it exists, or its name does not end in .rrd.
        InputError: 'out_unwritable'.
    """
    import rerun

    if path.suffix != SUFFIX:
        raise Refused(f'{path} does not end in {SUFFIX}, by which the viewer of Rerun knows its files; rename it.')
    if path.exists():
        raise Refused(f'{path} exists already and is never overwritten; remove it or give another path.')
    with refuse_unwritable(path, 'give a writable folder with free space'), write_atomically(path) as part:
        part.touch()
        recording = rerun.RecordingStream(APPLICATION)
        recording.save(part)
        try:
            yield recording
        finally:
            recording.flush()
            recording.disconnect()


@contextmanager
def recording_in_viewer(stopped: threading.Event) -> Iterator['RecordingStream']:
    """Yield a recording that a viewer shows: its window where there is a display, else a page on loopback.

    Args:
        stopped: also set when the window is closed.

    Raises:
        Refused: the viewer does not start.
    """
    import rerun

    port, page = _free_port(), _free_port()
    proxy = f'rerun+http://{LOOPBACK}:{port}/proxy'
    arguments = ['--bind', LOOPBACK, '--port', str(port), '--memory-limit', MEMORY, '--server-memory-limit', MEMORY]
    window = has_display()
    if not window:
        arguments += ['--serve-web', '--web-viewer-port', str(page)]
    viewer = Child('rerun', MODULE, arguments, show=False)
    with running(viewer):
        for one in [port] if window else [port, page]:
            _await_port(one, viewer, stopped)
        recording = rerun.RecordingStream(APPLICATION)
        recording.connect_grpc(proxy)
        if not window:
            url = proxy.replace('+', '%2B')
            print_status(f'm3et: Rerun shows the robots on http://{LOOPBACK}:{page}/?url={url} ; Ctrl-C ends it.')
        threading.Thread(target=_stop_with, args=(viewer, stopped), daemon=True).start()
        try:
            yield recording
        finally:
            recording.disconnect()


def has_display() -> bool:
    """Return True where a window can be opened."""
    return sys.platform != 'linux' or bool(os.environ.get('DISPLAY') or os.environ.get('WAYLAND_DISPLAY'))


def _stop_with(viewer: Child, stopped: threading.Event) -> None:
    while not stopped.wait(POLL_S):
        if viewer.code is not None:
            stopped.set()


def _await_port(port: int, viewer: Child, stopped: threading.Event) -> None:
    deadline = time.monotonic() + START_S
    while viewer.code is None and time.monotonic() < deadline and not stopped.is_set():
        with socket.socket() as tried:
            if tried.connect_ex((LOOPBACK, port)) == 0:
                return
        time.sleep(POLL_S)
    if viewer.code is not None:
        raise viewer.failure()
    if not stopped.is_set():
        raise Refused(f'The viewer of Rerun has not started within {START_S:g} s; give --save to write a file instead.')


def _free_port() -> int:
    with socket.socket() as free:
        free.bind((LOOPBACK, 0))
        return free.getsockname()[1]


def main() -> None:
    """Become the viewer of Rerun, in the same process, so that it ends with the process that started it."""
    import rerun_cli

    program = Path(rerun_cli.__file__).with_name('rerun')
    os.execv(program, [str(program), *sys.argv[1:]])


if __name__ == '__main__':
    main()
