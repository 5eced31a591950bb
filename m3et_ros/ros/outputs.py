"""Dense outputs: completed depth, segmentation mask, overlay and the latched label map."""

from collections.abc import Callable

import numpy as np
from rclpy.lifecycle import LifecycleNode
from rclpy.lifecycle.publisher import LifecyclePublisher
from rclpy.qos import QoSProfile
from sensor_msgs.msg import CameraInfo
from std_msgs.msg import Header

from m3et_ros.data.frame import Labels
from m3et_ros.data.preprocess import overlay
from m3et_ros.ros import interfaces
from m3et_ros.ros.camera.subscription import latched, newest, overrides, publisher_events
from m3et_ros.ros.convert import anticipation_msg, label_map_msg, to_image_msg
from m3et_ros.ros.interfaces import ANTICIPATION, Interface
from m3et_ros.runtime.engine import Engine, View
from m3et_ros.runtime.results import Anticipation


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
        self._colors[: len(labels.colors)] = labels.colors
        self._labels.publish(label_map_msg(labels, header))
        if self._label_info is not None:
            self._label_info(labels, header)

    def publish(
        self, view: View, engine: Engine, header: Header, info: CameraInfo | None, *, fill: bool, alpha: float
    ) -> bool:
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


# MERGED m3et_ros/ros/anticipation: What is being done and what comes next, as a topic at camera rate.
class Anticipations:
    """Publishes ~/anticipation for every frame, because its stream must see every frame."""

    def __init__(self, node: LifecycleNode):
        self._node = node
        self._publisher = publisher(node, ANTICIPATION)

    def publish(self, result: Anticipation, header: Header, model_id: str) -> None:
        """Publish a result under the header of its input image."""
        self._publisher.publish(anticipation_msg(result, header, model_id, self._node.get_clock().now()))


# MERGED m3et_ros/ros/label_info: vision_msgs/LabelInfo beside our LabelMap, where vision_msgs is installed (it has no wheel on PyPI).
TOPIC = '~/segmentation/label_info'


def label_info_publisher(node: LifecycleNode) -> Callable[[Labels, Header], None] | None:
    """A function that publishes label sets on ~/segmentation/label_info; None where vision_msgs is not installed."""
    try:
        from vision_msgs.msg import LabelInfo, VisionClass
    except ImportError:
        return None
    out = publisher(node, Interface(TOPIC, LabelInfo, 'The same as vision_msgs has it.'), latched())

    def publish(labels: Labels, header: Header) -> None:
        classes = [VisionClass(class_id=i, class_name=name) for i, name in enumerate(labels.classes)]
        out.publish(LabelInfo(header=header, class_map=classes, threshold=0.0))

    return publish


# MERGED m3et_ros/ros/publishers: Publishers of results: silent while the node is inactive, tunable by qos_overrides, loud when nobody can hear.
def publisher(node: LifecycleNode, output: Interface, profile: QoSProfile | None = None) -> LifecyclePublisher:
    """A lifecycle publisher of one of the OUTPUTS; keep-last 1 and reliable unless `profile` says otherwise.

    The node needs `health.counters`, which count subscribers whose quality of service does not match.
    """
    return node.create_lifecycle_publisher(
        output.kind,
        output.name,
        profile or newest(),
        qos_overriding_options=overrides(),
        event_callbacks=publisher_events(node, output.name, node.health.counters),
    )
