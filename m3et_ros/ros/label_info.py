"""vision_msgs/LabelInfo beside our LabelMap, where vision_msgs is installed (it has no wheel on PyPI)."""

from collections.abc import Callable

from rclpy.lifecycle import LifecycleNode
from std_msgs.msg import Header

from m3et_ros.data.types import Labels
from m3et_ros.ros.interfaces import Interface
from m3et_ros.ros.publishers import publisher
from m3et_ros.ros.qos import latched

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
