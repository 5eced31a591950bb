"""LabelInfo goes out wherever vision_msgs is installed, and nowhere else."""

import pytest
from rclpy.lifecycle import LifecycleNode
from rclpy.qos import DurabilityPolicy, QoSProfile
from std_msgs.msg import Header

from m3et_ros.data.kitchen.labels import kitchen_labels
from m3et_ros.ros.health import Health
from m3et_ros.ros.outputs import label_info_publisher


@pytest.fixture
def node(ros):
    node = ros.add(LifecycleNode('labels', context=ros.context))
    node.health = Health(node)
    return node


def test_latched_label_info_names_every_class(ros, node):
    messages = pytest.importorskip('vision_msgs.msg', reason='vision_msgs comes with a full ROS 2 installation only')
    publish = label_info_publisher(node)
    node.trigger_configure()
    node.trigger_activate()
    publish(kitchen_labels(), Header(frame_id='camera'))
    got = []
    late = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    ros.node('late').create_subscription(messages.LabelInfo, '/labels/segmentation/label_info', got.append, late)
    info = ros.until(lambda: got)[0]
    assert tuple(c.class_name for c in info.class_map) == kitchen_labels().classes
    assert [c.class_id for c in info.class_map] == list(range(len(info.class_map)))


def test_without_vision_msgs_nothing_is_published(node):
    try:
        import vision_msgs.msg  # noqa: F401
    except ImportError:
        assert label_info_publisher(node) is None
        assert not any('label_info' in name for name, _ in node.get_topic_names_and_types())
    else:
        pytest.skip('vision_msgs is installed here')
