"""A thread of its own takes messages and events of its subscriptions; executors leave them alone."""

import threading

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import ReliabilityPolicy
from std_msgs.msg import String

from m3et_ros.ros.camera.subscription import FollowingSubscription, newest
from m3et_ros.ros.camera.wait_thread import WaitThread
from m3et_ros.ros.diagnostics import Counters


def test_messages_come_on_its_thread_while_the_executor_is_busy(ros):
    heard, busy, free = [], threading.Event(), threading.Event()

    def block():
        busy.set()
        assert free.wait(20)
        node.destroy_timer(timer)

    intake, node = WaitThread(ros.context), ros.node('listener')
    intake.add(
        node.create_subscription(
            String,
            'x',
            lambda m: heard.append((m.data, threading.current_thread().name)),
            newest(),
            callback_group=intake.group,
        )
    )
    publisher = ros.node('talker').create_publisher(String, 'x', newest())
    ros.until(publisher.get_subscription_count)
    timer = node.create_timer(0.0, block)
    assert busy.wait(20)
    publisher.publish(String(data='one'))
    ros.until(lambda: heard)
    free.set()
    assert heard == [('one', 'intake')]
    intake.close()


def test_what_it_serves_does_not_wake_an_executor(ros):
    waits = []

    class Counting(SingleThreadedExecutor):
        def can_execute(self, entity):
            waits.append(entity)
            return super().can_execute(entity)

    heard, intake, counting = [], WaitThread(ros.context), Counting(context=ros.context)
    node = ros.node('listener')
    ros.executor.remove_node(node)
    counting.add_node(node)
    FollowingSubscription(node, String, 'x', heard.append, counters=Counters(), intake=intake)
    publisher = ros.node('talker').create_publisher(String, 'x', newest())
    ros.until(publisher.get_subscription_count)
    counting.spin_once(timeout_sec=0.1)  # whatever discovery has left
    waits.clear()
    turn = threading.Thread(target=counting.spin_once, kwargs={'timeout_sec': 1.0})
    turn.start()
    for number in range(20):
        publisher.publish(String(data=str(number)))
        ros.until(lambda number=number: len(heard) > number)
    turn.join()
    # It looks at each entity once for a wait; nothing else came for it in that second.
    assert len(waits) <= 2 * len(set(map(id, waits)))
    intake.close()
    counting.shutdown()


def test_an_error_of_one_message_ends_nothing(ros):
    heard = []

    def callback(message):
        heard.append(message.data)
        raise ValueError('spoiled')

    intake, node = WaitThread(ros.context), ros.node('listener')
    intake.add(node.create_subscription(String, 'x', callback, newest(), callback_group=intake.group))
    publisher = ros.node('talker').create_publisher(String, 'x', newest())
    ros.until(publisher.get_subscription_count)
    for word in ('one', 'two'):
        publisher.publish(String(data=word))
        ros.until(lambda word=word: word in heard)
    intake.close()


def test_events_of_its_subscriptions_are_served(ros):
    counters, intake, node = Counters(), WaitThread(ros.context), ros.node('listener')
    FollowingSubscription(node, String, 'x', print, reliability='reliable', counters=counters, intake=intake)
    ros.node('talker').create_publisher(String, 'x', newest(ReliabilityPolicy.BEST_EFFORT))
    assert ros.until(lambda: counters['incompatible_qos']) == 1
    intake.close()


def test_a_removed_subscription_is_silent_and_the_others_go_on(ros):
    heard, intake, node = [], WaitThread(ros.context), ros.node('listener')
    gone = FollowingSubscription(node, String, 'x', heard.append, counters=Counters(), intake=intake)
    FollowingSubscription(node, String, 'y', heard.append, counters=Counters(), intake=intake)
    talker = ros.node('talker')
    x, y = (talker.create_publisher(String, name, newest()) for name in 'xy')
    ros.until(lambda: x.get_subscription_count() and y.get_subscription_count())
    gone.destroy()
    x.publish(String(data='x'))
    y.publish(String(data='y'))
    assert ros.until(lambda: heard)[0].data == 'y'
    ros.until(lambda: not x.get_subscription_count())
    intake.close()


def test_it_ends_with_its_context(ros):
    context, calls = rclpy.Context(), []
    rclpy.init(context=context, args=[])
    intake = WaitThread(context, lambda: calls.append(1))
    ros.until(lambda: len(calls) > 2)
    rclpy.shutdown(context=context)
    intake._thread.join(20)
    assert not intake._thread.is_alive()
    intake.close()
    intake.close()
