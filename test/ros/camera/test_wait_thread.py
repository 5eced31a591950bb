"""A thread of its own takes the messages and events of its subscriptions; executors ignore them."""

import threading

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import ReliabilityPolicy
from std_msgs.msg import String

from m3et_ros.ros.camera.subscription import FollowingSubscription, newest
from m3et_ros.ros.camera.wait_thread import WaitThread
from m3et_ros.ros.diagnostics import Counters


def test_messages_arrive_on_its_thread_while_the_executor_is_busy(ros):
    received, busy, free = [], threading.Event(), threading.Event()

    def block():
        busy.set()
        assert free.wait(60)
        node.destroy_timer(timer)

    wait_thread, node = WaitThread(ros.context), ros.node('listener')
    wait_thread.add(
        node.create_subscription(
            String,
            'x',
            lambda m: received.append((m.data, threading.current_thread().name)),
            newest(),
            callback_group=wait_thread.group,
        )
    )
    publisher = ros.node('talker').create_publisher(String, 'x', newest())
    ros.until(publisher.get_subscription_count)
    timer = node.create_timer(0.0, block)
    assert busy.wait(60)
    publisher.publish(String(data='one'))
    ros.until(lambda: received)
    free.set()
    assert received == [('one', 'wait_thread')]
    wait_thread.close()


def test_its_subscriptions_do_not_wake_an_executor(ros):
    waits = []

    class Counting(SingleThreadedExecutor):
        def can_execute(self, entity):
            waits.append(entity)
            return super().can_execute(entity)

    received, wait_thread, counting = [], WaitThread(ros.context), Counting(context=ros.context)
    node = ros.node('listener')
    ros.executor.remove_node(node)
    counting.add_node(node)
    FollowingSubscription(node, String, 'x', received.append, counters=Counters(), wait_thread=wait_thread)
    publisher = ros.node('talker').create_publisher(String, 'x', newest())
    ros.until(publisher.get_subscription_count)
    counting.spin_once(timeout_sec=0.1)  # what discovery has left behind
    waits.clear()
    turn = threading.Thread(target=counting.spin_once, kwargs={'timeout_sec': 1.0})
    turn.start()
    for number in range(20):
        publisher.publish(String(data=str(number)))
        ros.until(lambda number=number: len(received) > number)
    turn.join()
    # It visits each entity once per wait; nothing else woke it in that second.
    assert len(waits) <= 2 * len(set(map(id, waits)))
    wait_thread.close()
    counting.shutdown()


def test_after_an_exception_the_next_messages_are_served(ros):
    received = []

    def callback(message):
        received.append(message.data)
        raise ValueError('spoiled')

    wait_thread, node = WaitThread(ros.context), ros.node('listener')
    wait_thread.add(node.create_subscription(String, 'x', callback, newest(), callback_group=wait_thread.group))
    publisher = ros.node('talker').create_publisher(String, 'x', newest())
    ros.until(publisher.get_subscription_count)
    for word in ('one', 'two'):
        publisher.publish(String(data=word))
        ros.until(lambda word=word: word in received)
    wait_thread.close()


def test_events_of_its_subscriptions_are_served(ros):
    counters, wait_thread, node = Counters(), WaitThread(ros.context), ros.node('listener')
    FollowingSubscription(node, String, 'x', print, reliability='reliable', counters=counters, wait_thread=wait_thread)
    ros.node('talker').create_publisher(String, 'x', newest(ReliabilityPolicy.BEST_EFFORT))
    assert ros.until(lambda: counters['incompatible_qos']) == 1
    wait_thread.close()


def test_a_removed_subscription_is_silent_and_the_others_go_on(ros):
    received, wait_thread, node = [], WaitThread(ros.context), ros.node('listener')
    gone = FollowingSubscription(node, String, 'x', received.append, counters=Counters(), wait_thread=wait_thread)
    FollowingSubscription(node, String, 'y', received.append, counters=Counters(), wait_thread=wait_thread)
    talker = ros.node('talker')
    x, y = (talker.create_publisher(String, name, newest()) for name in 'xy')
    ros.until(lambda: x.get_subscription_count() and y.get_subscription_count())
    gone.destroy()
    x.publish(String(data='x'))
    y.publish(String(data='y'))
    assert ros.until(lambda: received)[0].data == 'y'
    ros.until(lambda: not x.get_subscription_count())
    wait_thread.close()


def test_it_ends_with_its_context(ros):
    context, calls = rclpy.Context(), []
    rclpy.init(context=context, args=[])
    wait_thread = WaitThread(context, lambda: calls.append(1) or 0.01)
    ros.until(lambda: len(calls) > 2)
    rclpy.shutdown(context=context)
    wait_thread._thread.join(20)
    assert not wait_thread._thread.is_alive()
    wait_thread.close()
    wait_thread.close()


def test_a_subscription_that_an_earlier_callback_removes_is_not_called_any_more(ros):
    calls, started, release = [], threading.Event(), threading.Event()
    wait_thread, node, talker = WaitThread(ros.context), ros.node('listener'), ros.node('talker')

    def hold(_):
        started.set()
        assert release.wait(60)

    def remove_the_last(message):
        calls.append(message.data)
        wait_thread.remove(last)

    def subscribe(topic, callback):
        subscription = node.create_subscription(String, topic, callback, newest(), callback_group=wait_thread.group)
        wait_thread.add(subscription)
        return subscription

    subscribe('hold', hold)
    subscribe('first', remove_the_last)
    last = subscribe('last', lambda message: calls.append(message.data))
    publishers = {name: talker.create_publisher(String, name, newest()) for name in ('hold', 'first', 'last')}
    ros.until(lambda: all(publisher.get_subscription_count() for publisher in publishers.values()))
    publishers['hold'].publish(String())
    assert started.wait(60)
    # Both are ready for the same wait.
    publishers['first'].publish(String(data='first'))
    publishers['last'].publish(String(data='last'))
    release.set()
    ros.until(lambda: calls)
    publishers['first'].publish(String(data='again'))
    ros.until(lambda: 'again' in calls)
    assert calls == ['first', 'again']
    wait_thread.close()
