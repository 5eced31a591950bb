"""Measure frames under questions: rate and age with and without clients, by arrival and by quota, in one run.

    python benchmarks/fairness.py                                   # writes benchmarks/results/fairness.json
    python benchmarks/fairness.py --model tiny --clients 5 --seconds 5

Each case starts a model node in a process of its own; a camera shows it frames faster than it can serve them, and every
client asks its next question as soon as it has an answer. 'arrival' serves frames and questions in the order of their
arrival on one thread, as versions before the quota did; 'quota' is the inference thread of this version. The sides take
turns. What counts is the share of the frame rate that is left with clients, against the same side without.
"""

import os
import statistics
import subprocess
import sys
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import QoSProfile
from sensor_msgs.msg import Image
from std_msgs.msg import Header
from timing import finish, options

from m3et_ros.cli.output import print_status
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

    def submit(self, job, *, client='') -> Future:
        """Queue a question."""
        return self._pool.submit(job)

    def close(self) -> None:
        """Finish the current job."""
        self._pool.shutdown(cancel_futures=True)

    def _process(self) -> None:
        with self._lock:
            frame, self._slot = self._slot, None
        self._on_frame(frame)


class Side:
    """A model node in a process of its own, with its camera and its clients in this one."""

    def __init__(self, side: str, asked, clients: int):
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
        self._clients = [self._node.create_client(AskQuestion, '/fair/model/ask') for _ in range(clients)]
        self._asking = False
        self._node.create_timer(1 / asked.rate, self._show)

    def run(self, seconds: float) -> dict[str, float]:
        """Wait until the node serves, let the clients ask, and measure."""
        self._spin(lambda: len(self.ages) > 5, 180)
        self._asking = True
        for client in self._clients:
            self._ask(client)
        self._spin(lambda: False, 2.0)
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

        def answered(future) -> None:
            if future.result().success:
                self.waits.append(time.monotonic() - start)
            if self._asking:
                self._ask(client)

        client.call_async(AskQuestion.Request(question=QUESTION)).add_done_callback(answered)

    def _spin(self, done, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end and not done():
            self._executor.spin_once(timeout_sec=0.05)


def summary(rounds: list[dict[str, float]]) -> dict[str, float]:
    """Return the median of each figure over the rounds."""
    names = {name: None for one in rounds for name in one}
    return {name: round(statistics.median(one[name] for one in rounds if name in one), 4) for name in names}


def main() -> None:
    """Measure and write the figures."""
    parser = options(__doc__, rounds=3)
    parser.add_argument('--model', default='kitchen')
    parser.add_argument('--clients', type=int, default=20)
    parser.add_argument('--rate', type=float, default=60.0, help='frames per second of the camera')
    parser.add_argument('--seconds', type=float, default=15.0, help='length of a measurement')
    asked = parser.parse_args()
    os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] = 'LOCALHOST'
    prepare()
    cases: dict[tuple[str, int], list] = {(side, clients): [] for side in SIDES for clients in (0, asked.clients)}
    for number in range(asked.rounds):
        for side, clients in list(cases)[:: 1 if number % 2 else -1]:
            one = Side(side, asked, clients)
            try:
                cases[side, clients].append(one.run(asked.seconds))
            finally:
                one.close()
            print_status(f'round {number + 1}: {side}, {clients} clients: {summary(cases[side, clients][-1:])}')
    found = {}
    for side in SIDES:
        alone, under = summary(cases[side, 0]), summary(cases[side, asked.clients])
        shares = [b['rate_hz'] / a['rate_hz'] for a, b in zip(cases[side, 0], cases[side, asked.clients], strict=True)]
        found[side] = {'alone': alone, 'under_clients': under, 'rate_left': round(statistics.median(shares), 3)}
        print_status(f'{side}: {found[side]}')
    keys = ('model', 'clients', 'rate', 'seconds', 'rounds')
    finish('fairness', {**{key: getattr(asked, key) for key in keys}, 'sides': found}, asked.results)


if __name__ == '__main__':
    if sys.argv[1:2] == ['--serve']:
        if sys.argv[2] == 'arrival':
            model_node.InferenceThread = ArrivalThread
        raise SystemExit(model_node.main(sys.argv[3:]))
    main()
