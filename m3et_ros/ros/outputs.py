"""Publish the results for a frame: completed depth, segmentation, overlay, labels and anticipation.

Publishers are silent while the node is inactive, their quality of service follows `qos_overrides` parameters, and a
subscriber that cannot receive anything is counted and named in the log.
"""

import numpy as np
from rclpy.lifecycle import LifecycleNode
from sensor_msgs.msg import CameraInfo
from std_msgs.msg import Header

from m3et_ros.data.frame import NANOSECONDS, Frame, Labels
from m3et_ros.data.preprocess import overlay
from m3et_ros.msg import Answer
from m3et_ros.ros import interfaces
from m3et_ros.ros.camera.subscription import latched
from m3et_ros.ros.convert import anticipation_msg, label_map_msg, place_of, stamp_ns, to_image_msg
from m3et_ros.ros.diagnostics import Counters
from m3et_ros.ros.interfaces import Interface
from m3et_ros.ros.publishers import publisher
from m3et_ros.ros.space_outputs import SpaceFrame, SpaceOutputs
from m3et_ros.runtime.engine import Engine
from m3et_ros.runtime.places import draw_places
from m3et_ros.runtime.results import Anticipation, Place
from m3et_ros.runtime.view import View

LABEL_INFO = '~/segmentation/label_info'
POINTED_S = 2.0
"""Seconds after its image for which an overlay shows the places of an answer; the camera moves on."""


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
    """Publishes depth, mask, overlay and what is in space; decodes only what somebody subscribes to."""

    def __init__(self, node: LifecycleNode, counters: Counters):
        self._depth = publisher(node, interfaces.DEPTH_COMPLETED, counters)
        self._info = publisher(node, interfaces.DEPTH_INFO, counters)
        self._mask = publisher(node, interfaces.MASK, counters)
        self._overlay = publisher(node, interfaces.OVERLAY, counters)
        self._labels = publisher(node, interfaces.LABELS, counters, latched())
        self._label_infos = LabelInfos(node, counters)
        self._colors = np.zeros((256, 3), np.uint8)
        self.space = SpaceOutputs(node, counters)
        # Stamp of the image of the newest answer in nanoseconds, and the places that it gives.
        self._pointed: tuple[int, tuple[Place, ...]] = (0, ())

    def publish_labels(self, labels: Labels, header: Header) -> None:
        """Publish the label map and use its colours for the overlay from now on."""
        self._colors[: len(labels.colors)] = labels.colors
        self.space.set_labels(labels)
        self._labels.publish(label_map_msg(labels, header))
        self._label_infos.publish(labels, header)

    def publish_answer(self, answer: Answer) -> None:
        """Show an answer in space, and its places in the overlays of the next POINTED_S seconds."""
        self._pointed = stamp_ns(answer.header.stamp), tuple(place_of(place) for place in answer.places)
        self.space.publish_answer(answer)

    @property
    def wants_depth(self) -> bool:
        """True while somebody subscribes to depth, or to something in space that needs it."""
        return self._depth.get_subscription_count() > 0 or self.space.wants_depth

    @property
    def wants_mask(self) -> bool:
        """True while somebody subscribes to the segmentation, its overlay or something in space."""
        topics = self._mask, self._overlay
        return any(topic.get_subscription_count() > 0 for topic in topics) or self.space.wants_mask

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
            self._send_depth(result.depth, header, info)
        if result.mask is not None:
            self._send_mask(result.mask, view.frame.rgb, header, alpha)
        if self.space.wants_mask:
            certainty = None
            if result.mask is not None and self.space.wants_things:
                certainty = engine.class_logits(view)[0].softmax(0).amax(0).numpy()
            self.space.add(SpaceFrame(view.frame, header, result.depth, result.mask, certainty))

    def publish_depth(self, depth: np.ndarray, frame: Frame, header: Header, info: CameraInfo | None) -> None:
        """Publish completed depth (H, W) float32 in metres that a network of others has served for a frame."""
        self._send_depth(depth, header, info)
        self.space.add(SpaceFrame(frame, header, depth=depth))

    def publish_mask(self, mask: np.ndarray, frame: Frame, header: Header, alpha: float) -> None:
        """Publish the classes (H, W) uint8 that a network of others has served for a frame."""
        self._send_mask(mask, frame.rgb, header, alpha)
        self.space.add(SpaceFrame(frame, header, mask=mask))

    def _send_depth(self, depth: np.ndarray, header: Header, info: CameraInfo | None) -> None:
        """Publish depth with the intrinsics of the camera if they are known, unless only others need it."""
        if self._depth.get_subscription_count() > 0:
            self._depth.publish(to_image_msg(depth, '32FC1', header))
            if info is not None:
                info.header = header
                self._info.publish(info)

    def _send_mask(self, mask: np.ndarray, rgb: np.ndarray, header: Header, alpha: float) -> None:
        """Publish classes and the overlay, as far as anybody subscribes."""
        if self._mask.get_subscription_count() > 0:
            self._mask.publish(to_image_msg(mask, 'mono8', header))
        if self._overlay.get_subscription_count() > 0:
            picture, (stamp, places) = overlay(rgb, mask, self._colors, alpha), self._pointed
            if places and 0 <= stamp_ns(header.stamp) - stamp <= POINTED_S * NANOSECONDS:
                picture = draw_places(picture, places)
            self._overlay.publish(to_image_msg(picture, 'rgb8', header))


class Anticipations:
    """Publishes ~/anticipation for every frame while somebody subscribes.

    With the parameter memory on the stream of actions goes on without subscribers, at the rate of its head. With it off
    the stream begins when somebody subscribes and ends with the last subscriber.
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
