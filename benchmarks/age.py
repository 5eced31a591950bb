"""Measure the age of results behind a fast camera and a slow model: a slot for the newest frame against a queue.

    python benchmarks/age.py                      # writes benchmarks/results/age.json

Side (a) is this package's hand-over (keep-last 1, inference on its own thread, newest frame first); side (b) runs
inference inside the image callback, with a queue of ten. Both run in one process on real DDS, one after the other, for
several rounds. The model is a sleep of a given length, so the sides differ only in the hand-over.
"""

import argparse
import json
import statistics
import threading
import time
from pathlib import Path

import numpy as np
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import QoSProfile
from sensor_msgs.msg import Image
from std_msgs.msg import Header
from tqdm import tqdm

from m3et_ros.ros import process
from m3et_ros.ros.camera.subscription import newest
from m3et_ros.ros.convert import age_s, to_image_msg
from m3et_ros.ros.inference_thread import InferenceThread

RESULTS = Path(__file__).parent / 'results' / 'age.json'


class Side:
    """A node that receives the camera in one of the two ways and records the age of its results."""

    def __init__(self, slot: bool, inference_s: float):
        self.ages: list[float] = []
        self._inference_s = inference_s
        self.node = rclpy.create_node('slot' if slot else 'queue')
        self.worker = InferenceThread(self._infer) if slot else None
        self.node.create_subscription(
            Image, 'camera', self.worker.offer if slot else self._infer, newest() if slot else QoSProfile(depth=10)
        )

    def _infer(self, image: Image) -> None:
        time.sleep(self._inference_s)
        self.ages.append(age_s(image.header, self.node.get_clock().now()))

    def close(self) -> None:
        """Destroy the node."""
        if self.worker:
            self.worker.close()
        self.node.destroy_node()


def run(slot: bool, *, rate_hz: float, inference_s: float, seconds: float) -> list[float]:
    """Return the ages of one side's results in seconds, without those of the first second."""
    side, camera = Side(slot, inference_s), rclpy.create_node('camera')
    publisher = camera.create_publisher(Image, 'camera', 10)
    executor = SingleThreadedExecutor()
    executor.add_node(side.node)
    over = threading.Event()
    thread = threading.Thread(target=process.spin, args=(executor, over.is_set), daemon=True)
    thread.start()
    pixels = np.zeros((480, 640, 3), np.uint8)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        publisher.publish(to_image_msg(pixels, 'rgb8', Header(stamp=camera.get_clock().now().to_msg())))
        time.sleep(1 / rate_hz)
    over.set()
    thread.join()
    executor.shutdown(timeout_sec=5)
    side.close()
    camera.destroy_node()
    return side.ages[round(1 / inference_s) :]


def main() -> None:
    """Measure both sides in turn and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--rate', type=float, default=30.0, help='camera rate in Hz')
    parser.add_argument('--inference', type=float, default=0.2, help='seconds of inference')
    parser.add_argument('--rounds', type=int, default=3)
    parser.add_argument('--seconds', type=float, default=6.0, help='seconds per round and side')
    options = parser.parse_args()
    process.prepare()
    rclpy.init()
    ages = {'slot': [], 'queue': []}
    for _ in tqdm(range(options.rounds), desc='rounds'):
        for name, found in ages.items():
            found += run(name == 'slot', rate_hz=options.rate, inference_s=options.inference, seconds=options.seconds)
    rclpy.shutdown()
    median = {name: statistics.median(found) for name, found in ages.items()}
    bound = 1 / options.rate + options.inference + 0.02
    result = {
        'rate_hz': options.rate,
        'inference_s': options.inference,
        'results': {n: len(a) for n, a in ages.items()},
        'age_p50_s': median,
        'age_p95_s': {n: float(np.percentile(a, 95)) for n, a in ages.items()},
        'bound_s': bound,
        'share_of_slot_within_bound': float(np.mean(np.array(ages['slot']) <= bound)),
        'ratio_p50': median['queue'] / median['slot'],
    }
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(result, indent=2) + '\n')
    print(json.dumps(result, indent=2))


if __name__ == '__main__':
    main()
