"""Publish true on /stop while a hand is nearer than a limit, or while nobody knows.

    python stop_for_hands.py --ros-args -p limit_m:=0.6

This shows how mask and depth fit together; it does not make a machine safe.
"""

import numpy as np
import rclpy
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import Image
from std_msgs.msg import Bool

from m3et_ros.msg import LabelMap

CLASSES = {'hand', 'arm', 'person'}


class StopForHands(Node):
    """Subscribes to the mask, to the names of its classes and to the completed depth."""

    def __init__(self):
        super().__init__('stop_for_hands')
        self._limit_m = self.declare_parameter('limit_m', 0.6).value
        self._least = self.declare_parameter('least_pixels', 20).value
        self._ids, self._mask, self._depth, self._known = [], None, None, False
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self.create_subscription(LabelMap, 'model/segmentation/labels', self._on_labels, latched)
        self.create_subscription(Image, 'model/segmentation/mask', self._on_mask, 1)
        self.create_subscription(Image, 'model/depth/image', self._on_depth, 1)
        self._stop = self.create_publisher(Bool, 'stop', 1)
        self.create_timer(self.declare_parameter('silent_s', 1.0).value, self._stop_unless_known)

    def _on_labels(self, message):
        self._ids = [i for i, name in zip(message.ids, message.names, strict=True) if name in CLASSES]
        if not self._ids:
            self.get_logger().error(f'The model knows none of {", ".join(sorted(CLASSES))}, so true is published.')

    def _on_mask(self, message):
        self._mask = message
        self._compare()

    def _on_depth(self, message):
        self._depth = message
        self._compare()

    def _compare(self):
        """Publish once mask and depth of the same image are there: results have the header of their image."""
        if self._ids and self._mask and self._depth and self._mask.header == self._depth.header:
            hand = np.isin(np.array(self._mask.data, np.uint8), self._ids)
            # A comparison with NaN is false: a hand of unknown depth counts as near.
            near = hand & ~(np.frombuffer(self._depth.data, np.float32) >= self._limit_m)
            self._known = True
            self._stop.publish(Bool(data=bool(near.sum() >= self._least)))

    def _stop_unless_known(self):
        if not self._known:
            self._stop.publish(Bool(data=True))
        self._known = False


def main():
    """Run until Ctrl-C."""
    try:
        rclpy.init()
        rclpy.spin(StopForHands())
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        rclpy.try_shutdown()


if __name__ == '__main__':
    main()
