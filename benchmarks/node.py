"""Measure the whole node on a real recording: frames per second, and the share of CPU time outside the model.

    python benchmarks/node.py --bag BAG                                        # writes benchmarks/results/node.json
    python benchmarks/node.py                                                  # images made here instead of a recording
    python benchmarks/node.py --size 1920x1080 --rate 60 --results benchmarks/results/node_1080p_60hz.json
    python benchmarks/node.py --bag BAG --rate 30 --results benchmarks/results/node_30hz.json
    python benchmarks/node.py --bag BAG --runtime openvino --results benchmarks/results/node_openvino.json

The CPU time of the model's calls on the inference thread is compared with that of all threads of the node, which also
receive, pair, decode, resize, fill holes, draw and publish. This process publishes the images of a bag at a steady rate
over DDS and receives depth and segmentation; a second process is the unchanged model node. With --rate, frames that the
model has no time for belong to the rest, too; the age of results should then stay within a period of the camera, the
99th percentile of a frame's time on the inference thread, and 20 ms, and the node's diagnostics should explain every
frame without a result. The first frames are not counted. The node has one thread, the shipped weights, and eager torch
unless --runtime names another runtime.
"""

import argparse
import json
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from itertools import cycle, islice
from pathlib import Path

import numpy as np
from timing import finish, options

FIRST = 5
"""Frames before the measurement begins."""
PATIENCE = 10.0
"""Seconds to wait for the result of a frame."""
MODEL = {
    'm3et_ros.models.m3et.model': {'M3ET': ('encode_images', 'add_text', 'decode', 'answer_logits')},
    'm3et_ros.runtime.backends.prepared': {'Prepared': ('encode_images', 'add_text', 'decode')},
    'm3et_ros.runtime.action_stream': {'ActionStream': ('update', 'read')},
    'm3et_ros.runtime.memory': {'EpisodeMemory': ('update',)},
}
"""Methods that count as the model, by class and module."""


class Timer:
    """CPU seconds inside the methods of MODEL, and the clocks at each frame."""

    def __init__(self):
        self.model_s, self._inside = 0.0, 0
        self.frames: list[tuple[float, float, float]] = []
        self.spans: list[float] = []

    def wrap(self, kind: type, name: str) -> None:
        """Time a method of a class, except for calls from inside timed methods."""
        inner = getattr(kind, name)

        def timed(*args, **kwargs):
            start, self._inside = time.thread_time(), self._inside + 1
            try:
                return inner(*args, **kwargs)
            finally:
                self._inside -= 1
                if not self._inside:
                    self.model_s += time.thread_time() - start

        setattr(kind, name, timed)

    def span(self, kind: type, name: str) -> None:
        """Record the wall time of each call of a method."""
        inner = getattr(kind, name)

        def spanned(*args, **kwargs):
            start = time.monotonic()
            inner(*args, **kwargs)
            self.spans.append(time.monotonic() - start)

        setattr(kind, name, spanned)

    def mark(self, kind: type, name: str) -> None:
        """Record the clocks at each call of a method, which begins a frame."""
        inner = getattr(kind, name)

        def marked(*args, **kwargs):
            self.frames.append((time.monotonic(), time.process_time(), self.model_s))
            return inner(*args, **kwargs)

        setattr(kind, name, marked)


def child(out: Path, arguments: list[str]) -> int:
    """Run the model node and write its times at the end."""
    import importlib

    import torch

    from m3et_ros.ros import model_node

    torch.set_num_threads(1)
    timer = Timer()
    for module, kinds in MODEL.items():
        for kind, names in kinds.items():
            for name in names:
                timer.wrap(getattr(importlib.import_module(module), kind), name)
    timer.mark(model_node.Engine, 'encode')
    timer.span(model_node.ModelNode, '_process_frame')
    code = model_node.main(['node', *arguments])
    # The first call is the self-test's.
    found = {'frames': timer.frames[1 + FIRST :], 'spans': timer.spans[FIRST:]}
    out.write_text(json.dumps(found | {'memory_mb': resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000}))
    return code


class Robot:
    """The surroundings of the node: camera and subscriber."""

    def __init__(self):
        import rclpy
        from diagnostic_msgs.msg import DiagnosticArray
        from rclpy.executors import SingleThreadedExecutor
        from sensor_msgs.msg import Image

        from m3et_ros.ros import process
        from m3et_ros.ros.camera.subscription import newest
        from m3et_ros.ros.interfaces import ANTICIPATION

        process.prepare()
        rclpy.init()
        self.node, self.ages, self.images = rclpy.create_node('around', namespace='bench'), [], 0
        self.diagnostics: dict[str, str] = {}
        self.rgb = self.node.create_publisher(Image, 'rgb/image_raw', 1)
        self.depth = self.node.create_publisher(Image, 'depth/image_raw', 1)
        self.node.create_subscription(Image, 'model/depth/image', self._on_depth, newest())
        self.node.create_subscription(Image, 'model/segmentation/mask', lambda _: None, newest())
        self.node.create_subscription(ANTICIPATION.kind, 'model/anticipation', lambda _: None, 1)
        self.node.create_subscription(DiagnosticArray, '/diagnostics', self._on_diagnostics, 10)
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self.node)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=process.spin, args=(self._executor, self._stop.is_set), daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Shut down in an order that leaves nothing running."""
        import rclpy

        self._stop.set()
        self._thread.join()
        self._executor.shutdown(timeout_sec=5)
        self.node.destroy_node()
        rclpy.shutdown()

    def _on_depth(self, image) -> None:
        from m3et_ros.ros.convert import age_s

        self.ages.append(age_s(image.header, self.node.get_clock().now()))

    def _on_diagnostics(self, array) -> None:
        for status in array.status:
            if status.name == '/bench/model':
                self.diagnostics = {pair.key: pair.value for pair in status.values}

    def drops(self) -> dict[str, int]:
        """Return frames shown, served, and dropped by reason, from the diagnostics after the last frame."""
        time.sleep(1.5)
        gone = {
            key.split('/', 1)[1]: int(value)
            for key, value in self.diagnostics.items()
            if key.split('/')[0] in ('dropped', 'synchroniser') and key.endswith('superseded')
        }
        arrived, served = int(self.diagnostics['frames_in']), int(self.diagnostics['frames_out'])
        return {
            'shown': self.images,
            'arrived': arrived,
            'served': served,
            **gone,
            'unexplained': self.images - served - sum(gone.values()),
        }

    def show(self, rgb, depth) -> None:
        """Publish the messages of a frame with the current time."""
        depth.header.stamp = rgb.header.stamp = self.node.get_clock().now().to_msg()
        self.depth.publish(depth)
        self.rgb.publish(rgb)
        self.images += 1


def messages_of(frame) -> tuple:
    """Return the messages of colour and depth; made once, since the camera shares the cores with the node."""
    from std_msgs.msg import Header

    from m3et_ros.data.images.messages import depth_to_mm
    from m3et_ros.ros.convert import to_image_msg

    header = Header(frame_id='camera')
    rgb = to_image_msg(np.ascontiguousarray(frame.rgb), 'rgb8', header)
    return rgb, to_image_msg(depth_to_mm(frame.depth), '16UC1', header)


def frames_of(path: Path, count: int) -> list:
    """Return frames with colour and depth, spread over the recording."""
    from m3et_ros.data.bags.frames import frames
    from m3et_ros.data.bags.reader import BagReader
    from m3et_ros.data.bags.topics import find_camera

    with BagReader(path) as bag:
        camera = find_camera(bag)
        seen = frames(bag, rgb_topic=camera.rgb, depth_topic=camera.depth, every=10, on_damaged=lambda _: None)
        found = list(islice((frame for frame in seen if frame.depth is not None), count))
    if not found:
        raise SystemExit(f'{path} has no frame with colour and depth')
    return found


def made_frames(count: int, width: int = 640, height: int = 480) -> list:
    """Return frames with smooth colours, a slope of depth, and a tenth of it in holes."""
    import cv2

    from m3et_ros.data.frame import Frame

    found, random = [], np.random.default_rng(0)
    down, across = np.mgrid[0:height, 0:width].astype(np.float32)
    for number in range(count):
        coarse = random.standard_normal((24, 32, 4), np.float32)
        blobs = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
        depth = 1 + 1.6 * across / width + 0.6 * down / height
        depth[blobs[..., 3] > np.quantile(blobs[..., 3], 0.9)] = np.nan
        rgb = np.clip(128 + 40 * blobs[..., :3], 0, 255).astype(np.uint8)
        found.append(Frame(rgb, depth, number))
    return found


def play(robot: Robot, frames: list, asked: argparse.Namespace) -> None:
    """Publish frames at the rate, once the node is active, until enough results have come or the time is up."""
    end = time.monotonic() + asked.wait
    while not robot.rgb.get_subscription_count():
        if time.monotonic() > end:
            raise SystemExit(f'the node was not active after {asked.wait:.0f} s')
        time.sleep(0.2)
    shown = [messages_of(frame) for frame in frames]
    end, due = time.monotonic() + asked.seconds, 0.0
    for messages in cycle(shown):
        before = len(robot.ages)
        robot.show(*messages)
        if asked.rate and before >= FIRST:
            due = (due or time.monotonic()) + 1 / asked.rate
            time.sleep(max(0.0, due - time.monotonic()))
        else:
            late = time.monotonic() + PATIENCE
            while len(robot.ages) == before and time.monotonic() < late:
                time.sleep(0.005)
        if time.monotonic() > end or len(robot.ages) >= asked.results_wanted + FIRST:
            return


def measure(robot: Robot, frames: list, asked: argparse.Namespace) -> tuple[dict, dict]:
    """Run the node behind the robot's camera; return what its process has measured, and its drops."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / 'times.json'
        words = ['autostart:=true', f'model:={asked.model}', f'runtime:={asked.runtime}', 'device:=cpu', 'threads:=1']
        parameters = [word for value in words for word in ('-p', value)]
        node = subprocess.Popen(
            [sys.executable, __file__, '--child', str(out), '--ros-args', '-r', '__ns:=/bench', *parameters]
        )
        try:
            play(robot, frames, asked)
            drops = robot.drops()
        finally:
            node.send_signal(signal.SIGINT)
            node.wait(300)
            robot.close()
        return json.loads(out.read_text()), drops


def main() -> None:
    """Measure and write the figures."""
    if sys.argv[1:2] == ['--child']:
        sys.exit(child(Path(sys.argv[2]), sys.argv[3:]))
    parser = options(__doc__)
    parser.add_argument('--bag', type=Path, help='a recording with colour and depth; without one, images are made')
    parser.add_argument('--size', default='640x480', help='of the images that are made')
    parser.add_argument('--model', default='kitchen2')
    parser.add_argument('--runtime', default='torch', help='torch, openvino or compile')
    parser.add_argument(
        '--rate',
        type=float,
        default=0.0,
        help='camera rate in Hz; 0 shows each frame after the result of the one before',
    )
    parser.add_argument('--seconds', type=float, default=60.0, help='longest time of the measurement')
    parser.add_argument('--results-wanted', type=int, default=300, help='frames after which it ends')
    parser.add_argument('--wait', type=float, default=300.0, help='seconds until the node must be active')
    asked = parser.parse_args()
    frames = frames_of(asked.bag, 20) if asked.bag else made_frames(20, *map(int, asked.size.split('x')))
    robot = Robot()
    found, drops = measure(robot, frames, asked)
    spans, memory_mb, found = found['spans'], found['memory_mb'], found['frames']
    if len(found) < 3:
        raise SystemExit(f'the node served {len(found)} frames after the first {FIRST}; give more --seconds')
    (start, cpu, model), (stop, cpu_end, model_end) = found[0], found[-1]
    served, ages = len(found) - 1, robot.ages[FIRST:]
    per_frame, model_ms = 1e3 * (cpu_end - cpu) / served, 1e3 * (model_end - model) / served
    height, width = frames[0].rgb.shape[:2]
    finish(
        'node',
        {
            'bag': asked.bag.resolve().name if asked.bag else 'images made here',
            'image': f'{width}x{height}',
            'model': asked.model,
            'runtime': asked.runtime,
            'rate_in_hz': asked.rate or 'a frame a result',
            'frames_in': robot.images,
            'frames_measured': served,
            'frames_per_s': round(served / (stop - start), 2),
            'frames_per_cpu_s': round(1e3 / per_frame, 2),
            'cpu_ms_per_frame': round(per_frame, 2),
            'model_cpu_ms_per_frame': round(model_ms, 2),
            'share_not_model': round(1 - model_ms / per_frame, 4),
            'age_p50_s': percentile(ages, 50),
            'age_p99_s': percentile(ages, 99),
            'inference_p99_s': percentile(spans, 99),
            'memory_mb': round(memory_mb),
            'drops': drops,
        },
        asked.results,
    )


def percentile(values: list[float], share: float) -> float:
    """Return a percentile of seconds, to the millisecond."""
    return round(float(np.percentile(values, share)), 3)


if __name__ == '__main__':
    main()
