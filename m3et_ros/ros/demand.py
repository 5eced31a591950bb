"""Demand for results: says for each frame whether anybody needs it, so that an idle node encodes none."""

from rclpy.lifecycle import LifecycleNode
from rclpy.lifecycle.publisher import LifecyclePublisher

from m3et_ros.ros import interfaces
from m3et_ros.ros.outputs import LABEL_INFO


class Demand:
    """The subscribers of a node's results.

    A result is each topic of the node that has a lifecycle publisher. The labels are none: they are latched and need no
    frame.
    """

    def __init__(self, node: LifecycleNode):
        """Take a node; its publishers may come later.

        Args:
            node: node that publishes.
        """
        self._node = node
        self._labels = {node.resolve_topic_name(name) for name in (interfaces.LABELS.name, LABEL_INFO)}
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
            and publisher.topic_name not in self._labels
            and (instruction or publisher.topic_name != self._answer)
        )
