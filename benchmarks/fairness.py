"""Measure frames under questions: rate and age with and without clients, by arrival and by quota, in one run.

    python benchmarks/fairness.py                                   # writes benchmarks/results/fairness.json
    python benchmarks/fairness.py --model tiny --clients 5 --seconds 5

A model node in a process of its own gets frames faster than it can serve them. It is measured without clients and with
them, in turn; every client asks its next question as soon as it has an answer. 'arrival' serves frames and questions
in the order of their arrival on one thread, as versions before the quota did; 'quota' is the inference thread of this
version. What counts is the share of the frame rate that is left with clients.
"""

import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import QoSProfile
from sensor_msgs.msg import Image
from std_msgs.msg import Header
from timing import finish, options

from m3et_ros.cli.output import print_status
from m3et_ros.cli.processes import end_with_parent
from m3et_ros.msg import ActionAnticipation
from m3et_ros.ros import model_node
from m3et_ros.ros.convert import stamp_msg, to_image_msg
from m3et_ros.ros.process import prepare
from m3et_ros.srv import AskQuestion

QUESTION = 'Is there a cup?'
SIDES = ('arrival', 'quota')


class ArrivalThread:
    """The inference thread before the quota: frames and questions in the order of their arrival."""

    busy_s = 0.0

    def __init__(self, on_frame):
        self._on_frame, self._slot, self.waiting = on_frame, None, 0
        self._lock, self._pool = threading.Lock(), ThreadPoolExecutor(max_workers=1)

    def offer(self, frame) -> bool:
        """Put a frame into the slot; the slot enters the queue when it is filled."""
        with self._lock:
            replaced, self._slot = self._slot is not None, frame
            if not replaced:
                self._pool.submit(self._process)
        return replaced

    def submit_steps(self, steps, *, client='') -> Future:
        """Queue a question, all steps of which run in one piece."""

        def run():
            while True:
                try:
                    next(steps)
                except StopIteration as end:
                    return end.value

        return self._pool.submit(run)

    def close(self) -> None:
        """Finish the current job."""
        self._pool.shutdown(cancel_futures=True)

    def _process(self) -> None:
        with self._lock:
            frame, self._slot = self._slot, None
        self._on_frame(frame)


class Side:
    """A model node in a process of its own, with its camera and its clients in this one."""

    def __init__(self, side: str, asked):
        words = ['-r', '__ns:=/fair', *(w for value in ('autostart:=true', 'threads:=1') for w in ('-p', value))]
        self.process = subprocess.Popen(
            [sys.executable, __file__, '--serve', side, '--ros-args', *words, '-p', f'model:={asked.model}'],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.ages: list[float] = []
        self.waits: list[float] = []
        self._context = rclpy.Context()
        rclpy.init(context=self._context, args=[])
        self._node = rclpy.create_node('fairness', context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        self._camera = self._node.create_publisher(Image, '/fair/rgb/image_raw', 1)
        pixels = np.random.default_rng(0).integers(0, 256, (120, 160, 3), np.uint8)
        self._image = to_image_msg(pixels, 'rgb8', Header(frame_id='camera'))
        self._node.create_subscription(
            ActionAnticipation, '/fair/model/anticipation', lambda m: self.ages.append(m.age_s), QoSProfile(depth=100)
        )
        self._clients = [self._node.create_client(AskQuestion, '/fair/model/ask') for _ in range(asked.clients)]
        self._asking, self._open = False, 0
        self._node.create_timer(1 / asked.rate, self._show)

    def wait(self) -> None:
        """Wait until the node serves."""
        self._spin(lambda: len(self.ages) > 5, 180)

    def measure(self, asking: bool, seconds: float) -> dict[str, float]:
        """Measure the frames, and the answers while the clients ask."""
        self._asking = asking
        for client in self._clients if asking else ():
            self._ask(client)
        self._spin(lambda: asking or not self._open, 0 if asking else 8)
        self._spin(lambda: False, 1.0)
        self.ages.clear()
        self.waits.clear()
        start = time.monotonic()
        self._spin(lambda: False, seconds)
        took, ages, waits = time.monotonic() - start, self.ages[:], self.waits[:]
        found = {'rate_hz': len(ages) / took, 'age_p99_s': float(np.quantile(ages, 0.99)) if ages else float('inf')}
        if waits:
            found |= {
                'answers_hz': len(waits) / took,
                'answer_p50_s': statistics.median(waits),
                'answer_most_s': max(waits),
            }
        self._asking = False
        return found

    def close(self) -> None:
        """End the node, and what belongs to it here."""
        self._asking = False
        self.process.terminate()
        self.process.wait(30)
        self._executor.shutdown(timeout_sec=0)
        self._node.destroy_node()
        rclpy.shutdown(context=self._context)

    def _show(self) -> None:
        self._image.header.stamp = stamp_msg(time.time_ns())
        self._camera.publish(self._image)

    def _ask(self, client) -> None:
        start = time.monotonic()
        self._open += 1

        def answered(future) -> None:
            self._open -= 1
            if future.result().success:
                self.waits.append(time.monotonic() - start)
            if self._asking:
                self._ask(client)

        client.call_async(AskQuestion.Request(question=QUESTION)).add_done_callback(answered)

    def _spin(self, done, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end and not done():
            self._executor.spin_once(timeout_sec=0.05)


def summary(rounds: Sequence[dict[str, float]]) -> dict[str, float]:
    """Return the median of each figure over the rounds."""
    names = {name: None for one in rounds for name in one}
    return {name: round(statistics.median(one[name] for one in rounds if name in one), 4) for name in names}


def main() -> None:
    """Measure and write the figures."""
    parser = options(__doc__, rounds=2)
    parser.add_argument('--model', default='kitchen')
    parser.add_argument('--clients', type=int, default=20)
    parser.add_argument('--rate', type=float, default=60.0, help='frames per second of the camera')
    parser.add_argument('--seconds', type=float, default=6.0, help='length of a measurement')
    parser.add_argument('--pairs', type=int, default=5, help='measurements without and with clients in a round')
    asked = parser.parse_args()
    os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] = 'LOCALHOST'
    prepare()
    pairs: dict[str, list[tuple[dict, dict]]] = {side: [] for side in SIDES}
    for number in range(asked.rounds):
        for side in SIDES[:: 1 if number % 2 else -1]:
            one = Side(side, asked)
            try:
                one.wait()
                for _ in range(asked.pairs):
                    pairs[side].append((one.measure(False, asked.seconds), one.measure(True, asked.seconds)))
            finally:
                one.close()
            print_status(f'round {number + 1}, {side}: {[summary([part]) for part in pairs[side][-1]]}')
    found = {}
    for side, measured in pairs.items():
        alone, under = zip(*measured, strict=True)
        left = statistics.median(b['rate_hz'] / a['rate_hz'] for a, b in measured)
        found[side] = {'alone': summary(alone), 'under_clients': summary(under), 'rate_left': round(left, 3)}
        print_status(f'{side}: {found[side]}')
    keys = ('model', 'clients', 'rate', 'seconds', 'pairs', 'rounds')
    finish('fairness', {**{key: getattr(asked, key) for key in keys}, 'sides': found}, asked.results)


if __name__ == '__main__':
    if sys.argv[1:2] == ['--serve']:
        end_with_parent()
        if sys.argv[2] == 'arrival':
            model_node.InferenceThread = ArrivalThread
        raise SystemExit(model_node.main(sys.argv[3:]))
    main()
