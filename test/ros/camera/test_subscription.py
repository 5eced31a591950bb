"""Reliability follows the publisher, a reader follows the transport, and a mismatch is logged once, with the fix."""

import subprocess
import sys

import pytest
from rclpy._rclpy_pybind11 import RCLError
from rclpy.logging import LoggingSeverity
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import InvalidQosOverridesError
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header, String

from m3et_ros.data.errors import InputError
from m3et_ros.ros.camera import subscription
from m3et_ros.ros.camera.subscription import TopicReader, newest
from m3et_ros.ros.diagnostics import Counters
from m3et_ros.ros.interfaces import Interface

RELIABLE, BEST_EFFORT = ReliabilityPolicy.RELIABLE, ReliabilityPolicy.BEST_EFFORT
WARNING = int(LoggingSeverity.WARN)


@pytest.fixture
def logged(ros):
    """Every warning on /rosout."""
    lines = []
    ros.read_log(lambda m: lines.append(m.msg) if m.level == WARNING else None)
    return lines


def test_profiles_are_new_each_time_because_overrides_write_into_them():
    assert newest() is not newest()
    one, last = newest(), subscription.latched()
    assert (one.history, one.depth, one.reliability) == (HistoryPolicy.KEEP_LAST, 1, RELIABLE)
    assert one.durability != DurabilityPolicy.TRANSIENT_LOCAL
    assert (last.history, last.depth, last.reliability) == (HistoryPolicy.KEEP_LAST, 1, RELIABLE)
    assert last.durability == DurabilityPolicy.TRANSIENT_LOCAL


@pytest.mark.parametrize(
    'offered,expected',
    [
        ([], RELIABLE),
        ([RELIABLE], RELIABLE),
        ([RELIABLE, RELIABLE], RELIABLE),
        ([BEST_EFFORT], BEST_EFFORT),
        ([RELIABLE, BEST_EFFORT], BEST_EFFORT),
    ],
)
def test_reliability_is_what_all_publishers_offer(ros, offered, expected):
    node = ros.node('n', namespace='robot')
    for policy in offered:
        node.create_publisher(String, 'x', subscription.newest(policy))
    ros.until(lambda: node.count_publishers('x') == len(offered))
    assert subscription.reliability_of_publishers(node, 'x') == expected


def test_a_subscription_follows_publishers_that_come_later_and_change(ros):
    listener, talker, received, counters = ros.node('listener'), ros.node('talker'), [], Counters()
    following = subscription.FollowingSubscription(
        listener, String, 'x', lambda m: received.append(m.data), counters=counters
    )
    assert following.policy == RELIABLE and not ros.do(following.refresh)
    for policy, again in ((BEST_EFFORT, True), (RELIABLE, True), (RELIABLE, False)):
        publisher = talker.create_publisher(String, 'x', subscription.newest(policy))
        ros.until(lambda: listener.count_publishers('x') == 1)
        assert ros.do(following.refresh) == again and following.policy == policy
        received.clear()
        ros.until(lambda publisher=publisher: publisher.publish(String(data='hello')) or received)
        ros.do(talker.destroy_publisher, publisher)
        ros.until(lambda: not listener.count_publishers('x'))
        assert not ros.do(following.refresh), 'without a publisher there is no reason to change'
    assert len([s for s in listener.subscriptions if s.topic_name == '/x']) == 1
    assert not counters.snapshot(), 'a mismatch that is corrected is no fault'
    ros.do(following.destroy)
    assert not [s for s in listener.subscriptions if s.topic_name == '/x']


def test_a_subscription_follows_a_best_effort_camera_in_another_process(ros):
    script = (
        'import rclpy, time; from std_msgs.msg import String; from m3et_ros.ros.camera import subscription\n'
        'rclpy.init(); node = rclpy.create_node("camera")\n'
        'profile = subscription.newest(subscription.RELIABILITIES["best_effort"])\n'
        'publisher = node.create_publisher(String, "x", profile)\n'
        'while True: publisher.publish(String(data="frame")); time.sleep(0.02)'
    )
    received, counters = [], Counters()
    following = subscription.FollowingSubscription(ros.node('n'), String, 'x', received.append, counters=counters)
    process = subprocess.Popen([sys.executable, '-c', script])
    try:
        ros.until(lambda: ros.do(following.refresh) or received, timeout=120)
        ros.until(lambda: received, timeout=120)
    finally:
        process.kill()
        process.wait(10)
    assert following.policy == BEST_EFFORT


def latched_talker(ros, name, text):
    """A publisher that said something once, before anybody listened."""
    talker = ros.node(name).create_publisher(String, 'x', subscription.latched())
    talker.publish(String(data=text))
    return talker


def test_a_latched_message_reaches_a_subscription_that_follows_durability(ros):
    latched_talker(ros, 'talker', 'once')
    node, heard = ros.node('n'), []
    ros.until(lambda: node.count_publishers('x'))
    assert subscription.durability_of_publishers(node, 'x') == DurabilityPolicy.TRANSIENT_LOCAL
    subscription.FollowingSubscription(
        node, String, 'x', lambda m: heard.append(m.data), counters=Counters(), follow_durability=True
    )
    ros.until(lambda: heard == ['once'])


def test_durability_follows_publishers_that_come_later_and_is_left_alone_elsewhere(ros):
    node, counters, heard = ros.node('n'), Counters(), []
    following, other = (
        subscription.FollowingSubscription(
            node, String, 'x', lambda m: heard.append(m.data), counters=counters, follow_durability=follow
        )
        for follow in (True, False)
    )
    assert subscription.durability_of_publishers(node, 'x') == DurabilityPolicy.VOLATILE
    latched_talker(ros, 'talker', 'once')
    ros.until(lambda: ros.do(following.refresh))
    ros.until(lambda: 'once' in heard)
    assert not other.refresh()
    volatile = ros.node('volatile').create_publisher(String, 'x', subscription.newest())
    ros.until(lambda: ros.do(following.refresh))
    ros.until(lambda: volatile.get_subscription_count() == 2)
    assert counters['incompatible_qos'] == 0, 'what will be followed is no mismatch'


def override(topic, policy, value):
    return Parameter(f'qos_overrides./{topic}.subscription.{policy}', value=value)


def test_the_override_of_the_user_wins(ros):
    node = ros.node('n', parameter_overrides=[override('x', 'reliability', 'reliable'), override('x', 'depth', 4)])
    node.create_publisher(String, 'x', subscription.newest(BEST_EFFORT))
    ros.until(lambda: node.count_publishers('x'))
    following = subscription.FollowingSubscription(node, String, 'x', print, counters=Counters())
    assert following.policy == RELIABLE and not ros.do(following.refresh)
    assert following.subscription.qos_profile.depth == 4
    again = subscription.FollowingSubscription(node, String, 'x', print, reliability='best_effort', counters=Counters())
    assert again.policy == RELIABLE, 'a second subscription obeys the same override'


def test_overrides_out_of_range_are_refused(ros):
    node = ros.node('n', parameter_overrides=[override('x', 'reliability', 'rather'), override('y', 'depth', -1)])
    with pytest.raises(InputError, match="'rather'; give auto, reliable or best_effort"):
        subscription.FollowingSubscription(node, String, 'x', print, counters=Counters())
    with pytest.raises(InvalidQosOverridesError, match='give at least 1'):
        node.create_subscription(
            String, 'y', print, subscription.newest(), qos_overriding_options=subscription.overrides()
        )


def test_a_publisher_with_another_reliability_is_counted_and_named_once(ros, logged):
    listener, talker, counters = ros.node('listener', namespace='robot'), ros.node('talker'), Counters()
    listener.create_subscription(
        String,
        'x',
        print,
        subscription.newest(RELIABLE),
        event_callbacks=subscription.subscription_events(listener, 'x', counters),
    )
    for number in (1, 2):
        talker.create_publisher(String, '/robot/x', subscription.newest(BEST_EFFORT))
        ros.until(lambda n=number: counters['incompatible_qos'] >= n)
    ros.until(lambda: [line for line in logged if '/robot/x' in line])
    warnings = [line for line in logged if 'Nothing can be received on /robot/x' in line]
    assert len(warnings) == 1 and 'reliability' in warnings[0] and 'best_effort' in warnings[0]


def test_a_subscriber_with_another_durability_is_counted_and_named(ros, logged):
    talker, listener, counters = ros.node('talker'), ros.node('listener'), Counters()
    talker.create_publisher(
        String, 'x', subscription.newest(), event_callbacks=subscription.publisher_events(talker, 'x', counters)
    )
    listener.create_subscription(String, 'x', print, QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL))
    ros.until(lambda: counters['incompatible_qos'] == 1)
    ros.until(lambda: [line for line in logged if 'gets nothing on /x' in line and 'durability' in line])


class Clock:
    seconds = 0.0

    def __call__(self):
        return self.seconds


def silent(ros):
    clock = Clock()
    node = ros.node('n', namespace='robot')
    return subscription.SilenceMonitor(node, 'x', 'std_msgs/msg/String', clock=clock), clock


def test_a_topic_of_another_robots_node_is_not_suggested(ros):
    monitor, _clock = silent(ros)
    twin, camera = ros.node('n', namespace='other'), ros.node('camera')
    twin.create_publisher(String, 'result', 1)
    ros.until(lambda: twin.count_publishers('/other/result'))
    assert 'start the camera' in monitor.explain()
    camera.create_publisher(String, '/image', 1)
    ros.until(lambda: twin.count_publishers('/image'))
    assert monitor.explain().endswith('is published on /image: remap with --ros-args -r x:=/image.')


def test_silence_is_reported_once_and_again_after_a_message(ros, logged):
    monitor, clock = silent(ros)
    clock.seconds = 4.9
    assert monitor.warn_after(5.0) is None
    clock.seconds = 5.0
    sentence = monitor.warn_after(5.0)
    assert sentence == (
        'No std_msgs/msg/String has arrived on /robot/x for 5.0 s; nobody publishes it; '
        'start the camera, the replay or the simulator.'
    )
    assert monitor.warn_after(5.0) is None
    monitor.message_arrived()
    assert monitor.warn_after(5.0) is None and monitor.silent_s == 0
    clock.seconds = 20.0
    assert 'for 15.0 s any more' in monitor.warn_after(5.0)
    ros.until(lambda: sentence in logged)


def test_zero_seconds_never_warn(ros):
    monitor, clock = silent(ros)
    clock.seconds = 1e6
    assert monitor.warn_after(0) is None


def test_the_warning_names_the_topic_to_remap(ros):
    monitor, _ = silent(ros)
    camera = ros.node('camera')
    camera.create_publisher(String, '/camera/image', 1)
    camera.create_publisher(Header, '/camera/other', 1)
    sentence = ros.until(lambda: '-r' in monitor.explain() and monitor.explain())
    assert '-r x:=/camera/image' in sentence and '/camera/other' not in sentence


def test_a_topic_that_only_the_silent_node_publishes_is_not_suggested(ros):
    node = ros.node('model', namespace='robot')
    node.create_publisher(String, '~/result', 1)
    monitor = subscription.SilenceMonitor(node, 'x', 'std_msgs/msg/String')
    ros.until(lambda: node.count_publishers('~/result'))
    assert monitor.explain().endswith('start the camera, the replay or the simulator.')
    ros.node('camera', namespace='robot').create_publisher(String, 'model/result', 1)
    assert '-r x:=/robot/model/result' in ros.until(lambda: '-r' in monitor.explain() and monitor.explain())


def test_the_warning_names_the_publishers_and_their_type(ros):
    monitor, _ = silent(ros)
    camera = ros.node('camera', namespace='robot')
    publisher = camera.create_publisher(Header, 'x', subscription.newest(BEST_EFFORT))
    assert 'another type by /robot/camera (std_msgs/msg/Header, best_effort)' in ros.until(
        lambda: 'another' in monitor.explain() and monitor.explain()
    )
    ros.do(camera.destroy_publisher, publisher)

    def publishes_a_string():
        # The executor lets go of the destroyed publisher a moment later; until then the name keeps its type.
        try:
            return camera.create_publisher(String, 'x', 1)
        except RCLError:
            return None

    ros.until(publishes_a_string)
    assert 'published by /robot/camera (std_msgs/msg/String, reliable); check' in ros.until(
        lambda: 'published by' in monitor.explain() and monitor.explain()
    )


TRANSPORTS = [
    Interface('eye', Image, 'raw'),
    Interface('eye/compressed', CompressedImage, 'JPEG'),
    Interface('eye/packed', CompressedImage, 'another one'),
]


def reader(node, received, transports=TRANSPORTS, **options):
    def callback(transport, message):
        received.append((transport, message))

    reading = TopicReader(node, transports, callback, **{'counters': Counters()} | options)
    reading.open()
    return reading


def subscribed(node):
    return {s.topic_name: s for s in node.subscriptions}


def test_a_reader_follows_the_publisher_to_another_transport(ros):
    node, received = ros.node('listener'), []
    reading = reader(node, received)
    silence = reading.silence
    camera = ros.node('camera').create_publisher(CompressedImage, 'eye/compressed', newest())
    ros.until(lambda: node.count_publishers('eye/compressed'))
    reading.follow()
    ros.until(camera.get_subscription_count)
    camera.publish(CompressedImage(format='jpeg'))
    transport, message = ros.until(lambda: received)[0]
    assert (transport, message.format) == (TRANSPORTS[1], 'jpeg')
    assert list(subscribed(node)) == ['/eye/compressed']
    assert reading.silence is not silence, 'the silence of a transport begins when it is chosen'
    assert 'sensor_msgs/msg/CompressedImage has arrived on /eye/compressed' in reading.silence.explain()


def test_a_reader_finds_the_transport_behind_a_remapping(ros):
    node = ros.node('listener', cli_args=['--ros-args', '-r', 'eye/compressed:=/camera/eye/compressed'])
    ros.node('camera').create_publisher(CompressedImage, '/camera/eye/compressed', newest())
    ros.until(lambda: node.count_publishers('/camera/eye/compressed'))
    reading = reader(node, [])
    reading.follow()
    assert node.count_subscribers('/camera/eye/compressed') == 1
    reading.close()


@pytest.mark.parametrize('published, chosen', [((0, 1, 2), '/eye'), ((2, 1), '/eye/compressed'), ((), '/eye')])
def test_a_reader_prefers_the_first_published_transport(ros, published, chosen):
    node, other = ros.node('listener'), ros.node('camera')
    for index in published:
        other.create_publisher(TRANSPORTS[index].kind, TRANSPORTS[index].name, newest())
    ros.until(lambda: all(node.count_publishers(TRANSPORTS[index].name) for index in published))
    reading = reader(node, [])
    reading.follow()
    assert list(subscribed(node)) == [chosen]
    reading.close()
    assert not subscribed(node)
    reading.close()


def test_a_reader_of_one_transport_stays_with_it(ros):
    node = ros.node('listener')
    ros.node('camera').create_publisher(Image, 'eye', newest())
    ros.until(lambda: node.count_publishers('eye'))
    reading = reader(node, [], TRANSPORTS[1:2])
    reading.follow()
    assert list(subscribed(node)) == ['/eye/compressed']


def test_a_reader_follows_the_reliability_of_the_transport_it_reads(ros):
    node, camera = ros.node('listener'), ros.node('camera')
    reading = reader(node, [])
    assert subscribed(node)['/eye'].qos_profile.reliability == RELIABLE
    camera.create_publisher(Image, 'eye', newest(BEST_EFFORT))
    ros.until(lambda: node.count_publishers('eye'))
    reading.follow()
    assert subscribed(node)['/eye'].qos_profile.reliability == BEST_EFFORT


def test_the_options_of_a_reader_reach_its_subscription(ros):
    node, received, counters = ros.node('listener'), [], Counters()
    reader(node, received, TRANSPORTS[1:2], reliability='reliable', raw=True, counters=counters)
    camera = ros.node('camera')
    camera.create_publisher(CompressedImage, 'eye/compressed', newest(BEST_EFFORT))
    assert ros.until(lambda: counters['incompatible_qos']) == 1
    publisher = camera.create_publisher(CompressedImage, 'eye/compressed', newest())
    ros.until(publisher.get_subscription_count)
    publisher.publish(CompressedImage(format='jpeg'))
    transport, data = ros.until(lambda: received)[0]
    assert transport == TRANSPORTS[1] and isinstance(data, bytes) and b'jpeg' in data
