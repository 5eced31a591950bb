"""Measure the cost of the topics in space: while nobody hears them, and while a process of its own does.

    ROS_DOMAIN_ID=77 python benchmarks/space.py    # writes benchmarks/results/space.json; two minutes

One model node processes the same simulated frame again and again, as fast as it can. Each round does so with every set
of subscribers in turn, so that other load falls on all of them alike; ratios are medians over the rounds. What unheard
topics cost is also measured alone: the questions for subscribers that each frame asks.
"""

import argparse
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import rclpy
import torch
from runs import RESULTS, write
from sensor_msgs.msg import CameraInfo
from std_msgs.msg import Header

from m3et_ros.cli.progress import track
from m3et_ros.data.kitchen.sim.camera import Camera
from m3et_ros.data.kitchen.sim.episode import Episode
from m3et_ros.ros import process
from m3et_ros.ros.camera.sync import Pair
from m3et_ros.ros.camera_inputs import PairedMessages
from m3et_ros.ros.convert import stamp_msg, to_image_msg
from m3et_ros.ros.model_node import ModelNode

HEARD = {
    'depth and mask': ('depth/image', 'segmentation/mask'),
    'and points': ('depth/image', 'segmentation/mask', 'points'),
    'and markers': ('depth/image', 'segmentation/mask', 'markers'),
}
"""Sets of topics by name; the first is the one that others are compared with."""

LISTENER = """
import sys, threading, rclpy
from m3et_ros.ros import interfaces, process
process.prepare()
rclpy.init()
node, heard, lines = rclpy.create_node('listener'), [], []
kinds = {row.name: row.kind for row in interfaces.OUTPUTS}
def read():
    for line in sys.stdin:
        lines.append(line.split())
    lines.append(None)
threading.Thread(target=read, daemon=True).start()
while True:
    rclpy.spin_once(node, timeout_sec=0.05)
    if lines:
        for one in heard:
            node.destroy_subscription(one)
        if (topics := lines.pop(0)) is None:
            break
        heard = [
            node.create_subscription(kinds['~/' + name], '/cost/model/' + name, lambda _: None, 1, raw=True)
            for name in topics
        ]
node.destroy_node()
rclpy.shutdown()
"""
"""Program of the process that subscribes: each line of stdin has the topics from then on."""


class Listener:
    """Subscribes to topics of the node in another process."""

    def __init__(self, node: ModelNode):
        self._node = node
        self._child = subprocess.Popen([sys.executable, '-c', LISTENER], stdin=subprocess.PIPE, text=True)

    def listen(self, topics: tuple[str, ...]) -> None:
        """Subscribe to these topics and no others, and wait until the node sees that."""
        self._child.stdin.write(' '.join(topics) + '\n')
        self._child.stdin.flush()
        every = {topic for group in HEARD.values() for topic in group}
        wait(lambda: {topic for topic in every if self._node.count_subscribers(f'/cost/model/{topic}')} == set(topics))

    def close(self) -> None:
        """End the process."""
        self._child.stdin.close()
        self._child.wait(60)


def wait(done: Callable[[], bool]) -> None:
    """Wait until `done()` is true, for a minute at most."""
    end = time.monotonic() + 60
    while not done():
        if time.monotonic() > end:
            sys.exit('the subscribers of the other process were not found within a minute; check ROS_DOMAIN_ID')
        time.sleep(0.05)


def messages_of(width: int, height: int) -> PairedMessages:
    """Return a frame of a kitchen as it arrives from a camera."""
    episode = Episode(20003, width=width, height=height)
    with Camera(episode) as camera:
        *_, state = episode.run(20)
        seen = camera.observe(state)
    header = Header(stamp=stamp_msg(10**18), frame_id='lens')
    info = CameraInfo(header=header, width=width, height=height, k=seen.K.ravel().tolist())
    rgb, depth = to_image_msg(seen.rgb, 'rgb8', header), to_image_msg(seen.depth, '32FC1', header)
    return PairedMessages(Pair(10**18, rgb, depth), info, '', depth_comes=True)


def rate(work: Callable[[], Any], seconds: float) -> float:
    """Return how often a function runs in a second."""
    start, count = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        work()
        count += 1
    return count / (time.perf_counter() - start)


def main() -> None:
    """Measure and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument('--seconds', type=float, default=4.0, help='seconds of each set in each round')
    options = parser.parse_args()
    torch.set_num_threads(1)
    process.prepare()
    rclpy.init()
    node = ModelNode(namespace='cost')
    node.trigger_configure()
    node.trigger_activate()
    executor = rclpy.executors.SingleThreadedExecutor()
    executor.add_node(node)
    done = threading.Event()
    spinning = threading.Thread(target=process.spin, args=(executor, done.is_set))
    spinning.start()
    listener = Listener(node)
    messages, rates = messages_of(640, 480), {name: [] for name in HEARD}
    for _ in track(range(options.rounds), options.rounds, 'rounds'):
        for name, topics in HEARD.items():
            listener.listen(topics)
            rates[name].append(rate(lambda: node._process_frame(messages), options.seconds))
    space = node._perception.space
    # Each frame asks Perception.wants_depth, wants_mask and, once something is decoded, space.wants_mask.
    checks = 1 / rate(lambda: (space.wants_depth, space.wants_mask, space.wants_mask), 1.0)
    listener.close()
    done.set()
    spinning.join()
    base = rates['depth and mask']
    ratios = {name: statistics.median(a / b for a, b in zip(found, base, strict=True)) for name, found in rates.items()}
    write(
        RESULTS / 'space.json',
        {
            'rates_hz': {name: statistics.median(found) for name, found in rates.items()},
            'rate_ratio': ratios,
            'unheard_seconds_per_frame': checks,
            'unheard_share_of_frame': checks * statistics.median(base),
        },
    )
    node.destroy_node()
    rclpy.shutdown()


if __name__ == '__main__':
    main()
