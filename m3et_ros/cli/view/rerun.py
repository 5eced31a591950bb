"""`m3et view --rerun`: running robots in the viewer of Rerun, or as a recording for it."""

import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from m3et_ros.cli.output import print_status
from m3et_ros.cli.robots import RobotHealth, Robots
from m3et_ros.cli.view.rerun_log import SHOWN, RobotLog, blueprint
from m3et_ros.cli.view.rerun_sinks import recording_in_viewer, recording_to_file
from m3et_ros.cli.view.streams import RobotStreams
from m3et_ros.data.errors import InputError

if TYPE_CHECKING:
    from rerun import RecordingStream

POLL_S = 0.5
"""Seconds between two looks at the robots and at what they publish."""
WAIT_S = 0.1
HEALTH_S = 1.0


def run_rerun(
    robots: Robots, stopped: threading.Event, *, namespaces: Sequence[str] = (), save: Path | None = None
) -> None:
    """Show robots until `stopped` is set.

    Args:
        robots: connection to the graph.
        stopped: ends it.
        namespaces: the robots; none for all that are there, also those that come later.
        save: file to write instead of showing anything.

    Raises:
        Refused: the file is there already, or the viewer does not start.
        InputError: 'out_unwritable'.
    """
    with recording_to_file(save) if save else recording_in_viewer(stopped) as recording:
        LiveRecording(robots, recording, namespaces).run(stopped)
    if save:
        print_status(f'm3et: {save} is written; open it with: rerun {save}')


class LiveRecording:
    """Robots that are logged as their messages come."""

    def __init__(self, robots: Robots, recording: 'RecordingStream', namespaces: Sequence[str]):
        self._robots, self._recording, self._namespaces = robots, recording, namespaces
        self._arrived = threading.Event()
        self._shown: dict[str, tuple[RobotStreams, RobotLog]] = {}
        self._reported: dict[str, RobotHealth] = {}

    def run(self, stopped: threading.Event) -> None:
        """Log until `stopped` is set."""
        polled = healthy = float('-inf')
        try:
            while not stopped.is_set():
                now = time.monotonic()
                if now - polled >= POLL_S:
                    polled = now
                    self._follow()
                if now - healthy >= HEALTH_S:
                    healthy = now
                    self._log_health()
                self._arrived.wait(WAIT_S)
                self._arrived.clear()
                self._log_messages()
        finally:
            for streams, _ in self._shown.values():
                streams.close()

    def _follow(self) -> None:
        """Show robots that have come, and follow the topics of all."""
        new = [name for name in self._namespaces or self._robots.namespaces() if name not in self._shown]
        for namespace in new:
            streams = RobotStreams(self._robots.robot(namespace), self._arrived)
            self._shown[namespace] = streams, RobotLog(self._recording, namespace.strip('/') or 'robot')
        if new:
            print_status(f'm3et: showing {", ".join(self._shown)}.')
            self._recording.send_blueprint(blueprint([log.root for _, log in self._shown.values()]))
        for streams, _ in self._shown.values():
            streams.want(SHOWN)

    def _log_messages(self) -> None:
        for streams, log in self._shown.values():
            for stream, message in streams.take():
                try:
                    log.message(stream, message)
                except InputError as error:
                    streams.report(error)

    def _log_health(self) -> None:
        for namespace, (streams, log) in self._shown.items():
            health = streams.robot.health
            if health != self._reported.get(namespace):
                self._reported[namespace] = health
                log.health(health.level, health.sentence, health.values)
