"""Publishers of results: silent while the node is inactive, tunable by qos_overrides, loud when nobody can hear."""

from rclpy.lifecycle import LifecycleNode
from rclpy.lifecycle.publisher import LifecyclePublisher
from rclpy.qos import QoSProfile

from m3et_ros.ros.interfaces import Interface
from m3et_ros.ros.qos import newest, overrides, publisher_events


def publisher(node: LifecycleNode, output: Interface, profile: QoSProfile | None = None) -> LifecyclePublisher:
    """A lifecycle publisher of one of the OUTPUTS; keep-last 1 and reliable unless `profile` says otherwise.

    The node needs `health.counters`, which count subscribers whose quality of service does not match.
    """
    return node.create_lifecycle_publisher(
        output.kind, output.name, profile or newest(), qos_overriding_options=overrides(),
        event_callbacks=publisher_events(node, output.name, node.health.counters))
