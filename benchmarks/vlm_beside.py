"""Measure perception with and without a slow vision-language model that answers all the time on the same machine.

    python benchmarks/vlm_beside.py                    # writes benchmarks/results/vlm_beside.json

A model node in a process of its own serves a camera with `answerer: vlm`: a LLaVA with random weights that never stops
by itself, so every answer has all of its tokens. Its frames are counted while nobody asks and while a client asks its
next question as soon as it has an answer, in turn. 'camera' shows frames at the rate of a camera, which the node keeps
up with; 'saturated' shows more than it can serve. Each of the two models has one CPU thread. What counts is the share
of the frame rate that is left.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import QoSProfile
from sensor_msgs.msg import Image
from std_msgs.msg import Header
from timing import finish, options

from m3et_ros.cli.output import print_status
from m3et_ros.msg import ActionAnticipation
from m3et_ros.ros.convert import stamp_msg, to_image_msg
from m3et_ros.ros.process import prepare
from m3et_ros.srv import AskQuestion

TEST = Path(__file__).resolve().parents[1] / 'test'
SATURATING = 30.0
"""Frames a second that no model here serves on one thread."""
SIZES = {'hidden_size': 384, 'intermediate_size': 1024, 'num_hidden_layers': 8, 'num_attention_heads': 6}


class Node:
    """A model node in a process of its own; its camera and its client are here."""

    def __init__(self, folder: Path, asked):
        values = {
            'autostart': 'true',
            'model': asked.model,
            'threads': 1,
            'answerer': 'vlm',
            'answerer_checkpoint': folder,
            'answerer_threads': 1,
            'max_sentence_tokens': asked.tokens,
        }
        words = [word for name, value in values.items() for word in ('-p', f'{name}:={value}')]
        command = [sys.executable, '-m', 'm3et_ros.ros.model_node', '--ros-args', '-r', '__ns:=/beside', *words]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.frames, self.shown, self.waits, self.asking, self._asked_at, self._due = 0, 0, [], False, 0.0, 0.0
        self._context = rclpy.Context()
        rclpy.init(context=self._context, args=[])
        self._node = rclpy.create_node('vlm_beside', context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        self._camera = self._node.create_publisher(Image, '/beside/rgb/image_raw', 1)
        pixels = np.random.default_rng(0).integers(0, 256, (120, 160, 3), np.uint8)
        self._image = to_image_msg(pixels, 'rgb8', Header(frame_id='camera'))
        self._node.create_subscription(
            ActionAnticipation, '/beside/model/anticipation', self._count, QoSProfile(depth=100)
        )
        self._client = self._node.create_client(AskQuestion, '/beside/model/ask')
        self._open = None

    def measure(self, rate: float, seconds: float, asking: bool) -> float:
        """Return the frames a second while frames come at `rate`, with or without questions.

        On a busy machine the camera here falls behind its rate; what counts below it is the share that is served.
        """
        self.asking = asking
        # Without questions the last answer is waited for; with them the next one has begun.
        self.spin(rate, 600, lambda: (self._open is not None) == asking)
        self.spin(rate, 1.0)
        frames, shown, start = self.frames, self.shown, time.monotonic()
        self.spin(rate, seconds)
        frames, shown, took = self.frames - frames, self.shown - shown, time.monotonic() - start
        return rate * min(1.0, frames / shown) if rate < SATURATING else frames / took

    def spin(self, rate: float, seconds: float, done=lambda: False) -> None:
        """Show frames, and ask while `asking`, for a time or until a condition holds."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and not done():
            now = time.monotonic()
            if now >= self._due:
                self._due = max(self._due + 1 / rate, now)
                self._image.header.stamp = stamp_msg(time.time_ns())
                self._camera.publish(self._image)
                self.shown += 1
            if self.asking and self._open is None and self._client.service_is_ready():
                self._asked_at, self._open = now, self._client.call_async(AskQuestion.Request(question='What is it?'))
            self._executor.spin_once(timeout_sec=min(0.02, 0.5 / rate))
            if self._open is not None and self._open.done():
                if self._open.result().success:
                    self.waits.append(time.monotonic() - self._asked_at)
                self._open = None

    def close(self) -> None:
        """End the node, and what belongs to it here."""
        self.process.terminate()
        self.process.wait(60)
        self._executor.shutdown(timeout_sec=0)
        self._node.destroy_node()
        rclpy.shutdown(context=self._context)

    def _count(self, _: ActionAnticipation) -> None:
        self.frames += 1


def summary(pairs: list[tuple[float, float]]) -> dict[str, float]:
    """Return the medians of frames a second without and with questions, and of what is left of each pair."""
    alone, asked = zip(*pairs)
    left = sorted(b / a for a, b in pairs)
    return {
        'alone_hz': round(statistics.median(alone), 3),
        'asked_hz': round(statistics.median(asked), 3),
        'rate_left': round(statistics.median(left), 4),
        'rate_left_lowest': round(left[0], 4),
        'rate_left_highest': round(left[-1], 4),
    }


def measured(folder: Path, asked) -> dict:
    """Return the figures of both cases, and of the answers."""
    node, cases = Node(folder, asked), {'camera': asked.rate, 'saturated': asked.saturated}
    pairs: dict[str, list[tuple[float, float]]] = {name: [] for name in cases}
    try:
        node.spin(asked.rate, 300, lambda: node.frames > 5)
        for number in range(asked.pairs):
            for name, rate in cases.items():
                order = (False, True) if number % 2 else (True, False)
                found = {asking: node.measure(rate, asked.seconds, asking) for asking in order}
                pairs[name].append((found[False], found[True]))
                print_status(f'pair {number + 1}, {name}: {found[False]:.2f} Hz alone, {found[True]:.2f} Hz asked')
    finally:
        node.close()
    return {
        'cases_hz': {name: summary(found) for name, found in pairs.items()},
        'answers': len(node.waits),
        'answer_p50_s': round(statistics.median(node.waits), 2) if node.waits else None,
    }


def main() -> None:
    """Measure and write the figures."""
    parser = options(__doc__, rounds=1)
    parser.add_argument('--model', default='kitchen')
    parser.add_argument('--rate', type=float, default=5.0, help='frames per second of the camera')
    parser.add_argument('--saturated', type=float, default=60.0, help='frames per second that are too many')
    parser.add_argument('--tokens', type=int, default=12, help='tokens of an answer')
    parser.add_argument('--seconds', type=float, default=6.0, help='length of a measurement')
    parser.add_argument('--pairs', type=int, default=6, help='measurements without and with questions')
    asked = parser.parse_args()
    os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] = 'LOCALHOST'
    prepare()
    sys.path.insert(0, str(TEST))
    from tiny_vlms import vlm_folder

    with tempfile.TemporaryDirectory() as place:
        folder = vlm_folder(Path(place) / 'llava', endless=True, **SIZES)
        found = measured(folder, asked)
    keys = ('model', 'rate', 'saturated', 'tokens', 'seconds', 'pairs')
    finish(
        'vlm_beside', {**{key: getattr(asked, key) for key in keys}, 'language_model': SIZES, **found}, asked.results
    )


if __name__ == '__main__':
    main()
