"""Listener of the demo: images and results of a robot by stamp, with their age, and the truth of the simulator."""

import json
import time
from collections import Counter, OrderedDict
from collections.abc import Sequence
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import Image
from std_msgs.msg import String

from m3et_ros.cli.ask.client import Client
from m3et_ros.msg import ActionAnticipation, LabelMap
from m3et_ros.ros.convert import stamp_ns

MAX_FRAMES = 24
"""Stamps whose messages are held: enough for a slow model to catch up, some 100 MB at 640x480."""
PICTURES = ('rgb', 'measured', 'completed', 'overlay', 'mask')


class ResultListener:
    """Subscriptions to a model node and its simulated camera.

    Args:
        node: node that subscribes.
        namespace: namespace of the model node.
        camera: prefix of the camera's topics.

    Attributes:
        frames: the newest messages by stamp in ns and by name: those of PICTURES, and 'anticipation'.
        received: number of messages received, by the same names.
        ages: seconds from the stamp of a frame to the arrival of its completed depth.
        truths: true action of the person, by stamp; None for no action.
        answers: true answers by question, by stamp.
        labels: the latched label map, or None.
        diagnostics: newest values of the model node by key.
        unconfigured: how often in a row the node reported that it is not configured.
    """

    def __init__(self, node: Client, namespace: str, camera: str):
        self.frames: OrderedDict[int, dict[str, Any]] = OrderedDict()
        self.received: Counter[str] = Counter()
        self.ages: list[float] = []
        self.truths: dict[int, dict | None] = {}
        self.answers: dict[int, dict[str, str]] = {}
        self.labels: LabelMap | None = None
        self.diagnostics: dict[str, str] = {}
        self.unconfigured = 0
        self._model = f'{namespace}/model'
        topics = {
            'rgb': f'{camera}/color/image_raw',
            'measured': f'{camera}/aligned_depth_to_color/image_raw',
            'completed': f'{self._model}/depth/image',
            'overlay': f'{self._model}/segmentation/overlay',
            'mask': f'{self._model}/segmentation/mask',
        }
        for name, topic in topics.items():
            node.create_subscription(Image, topic, lambda message, name=name: self._on_result(name, message), 5)
        node.create_subscription(
            ActionAnticipation,
            f'{self._model}/anticipation',
            lambda message: self._on_result('anticipation', message),
            5,
        )
        node.create_subscription(String, f'{camera}/camera_sim/action', self._on_truth, 10)
        node.create_subscription(DiagnosticArray, '/diagnostics', self._on_diagnostics, 10)
        node.create_subscription(
            LabelMap,
            f'{self._model}/segmentation/labels',
            self._on_labels,
            QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL),
        )

    def complete(self, stamp: int) -> bool:
        """Return True if all pictures of a stamp have come."""
        return all(name in self.frames.get(stamp, {}) for name in PICTURES)

    def newest_complete(self) -> int | None:
        """Return the newest stamp whose pictures have all arrived, or None."""
        return next((stamp for stamp in reversed(self.frames) if self.complete(stamp)), None)

    def next_action(self, stamp: int) -> dict | None:
        """Return the first action that begins after a stamp, or None if the simulator has not reported one yet."""
        now = self.truths.get(stamp)
        for at, action in sorted(self.truths.items()):
            if at > stamp and action and (now is None or action['start_s'] > now['start_s']):
                return action
        return None

    def drops(self) -> dict[str, int]:
        """Return the number of frames that the model node dropped or refused, by reason, from its diagnostics."""
        counts = {}
        for key, value in self.diagnostics.items():
            group, _, reason = key.partition('/')
            if group in ('dropped', 'synchroniser') and int(value):
                counts[reason] = int(value)
        return counts

    def _on_result(self, name: str, message) -> None:
        stamp = stamp_ns(message.header.stamp)
        self.frames.setdefault(stamp, {})[name] = message
        self.received[name] += 1
        if name == 'completed':
            self.ages.append((time.time_ns() - stamp) / 1e9)
        while len(self.frames) > MAX_FRAMES:
            self.frames.popitem(last=False)

    def _on_truth(self, message: String) -> None:
        truth = json.loads(message.data)
        self.truths[truth['stamp_ns']] = truth['current']
        self.answers[truth['stamp_ns']] = truth['answers']

    def _on_labels(self, message: LabelMap) -> None:
        self.labels = message

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.name == self._model:
                self.diagnostics = {pair.key: pair.value for pair in status.values}
                self.unconfigured = self.unconfigured + 1 if self.diagnostics['state'] == 'unconfigured' else 0


def quantiles(values: Sequence[float]) -> dict[str, float | None]:
    """Return the median and the 95th percentile; None for both without values."""
    import numpy as np

    if not values:
        return {'p50': None, 'p95': None}
    return {'p50': float(np.percentile(values, 50)), 'p95': float(np.percentile(values, 95))}
