"""Demand for results: says for each frame whether anybody needs it, so that an idle node encodes none."""

from rclpy.lifecycle import LifecycleNode
from rclpy.lifecycle.publisher import LifecyclePublisher

from m3et_ros.ros import interfaces
from m3et_ros.ros.outputs import LABEL_INFO


class Demand:
    """The subscribers of a node's results.

    A result is each topic of the node that has a lifecycle publisher. The labels are none: they are latched and need no
    frame. Nor are the intrinsics of the completed depth, which come with the depth alone.
    """

    def __init__(self, node: LifecycleNode):
        """Take a node; its publishers may come later.

        Args:
            node: node that publishes.
        """
        self._node = node
        beside = interfaces.LABELS.name, LABEL_INFO, interfaces.DEPTH_INFO.name
        self._beside = {node.resolve_topic_name(name) for name in beside}
        self._answer = node.resolve_topic_name(interfaces.ANSWER.name)

    def needs_frame(self, instruction: str) -> bool:
        """Return whether somebody subscribes to a result of a frame.

        Args:
            instruction: instruction that holds for the frame; without one, a frame has no answer. '' for none.
        """
        return any(
            publisher.get_subscription_count()
            for publisher in self._node.publishers
            if isinstance(publisher, LifecyclePublisher)
            and publisher.topic_name not in self._beside
            and (instruction or publisher.topic_name != self._answer)
        )
