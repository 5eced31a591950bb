"""What is being done and what comes next, as a topic at camera rate."""

from rclpy.lifecycle import LifecycleNode
from std_msgs.msg import Header

from m3et_ros.ros.interfaces import ANTICIPATION
from m3et_ros.ros.messages import anticipation_msg
from m3et_ros.ros.publishers import publisher
from m3et_ros.runtime.results import Anticipation


class Anticipations:
    """Publishes ~/anticipation for every frame, because its stream must see every frame."""

    def __init__(self, node: LifecycleNode):
        self._node = node
        self._publisher = publisher(node, ANTICIPATION)

    def publish(self, result: Anticipation, header: Header, model_id: str) -> None:
        """Publish a result under the header of its input image."""
        self._publisher.publish(anticipation_msg(result, header, model_id, self._node.get_clock().now()))
