"""A reader takes the transport that is published and says when nothing comes."""

from sensor_msgs.msg import CompressedImage, Image

from m3et_ros.ros.camera.subscription import TopicReader, newest
from m3et_ros.ros.diagnostics import Counters
from m3et_ros.ros.interfaces import Interface

TRANSPORTS = {'raw': Interface('eye', Image, 'raw'), 'compressed': Interface('eye/compressed', CompressedImage, 'JPEG')}


def reader(node, got, **options):
    return TopicReader(node, TRANSPORTS, got.append, counters=Counters(), watched=True, **options)


def test_it_follows_the_publisher_to_another_transport(ros):
    node, got = ros.node('listener'), []
    reading = reader(node, got)
    camera = ros.node('camera').create_publisher(CompressedImage, 'eye/compressed', newest())
    ros.until(lambda: node.count_publishers('eye/compressed'))
    reading.follow(0.0)
    ros.until(camera.get_subscription_count)
    camera.publish(CompressedImage(format='jpeg'))
    assert ros.until(lambda: got)[0].format == 'jpeg'
    assert node.count_subscribers('eye') == 0


def test_it_finds_the_transport_behind_a_remapping(ros):
    node = ros.node('listener', cli_args=['--ros-args', '-r', 'eye/compressed:=/camera/eye/compressed'])
    ros.node('camera').create_publisher(CompressedImage, '/camera/eye/compressed', newest())
    ros.until(lambda: node.count_publishers('/camera/eye/compressed'))
    reading = reader(node, [])
    reading.follow(0.0)
    assert node.count_subscribers('/camera/eye/compressed') == 1
    reading.close()


def test_raw_is_preferred_where_both_are_published(ros):
    node, other = ros.node('listener'), ros.node('camera')
    for transport in TRANSPORTS.values():
        other.create_publisher(transport.kind, transport.name, newest())
    ros.until(lambda: node.count_publishers('eye') and node.count_publishers('eye/compressed'))
    reading = reader(node, [])
    reading.follow(0.0)
    assert node.count_subscribers('eye') == 1 and node.count_subscribers('eye/compressed') == 0
    reading.close()
    ros.until(lambda: node.count_subscribers('eye') == 0)


def test_a_chosen_transport_is_kept(ros):
    node = ros.node('listener')
    ros.node('camera').create_publisher(Image, 'eye', newest())
    ros.until(lambda: node.count_publishers('eye'))
    reading = reader(node, [], transport='compressed')
    reading.follow(0.0)
    assert node.count_subscribers('eye/compressed') == 1 and node.count_subscribers('eye') == 0
    assert reading.silent_s >= 0
