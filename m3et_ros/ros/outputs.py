"""Publish the results for a frame: completed depth, segmentation, overlay, labels and anticipation.

Publishers are silent while the node is inactive, their quality of service follows `qos_overrides` parameters, and a
subscriber that cannot receive anything is counted and named in the log.
"""

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
from m3et_ros.ros.diagnostics import Counters
from m3et_ros.ros.interfaces import Interface
from m3et_ros.runtime.engine import Engine
from m3et_ros.runtime.results import Anticipation
from m3et_ros.runtime.view import View

LABEL_INFO = '~/segmentation/label_info'


def publisher(
    node: LifecycleNode, output: Interface, counters: Counters, profile: QoSProfile | None = None
) -> LifecyclePublisher:
    """Create the lifecycle publisher of an output.

    Args:
        node: node that publishes.
        output: topic and type.
        counters: counts subscribers whose quality of service does not match, as 'incompatible_qos'.
        profile: quality of service; None is keep-last 1 and reliable.
    """
    return node.create_lifecycle_publisher(
        output.kind,
        output.name,
        profile or newest(),
        qos_overriding_options=overrides(),
        event_callbacks=publisher_events(node, output.name, counters),
    )


class LabelInfos:
    """Publishes the labels as vision_msgs/LabelInfo too, where vision_msgs is installed; PyPI has no wheel of it."""

    def __init__(self, node: LifecycleNode, counters: Counters):
        try:
            from vision_msgs.msg import LabelInfo, VisionClass
        except ImportError:
            self._publisher = None
            return
        self._label_info, self._vision_class = LabelInfo, VisionClass
        output = Interface(LABEL_INFO, LabelInfo, 'The same as vision_msgs defines it.')
        self._publisher = publisher(node, output, counters, latched())

    def publish(self, labels: Labels, header: Header) -> None:
        """Publish the labels; do nothing where vision_msgs is not installed."""
        if self._publisher is not None:
            classes = [self._vision_class(class_id=i, class_name=name) for i, name in enumerate(labels.classes)]
            self._publisher.publish(self._label_info(header=header, class_map=classes, threshold=0.0))


class Perception:
    """Publishes depth, mask and overlay; decodes only what somebody subscribes to."""

    def __init__(self, node: LifecycleNode, counters: Counters):
        self._depth = publisher(node, interfaces.DEPTH_COMPLETED, counters)
        self._info = publisher(node, interfaces.DEPTH_INFO, counters)
        self._mask = publisher(node, interfaces.MASK, counters)
        self._overlay = publisher(node, interfaces.OVERLAY, counters)
        self._labels = publisher(node, interfaces.LABELS, counters, latched())
        self._label_infos = LabelInfos(node, counters)
        self._colors = np.zeros((256, 3), np.uint8)

    def publish_labels(self, labels: Labels, header: Header) -> None:
        """Publish the label map and use its colours for the overlay from now on."""
        self._colors[: len(labels.colors)] = labels.colors
        self._labels.publish(label_map_msg(labels, header))
        self._label_infos.publish(labels, header)

    @property
    def wants_depth(self) -> bool:
        """True while somebody subscribes to depth."""
        return self._depth.get_subscription_count() > 0

    @property
    def wants_mask(self) -> bool:
        """True while somebody subscribes to the segmentation or its overlay."""
        return self._mask.get_subscription_count() > 0 or self._overlay.get_subscription_count() > 0

    def publish(
        self,
        view: View,
        engine: Engine,
        header: Header,
        info: CameraInfo | None,
        *,
        fill: str,
        alpha: float,
        depth: bool = True,
        mask: bool = True,
    ) -> None:
        """Decode and publish what somebody subscribes to.

        Args:
            view: the encoded frame.
            engine: engine that decodes it.
            header: header of the input image.
            info: intrinsics of the camera, published again beside the depth.
            fill: way of filling holes of the measured depth, one of data.depth_fill.FILLS.
            alpha: opacity of the class colours in the overlay, 0..1.
            depth: serve depth; False where a network of others does.
            mask: serve the segmentation, likewise.
        """
        depth, mask = depth and self.wants_depth, mask and self.wants_mask
        if not depth and not mask:
            return
        result = engine.reconstruct(view, depth=depth, mask=mask, fill=fill)
        if result.depth is not None:
            self.publish_depth(result.depth, header, info)
        if result.mask is not None:
            self.publish_mask(result.mask, view.frame.rgb, header, alpha)

    def publish_depth(self, depth: np.ndarray, header: Header, info: CameraInfo | None) -> None:
        """Publish completed depth (H, W) float32 in metres, with the intrinsics of the camera if they are known."""
        self._depth.publish(to_image_msg(depth, '32FC1', header))
        if info is not None:
            info.header = header
            self._info.publish(info)

    def publish_mask(self, mask: np.ndarray, rgb: np.ndarray, header: Header, alpha: float) -> None:
        """Publish the classes (H, W) uint8 of an image (H, W, 3) uint8, and the overlay if anybody subscribes."""
        self._mask.publish(to_image_msg(mask, 'mono8', header))
        if self._overlay.get_subscription_count() > 0:
            self._overlay.publish(to_image_msg(overlay(rgb, mask, self._colors, alpha), 'rgb8', header))


class Anticipations:
    """Publishes ~/anticipation for every frame, because its stream must process every frame.

    With the parameter memory off the stream begins when somebody subscribes and ends with the last subscriber.
    """

    def __init__(self, node: LifecycleNode, counters: Counters):
        self._clock = node.get_clock()
        self._publisher = publisher(node, interfaces.ANTICIPATION, counters)

    @property
    def wanted(self) -> bool:
        """True while somebody subscribes."""
        return self._publisher.get_subscription_count() > 0

    def publish(self, result: Anticipation, header: Header, model_id: str) -> None:
        """Publish an anticipation under the header of its input image."""
        self._publisher.publish(anticipation_msg(result, header, model_id, self._clock.now()))
