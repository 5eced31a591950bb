"""Shared by fuzz.py and soak.py: a node in a process of its own, with clients here, and what its process holds."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import psutil
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import QoSProfile
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from m3et_ros.ros.convert import stamp_msg, to_image_msg
from m3et_ros.srv import AskQuestion

MODEL_NODE = 'm3et_ros.ros.model_node'
QUESTION = 'Is there a cup?'
MIB = 1 << 20
WAYS_UP = {
    State.PRIMARY_STATE_UNCONFIGURED: (Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE),
    State.PRIMARY_STATE_INACTIVE: (Transition.TRANSITION_ACTIVATE,),
    State.PRIMARY_STATE_ACTIVE: (),
}
"""Transitions that lead to active, by state."""


def alone() -> None:
    """Use a DDS domain of this process, which other work on the machine does not disturb; before rclpy.init."""
    os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] = 'LOCALHOST'
    os.environ.setdefault('ROS_DOMAIN_ID', str(1 + os.getpid() % 100))


def held(process: psutil.Process) -> dict[str, float]:
    """Return what a process holds: resident memory in MiB, threads, file descriptors."""
    with process.oneshot():
        return {
            'rss_mib': round(process.memory_info().rss / MIB, 2),
            'threads': process.num_threads(),
            'descriptors': process.num_fds(),
        }


def picture() -> tuple[np.ndarray, np.ndarray]:
    """Return a small colour picture (H, W, 3) uint8 and its depth (H, W) uint16 in mm, always the same."""
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (48, 64, 3), np.uint8), rng.integers(400, 4000, (48, 64), np.uint16)


class WatchedNode:
    """A node that is started, called, watched and ended.

    Args:
        namespace: its namespace; the node is called `model`.
        arguments: further arguments after --ros-args.
        environment: variables beside those of this process.
        supervised: start it through its supervisor, as `m3et robot` and the launch files do; `process` is that one.
    """

    def __init__(
        self,
        namespace: str,
        arguments: Sequence[str],
        environment: dict[str, str] | None = None,
        *,
        supervised: bool = False,
    ):
        self.name = f'{namespace}/model'
        self.namespace = namespace
        self.diagnosis: dict[str, str] = {}
        self.starts = 0
        self._arguments, self._environment = arguments, environment or {}
        self._modules = [*(['m3et_ros.cli.supervision'] if supervised else []), MODEL_NODE]
        self._log = tempfile.TemporaryFile('w+')  # noqa: SIM115 - open as long as the process runs
        self._context = rclpy.Context()
        rclpy.init(context=self._context, args=[])
        self.node = rclpy.create_node('watcher', namespace=namespace, context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        self._clients: dict[str, Any] = {}
        self.node.create_subscription(DiagnosticArray, '/diagnostics', self._on_diagnostics, QoSProfile(depth=50))
        self.rgb = self.node.create_publisher(Image, f'{namespace}/rgb/image_raw', 1)
        self.depth = self.node.create_publisher(Image, f'{namespace}/depth/image_raw', 1)
        self.start()

    @property
    def running(self) -> bool:
        return self._popen.poll() is None

    @property
    def code(self) -> int | None:
        """Exit code of the process; None while it runs."""
        return self._popen.poll()

    def start(self) -> None:
        """Start the process; again after its death."""
        words = ['-m', 'm3et_ros.cli.processes', *self._modules, '--ros-args', '-r', f'__ns:={self.namespace}']
        self._popen = subprocess.Popen(
            [sys.executable, '-P', *words, *self._arguments],
            stdout=self._log,
            stderr=subprocess.STDOUT,
            env={**os.environ, **self._environment, 'PYTHONFAULTHANDLER': '1'},
        )
        self.process = psutil.Process(self._popen.pid)
        self.starts += 1

    def held(self) -> dict[str, float]:
        """Return what the process holds; zeros after its death."""
        return held(self.process) if self.running else dict.fromkeys(('rss_mib', 'threads', 'descriptors'), 0)

    def log(self) -> str:
        """Return all that the process has printed."""
        return os.pread(self._log.fileno(), 1 << 26, 0).decode(errors='replace')

    def spin(self, done: Callable[[], Any], seconds: float) -> Any:
        """Serve this side until done() is true, and return its value; its last value after `seconds`."""
        end = time.monotonic() + seconds
        while not (value := done()) and time.monotonic() < end:
            self._executor.spin_once(timeout_sec=0.02)
        return value

    def call(self, kind: type, name: str, request: Any, seconds: float = 60.0) -> Any:
        """Return the response of a service; None when none came."""
        full = name if name.startswith('/') else f'{self.name}/{name}'
        if full not in self._clients:
            self._clients[full] = self.node.create_client(kind, full)
        client = self._clients[full]
        if not self.spin(lambda: client.service_is_ready() or not self.running, 30):
            return None
        future = client.call_async(request)
        self.spin(lambda: future.done() or not self.running, seconds)
        if not future.done():
            client.remove_pending_request(future)
        return future.result() if future.done() else None

    def bring_up(self) -> bool:
        """Configure and activate the node where it is not; return True when it is active."""
        state = self.call(GetState, 'get_state', GetState.Request())
        for number in WAYS_UP.get(state.current_state.id, ()) if state else ():
            self.change(number)
        state = self.call(GetState, 'get_state', GetState.Request())
        return state is not None and state.current_state.id == State.PRIMARY_STATE_ACTIVE

    def change(self, number: int) -> bool:
        """Request a lifecycle transition; return True if it succeeded."""
        found = self.call(ChangeState, 'change_state', ChangeState.Request(transition=Transition(id=number)), 180)
        return found is not None and found.success

    def show(self) -> int:
        """Publish the picture with depth, stamped now; return the stamp in ns."""
        stamp = time.time_ns()
        rgb, depth = picture()
        header = Header(stamp=stamp_msg(stamp), frame_id='camera')
        self.depth.publish(to_image_msg(depth, '16UC1', header))
        self.rgb.publish(to_image_msg(rgb, 'rgb8', header))
        return stamp

    @staticmethod
    def question() -> AskQuestion.Request:
        """Return a good question about the picture, which goes with it."""
        rgb, depth = picture()
        header = Header(frame_id='camera')
        return AskQuestion.Request(
            question=QUESTION, image=to_image_msg(rgb, 'rgb8', header), depth=to_image_msg(depth, '16UC1', header)
        )

    def ask(self, seconds: float = 60.0) -> Any:
        """Return the response to the good question; None when none came."""
        return self.call(AskQuestion, 'ask', self.question(), seconds)

    def close(self) -> int:
        """End the process in order, and this side; return the exit code."""
        if self.running:
            self._popen.send_signal(signal.SIGTERM)
        try:
            self._popen.wait(20)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            self._popen.wait()
        self._executor.shutdown(timeout_sec=0)
        self.node.destroy_node()
        rclpy.shutdown(context=self._context)
        return self._popen.returncode

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.name == self.name:
                self.diagnosis = {'message': status.message, **{pair.key: pair.value for pair in status.values}}
