"""Publishers of results: their quality of service, and subscribers that cannot receive."""

import pytest
from rclpy.lifecycle import LifecycleNode
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image

from m3et_ros.ros import interfaces
from m3et_ros.ros.diagnostics import Counters
from m3et_ros.ros.publishers import publisher


@pytest.fixture
def node(ros):
    return ros.add(LifecycleNode('model', context=ros.context))


def test_a_subscriber_that_cannot_receive_is_counted_and_overrides_are_declared(ros, node):
    counters = Counters()
    publisher(node, interfaces.MASK, counters)
    strict = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    ros.node('listener').create_subscription(Image, '/model/segmentation/mask', print, strict)
    assert ros.until(lambda: counters['incompatible_qos']) == 1
    for policy, value in (('reliability', 'reliable'), ('depth', 1), ('history', 'keep_last')):
        name = f'qos_overrides./model/segmentation/mask.publisher.{policy}'
        assert node.get_parameter(name).value == value


@pytest.mark.parametrize('profile', [None, QoSProfile(depth=3, reliability=ReliabilityPolicy.BEST_EFFORT)])
def test_a_publisher_has_the_profile_asked_for_or_keeps_the_last_message_reliably(node, profile):
    qos = publisher(node, interfaces.MASK, Counters(), profile).qos_profile
    expected = (3, ReliabilityPolicy.BEST_EFFORT) if profile else (1, ReliabilityPolicy.RELIABLE)
    assert (qos.depth, qos.reliability) == expected
