"""Dense outputs: completed depth, segmentation mask, overlay and the latched label map."""

import numpy as np
from rclpy.lifecycle import LifecycleNode
from sensor_msgs.msg import CameraInfo
from std_msgs.msg import Header

from m3et_ros.data.types import Labels
from m3et_ros.ros import interfaces
from m3et_ros.ros.images import to_image_msg
from m3et_ros.ros.label_info import label_info_publisher
from m3et_ros.ros.messages import label_map_msg
from m3et_ros.ros.publishers import publisher
from m3et_ros.ros.qos import latched
from m3et_ros.runtime.engine import Engine, View
from m3et_ros.runtime.preprocess import overlay


class Perception:
    """Publishes what the decoders reconstruct; nothing is computed that nobody listens to."""

    def __init__(self, node: LifecycleNode):
        self._depth = publisher(node, interfaces.DEPTH_COMPLETED)
        self._info = publisher(node, interfaces.DEPTH_INFO)
        self._mask = publisher(node, interfaces.MASK)
        self._overlay = publisher(node, interfaces.OVERLAY)
        self._labels = publisher(node, interfaces.LABELS, latched())
        self._label_info = label_info_publisher(node)
        self._colors = np.zeros((256, 3), np.uint8)

    def start(self, labels: Labels, header: Header) -> None:
        """Publish the label map and take its colours for the overlay."""
        self._colors[:len(labels.colors)] = labels.colors
        self._labels.publish(label_map_msg(labels, header))
        if self._label_info is not None:
            self._label_info(labels, header)

    def publish(self, view: View, engine: Engine, header: Header, info: CameraInfo | None, *, fill: bool,
                alpha: float) -> bool:
        """Publish what somebody listens to; whether anything was.

        Args:
            view: the encoded frame.
            engine: decodes it.
            header: header of the input image.
            info: intrinsics of the camera, republished beside the depth.
            fill: whether holes in the depth take the model's prediction.
            alpha: weight of the class colours in the overlay, 0..1.
        """
        depth = self._depth.get_subscription_count() > 0
        drawn = self._overlay.get_subscription_count() > 0
        mask = drawn or self._mask.get_subscription_count() > 0
        if not depth and not mask:
            return False
        result = engine.reconstruct(view, depth=depth, mask=mask, fill=fill)
        if depth:
            self._publish_depth(result.depth, header, info)
        if mask:
            self._mask.publish(to_image_msg(result.mask, 'mono8', header))
        if drawn:
            mixed = overlay(view.frame.rgb, result.mask, self._colors, alpha)
            self._overlay.publish(to_image_msg(mixed, 'rgb8', header))
        return True

    def _publish_depth(self, depth: np.ndarray, header: Header, info: CameraInfo | None) -> None:
        self._depth.publish(to_image_msg(depth, '32FC1', header))
        if info is not None:
            info.header = header
            self._info.publish(info)
