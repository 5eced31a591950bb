"""The publishers of a node's results.

They are silent while the node is inactive, their quality of service follows `qos_overrides` parameters, and a
subscriber that cannot receive anything is counted and named in the log.
"""

from rclpy.lifecycle import LifecycleNode
from rclpy.lifecycle.publisher import LifecyclePublisher
from rclpy.qos import QoSProfile

from m3et_ros.ros.camera.subscription import newest, overrides, publisher_events
from m3et_ros.ros.diagnostics import Counters
from m3et_ros.ros.interfaces import Interface


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
