"""Measure the CPU time of a model node whose results nobody needs, with the memory on and off, and while it serves.

    python benchmarks/idle.py                    # writes benchmarks/results/idle.json

A model node in a process of its own gets colour and depth of 640 x 480 at a steady rate. Its CPU time, user and system,
is that of the whole process over the same seconds: with memory:=true and no subscriber, with memory:=false and no
subscriber, and with memory:=false and a subscriber of the mask. What the node reports on /diagnostics says how many
images arrived and how many were encoded meanwhile.
"""

import os
import subprocess
import sys
import time

import numpy as np
import psutil
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.executors import SingleThreadedExecutor
from sensor_msgs.msg import Image
from std_msgs.msg import Header
from timing import finish, options

from m3et_ros.cli.output import print_status
from m3et_ros.ros.convert import stamp_msg, to_image_msg
from m3et_ros.ros.process import prepare

CASES = {
    'memory on, nobody subscribes': ('true', False),
    'memory off, nobody subscribes': ('false', False),
    'memory off, the mask is subscribed to': ('false', True),
}
"""The parameter memory, and whether somebody subscribes."""


class Stage:
    """A camera and the reader of the diagnostics, in this process."""

    def __init__(self, rate: float):
        self._period = 1 / rate
        self._context = rclpy.Context()
        rclpy.init(context=self._context, args=[])
        self.node = rclpy.create_node('idle', context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        header, random = Header(frame_id='camera'), np.random.default_rng(0)
        pixels = random.integers(0, 256, (480, 640, 3), np.uint8)
        self._images = {
            'depth/image_raw': to_image_msg(np.full((480, 640), 1500, np.uint16), '16UC1', header),
            'rgb/image_raw': to_image_msg(pixels, 'rgb8', header),
        }
        self._cameras = {name: self.node.create_publisher(Image, f'/idle/{name}', 1) for name in self._images}
        self.values: dict[str, str] = {}
        self.node.create_subscription(DiagnosticArray, '/diagnostics', self._read, 10)

    def play(self, seconds: float) -> None:
        """Show images for a time."""
        end = due = time.monotonic()
        end += seconds
        while (now := time.monotonic()) < end:
            if now >= due:
                due += self._period
                stamp = stamp_msg(time.time_ns())
                for name, image in self._images.items():
                    image.header.stamp = stamp
                    self._cameras[name].publish(image)
            self._executor.spin_once(timeout_sec=max(0.0, min(due - time.monotonic(), 0.05)))

    def close(self) -> None:
        """Leave the graph."""
        self._executor.shutdown(timeout_sec=0)
        self.node.destroy_node()
        rclpy.shutdown(context=self._context)

    def _read(self, message: DiagnosticArray) -> None:
        for status in message.status:
            self.values = {'message': status.message, **{pair.key: pair.value for pair in status.values}}


def measured(memory: str, subscribed: bool, asked) -> dict:
    """Return the share of a core and the frames of one case."""
    values = {'autostart': 'true', 'model': asked.model, 'threads': 1, 'memory': memory, 'silent_topic_s': 0.0}
    words = [word for name, value in values.items() for word in ('-p', f'{name}:={value}')]
    command = [sys.executable, '-m', 'm3et_ros.ros.model_node', '--ros-args', '-r', '__ns:=/idle', *words]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    stage = Stage(asked.rate)
    try:
        if subscribed:
            stage.node.create_subscription(Image, '/idle/model/segmentation/mask', lambda _: None, 1)
        while int(stage.values.get('frames_in', 0)) < 3 * asked.rate:
            stage.play(1.0)
        before, used, start = dict(stage.values), cpu_s(process.pid), time.monotonic()
        stage.play(asked.seconds)
        used, took = cpu_s(process.pid) - used, time.monotonic() - start
        keys = ('frames_in', 'frames_encoded')
        frames = {key: int(stage.values[key]) - int(before[key]) for key in keys}
        return {'core_share': round(used / took, 4), **frames, 'message': stage.values['message']}
    finally:
        stage.close()
        process.terminate()
        process.wait(60)


def cpu_s(pid: int) -> float:
    """Return the CPU seconds that a process has used."""
    times = psutil.Process(pid).cpu_times()
    return times.user + times.system


def main() -> None:
    """Measure and write the figures."""
    parser = options(__doc__, rounds=1)
    parser.add_argument('--model', default='kitchen')
    parser.add_argument('--rate', type=float, default=10.0, help='images a second')
    parser.add_argument('--seconds', type=float, default=30.0, help='seconds of each case')
    asked = parser.parse_args()
    os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] = 'LOCALHOST'
    prepare()
    found = {}
    for name, (memory, subscribed) in CASES.items():
        found[name] = measured(memory, subscribed, asked)
        print_status(f'{name}: {found[name]["core_share"]:.1%} of a core')
    facts = {'model': asked.model, 'rate_hz': asked.rate, 'seconds': asked.seconds}
    finish('idle', {**facts, 'cases_of_the_node': found}, asked.results)


if __name__ == '__main__':
    main()
