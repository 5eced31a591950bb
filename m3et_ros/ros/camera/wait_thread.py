"""A thread that waits for the camera's messages alone, beside the executor.

Before each wait an rclpy executor collects every entity of its nodes: for the model node some fifty services, timers,
topics and events, which costs half a millisecond of CPU time several times per image. This thread waits for a handful
of subscriptions only, and a service call does not delay them.
"""

import time
from collections.abc import Callable
from contextlib import ExitStack
from threading import Lock, Thread
from typing import Any

from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.context import Context
from rclpy.exceptions import InvalidHandle
from rclpy.guard_condition import GuardCondition
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.logging import get_logger
from rclpy.subscription import Subscription

from m3et_ros.data.frame import NANOSECONDS

IDLE_S = 0.5
"""Longest wait in seconds where `after_wait` expects nothing sooner."""


class IgnoredByExecutors(ReentrantCallbackGroup):
    """A callback group whose entities no executor waits for.

    The events of a subscription belong to it too: waiting for them would wake an executor at each message.
    """

    def can_execute(self, entity: Any) -> bool:
        """Return False: no executor may wait for the entity or call its callback."""
        return False


class WaitThread:
    """Takes the messages of its subscriptions as they arrive and calls their callbacks one after the other."""

    def __init__(self, context: Context, after_wait: Callable[[], float] = lambda: IDLE_S):
        """Start the thread.

        Args:
            context: context of the node that subscribes; the thread ends with it.
            after_wait: called on the thread after each wait; must not raise. It returns the seconds, above 0, after
                which it is called again if no message arrives.
        """
        self.group = IgnoredByExecutors()
        """Callback group in which the subscriptions have to be created."""
        self._context, self._after_wait, self._lock, self._open = context, after_wait, Lock(), True
        self._subscriptions: tuple[Subscription, ...] = ()
        self._changed = GuardCondition(None, None, context=context)
        self._thread = Thread(target=self._run, name='wait_thread', daemon=True)
        self._thread.start()

    def add(self, subscription: Subscription) -> None:
        """Serve a subscription, which was created in `group`."""
        with self._lock:
            self._subscriptions += (subscription,)
        self._changed.trigger()

    def remove(self, subscription: Subscription) -> None:
        """Stop serving a subscription; ignore one that is not served."""
        with self._lock:
            self._subscriptions = tuple(s for s in self._subscriptions if s is not subscription)
        if self._open:
            self._changed.trigger()

    @property
    def alive(self) -> bool:
        """True while the thread takes messages."""
        return self._thread.is_alive()

    def close(self) -> None:
        """End the thread after the current callback."""
        if self._open:
            self._open = False
            self._changed.trigger()
            self._thread.join()
            self._changed.destroy()

    def _run(self) -> None:
        wait_s = IDLE_S
        while self._open and self._context.ok():
            try:
                self._wait_and_take(self._subscriptions, wait_s)
                wait_s = self._after_wait()
            except Exception as error:
                # A robot whose thread has ended would be blind.
                if self._open and self._context.ok():
                    get_logger('m3et_ros').error(
                        f'The wait for messages failed ({type(error).__name__}: {error}); it begins anew.',
                        throttle_duration_sec=10.0,
                    )
                    time.sleep(IDLE_S)

    def _wait_and_take(self, subscriptions: tuple[Subscription, ...], wait_s: float) -> None:
        """Wait until a message arrives, the subscriptions change or the time is over; call the callbacks."""
        with ExitStack() as held:
            held.enter_context(self._context.handle)
            alive = [s for s in subscriptions if _hold(held, s.handle)]
            events = [e for s in alive for e in s.event_handlers if _hold(held, e)]
            wait_set = rclpy_implementation.WaitSet(len(alive), 1, 0, 0, 0, len(events), self._context.handle)
            wait_set.clear_entities()
            for subscription in alive:
                wait_set.add_subscription(subscription.handle)
            for event in events:
                event.add_to_wait_set(wait_set)
            wait_set.add_guard_condition(self._changed.handle)
            wait_set.wait(round(wait_s * NANOSECONDS))
            ready = wait_set.get_ready_entities('subscription')
            for event in events:
                if event.is_ready(wait_set) and (data := event.take_data()):
                    _call_guarded(event.callback, data, 'An event')
            for subscription in alive:
                # A subscription that was removed during the wait must not call its owner any more.
                if subscription.handle.pointer in ready and subscription in self._subscriptions:
                    _call_guarded(_take_message, subscription, f'A message on {subscription.topic_name}')


def _take_message(subscription: Subscription) -> None:
    """Take a message from DDS and call the subscription's callback, such as CameraInputs._on_rgb."""
    message = subscription.handle.take_message(subscription.msg_type, subscription.raw)
    if message is not None:
        subscription.callback(message[0])


def _hold(held: ExitStack, handle: Any) -> bool:
    """Keep an rclpy handle from being destroyed while `held` is open; return False if it is destroyed already."""
    try:
        held.enter_context(handle)
    except InvalidHandle:
        return False
    return True


def _call_guarded(callback: Callable[[Any], None], argument: Any, subject: str) -> None:
    """Call a callback and log its exception, so that the messages after it are still served."""
    try:
        callback(argument)
    except Exception as error:
        get_logger('m3et_ros').error(
            f'{subject} could not be processed ({type(error).__name__}: {error}); the next ones will be.'
        )
