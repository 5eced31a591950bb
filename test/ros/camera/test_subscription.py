"""Reliability follows the publisher, and what cannot arrive is said once, with the fix."""

import subprocess
import sys

import pytest
from rcl_interfaces.msg import Log
from rclpy._rclpy_pybind11 import RCLError
from rclpy.logging import LoggingSeverity
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import InvalidQosOverridesError
from std_msgs.msg import Header, String

from m3et_ros.data.errors import InputError
from m3et_ros.ros.camera import subscription
from m3et_ros.ros.diagnostics import Counters

RELIABLE, BEST_EFFORT = ReliabilityPolicy.RELIABLE, ReliabilityPolicy.BEST_EFFORT
WARNING = int(LoggingSeverity.WARN)


@pytest.fixture
def logged(ros):
    """Every warning on /rosout."""
    lines = []
    ros.node('log_reader').create_subscription(
        Log, '/rosout', lambda m: lines.append(m.msg) if m.level == WARNING else None, 100
    )
    return lines


def test_profiles_are_new_each_time_because_overrides_write_into_them():
    assert subscription.newest() is not subscription.newest() and subscription.newest().depth == 1
    assert subscription.latched().durability == DurabilityPolicy.TRANSIENT_LOCAL


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
    listener, talker, heard, counters = ros.node('listener'), ros.node('talker'), [], Counters()
    following = subscription.FollowingSubscription(
        listener, String, 'x', lambda m: heard.append(m.data), counters=counters
    )
    assert following.policy == RELIABLE and not following.refresh()
    for policy, again in ((BEST_EFFORT, True), (RELIABLE, True), (RELIABLE, False)):
        publisher = talker.create_publisher(String, 'x', subscription.newest(policy))
        ros.until(lambda: listener.count_publishers('x') == 1)
        assert following.refresh() == again and following.policy == policy
        heard.clear()
        ros.until(lambda: publisher.publish(String(data='hello')) or heard)
        talker.destroy_publisher(publisher)
        ros.until(lambda: not listener.count_publishers('x'))
        assert not following.refresh(), 'nobody there is no reason to change'
    assert len(list(s for s in listener.subscriptions if s.topic_name == '/x')) == 1
    assert not counters.snapshot(), 'what is put right is no fault'
    following.destroy()
    assert not [s for s in listener.subscriptions if s.topic_name == '/x']


def test_it_follows_a_best_effort_camera_in_another_process(ros):
    script = (
        'import rclpy, time; from std_msgs.msg import String; from m3et_ros.ros.camera import subscription\n'
        'rclpy.init(); node = rclpy.create_node("camera")\n'
        'publisher = node.create_publisher(String, "x", subscription.newest(subscription.RELIABILITIES["best_effort"]))\n'
        'while True: publisher.publish(String(data="frame")); time.sleep(0.02)'
    )
    heard, counters = [], Counters()
    following = subscription.FollowingSubscription(ros.node('n'), String, 'x', heard.append, counters=counters)
    process = subprocess.Popen([sys.executable, '-c', script])
    try:
        ros.until(lambda: following.refresh() or heard, timeout=30)
        ros.until(lambda: heard, timeout=30)
    finally:
        process.kill()
        process.wait(10)
    assert following.policy == BEST_EFFORT


def override(topic, policy, value):
    return Parameter(f'qos_overrides./{topic}.subscription.{policy}', value=value)


def test_the_override_of_the_user_wins(ros):
    node = ros.node('n', parameter_overrides=[override('x', 'reliability', 'reliable'), override('x', 'depth', 4)])
    node.create_publisher(String, 'x', subscription.newest(BEST_EFFORT))
    ros.until(lambda: node.count_publishers('x'))
    following = subscription.FollowingSubscription(node, String, 'x', print, counters=Counters())
    assert following.policy == RELIABLE and not following.refresh()
    assert following.subscription.qos_profile.depth == 4
    again = subscription.FollowingSubscription(node, String, 'x', print, reliability='best_effort', counters=Counters())
    assert again.policy == RELIABLE, 'made anew, the same override holds'


def test_overrides_out_of_range_are_refused(ros):
    node = ros.node('n', parameter_overrides=[override('x', 'reliability', 'rather'), override('y', 'depth', -1)])
    with pytest.raises(InputError, match="'rather'; give auto, reliable or best_effort"):
        subscription.FollowingSubscription(node, String, 'x', print, counters=Counters())
    with pytest.raises(InvalidQosOverridesError, match='give at least 1'):
        node.create_subscription(
            String, 'y', print, subscription.newest(), qos_overriding_options=subscription.overrides()
        )


def test_a_publisher_we_cannot_hear_is_counted_and_named_once(ros, logged):
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
    said = [line for line in logged if 'Nothing can be received on /robot/x' in line]
    assert len(said) == 1 and 'reliability' in said[0] and 'best_effort' in said[0]


def test_a_subscriber_who_cannot_hear_us_is_counted_and_named(ros, logged):
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


def silent(ros, **options):
    clock = Clock()
    watch = subscription.SilentTopicWatch(
        ros.node('n', namespace='robot'), 'x', 'std_msgs/msg/String', clock=clock, **options
    )
    return watch, clock


def test_results_of_a_node_like_this_one_are_not_taken_for_a_camera(ros):
    watch, clock = silent(ros)
    twin, camera = ros.node('n', namespace='other'), ros.node('camera')
    twin.create_publisher(String, 'result', 1)
    ros.until(lambda: twin.count_publishers('/other/result'))
    assert 'start the camera' in watch.explain()
    camera.create_publisher(String, '/image', 1)
    ros.until(lambda: twin.count_publishers('/image'))
    assert watch.explain().endswith('is published on /image: remap with --ros-args -r x:=/image.')


def test_silence_is_said_once_and_again_after_a_message(ros, logged):
    watch, clock = silent(ros)
    assert watch.check() is None
    clock.seconds = 5.0
    sentence = watch.check()
    assert sentence == (
        'No std_msgs/msg/String has arrived on /robot/x for 5.0 s; nobody publishes it; '
        'start the camera, the replay or the simulator.'
    )
    assert watch.check() is None
    watch.heard()
    assert watch.check() is None and watch.silent_s == 0
    clock.seconds = 20.0
    assert 'for 15.0 s any more' in watch.check()
    ros.until(lambda: sentence in logged)


def test_no_seconds_no_warning(ros):
    watch, clock = silent(ros, seconds=0)
    clock.seconds = 1e6
    assert watch.check() is None


def test_silence_names_the_topic_to_remap(ros):
    watch, _ = silent(ros)
    camera = ros.node('camera')
    camera.create_publisher(String, '/camera/image', 1)
    camera.create_publisher(Header, '/camera/other', 1)
    sentence = ros.until(lambda: '-r' in watch.explain() and watch.explain())
    assert '-r x:=/camera/image' in sentence and '/camera/other' not in sentence


def test_what_only_the_silent_node_publishes_is_no_topic_to_remap(ros):
    node = ros.node('model', namespace='robot')
    node.create_publisher(String, '~/result', 1)
    watch = subscription.SilentTopicWatch(node, 'x', 'std_msgs/msg/String')
    ros.until(lambda: node.count_publishers('~/result'))
    assert watch.explain().endswith('start the camera, the replay or the simulator.')
    ros.node('camera', namespace='robot').create_publisher(String, 'model/result', 1)
    assert '-r x:=/robot/model/result' in ros.until(lambda: '-r' in watch.explain() and watch.explain())


def test_silence_names_publishers_and_their_type(ros):
    watch, _ = silent(ros)
    camera = ros.node('camera', namespace='robot')
    publisher = camera.create_publisher(Header, 'x', subscription.newest(BEST_EFFORT))
    assert 'another type by /robot/camera (std_msgs/msg/Header, best_effort)' in ros.until(
        lambda: 'another' in watch.explain() and watch.explain()
    )
    camera.destroy_publisher(publisher)

    def publishes_a_string():
        # The executor lets go of the destroyed publisher a moment later; until then the name keeps its type.
        try:
            return camera.create_publisher(String, 'x', 1)
        except RCLError:
            return None

    ros.until(publishes_a_string)
    assert 'published by /robot/camera (std_msgs/msg/String, reliable); check' in ros.until(
        lambda: 'published by' in watch.explain() and watch.explain()
    )
