"""A thread that waits for the camera's messages alone, beside the executor.

Before each wait an executor of rclpy gathers everything that its nodes have: of the model node some fifty services,
timers, topics and events, half a millisecond of CPU time, several times an image. This thread waits for a handful of
subscriptions, and services do not make them wait either.
"""

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

from m3et_ros.ros.logs import PACKAGE

WAIT_NS = 50_000_000
"""Longest wait, in nanoseconds: how often `between` is called where nothing comes."""


class Apart(ReentrantCallbackGroup):
    """A callback group that executors leave alone.

    Events of a subscription stay with it: to wait for them wakes an executor at each message, over and over.
    """

    def can_execute(self, entity) -> bool:
        """Whether an executor may wait for the entity and call its callback: never."""
        return False


class WaitThread:
    """Takes messages of the subscriptions given to it as they come, and calls their callbacks one after the other."""

    def __init__(self, context: Context, between: Callable[[], None] = lambda: None):
        """Start the thread.

        Args:
            context: of the node that subscribes; the thread ends with it.
            between: called on the thread whenever it has waited, for WAIT_NS at most; must not raise.
        """
        # What the subscriptions are made with.
        self.group = Apart()
        self._context, self._between, self._lock, self._open = context, between, Lock(), True
        self._subscriptions: tuple[Subscription, ...] = ()
        self._changed = GuardCondition(None, None, context=context)
        self._thread = Thread(target=self._run, name='intake', daemon=True)
        self._thread.start()

    def add(self, subscription: Subscription) -> None:
        """Serve a subscription, which was made in `group`."""
        with self._lock:
            self._subscriptions += (subscription,)
        self._changed.trigger()

    def remove(self, subscription: Subscription) -> None:
        """Serve a subscription no more; one that is not served is passed over."""
        with self._lock:
            self._subscriptions = tuple(s for s in self._subscriptions if s is not subscription)
        if self._open:
            self._changed.trigger()

    def close(self) -> None:
        """End the thread after the callback in hand."""
        if self._open:
            self._open = False
            self._changed.trigger()
            self._thread.join()
            self._changed.destroy()

    def _run(self) -> None:
        while self._open and self._context.ok():
            try:
                self._serve(self._subscriptions)
                self._between()
            except rclpy_implementation.RCLError:
                if self._context.ok():
                    raise

    def _serve(self, subscriptions: tuple[Subscription, ...]) -> None:
        """Wait for WAIT_NS at most, or until the subscriptions change, and call the callbacks of what has come."""
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
            wait_set.wait(WAIT_NS)
            came = wait_set.get_ready_entities('subscription')
            for event in events:
                if event.is_ready(wait_set) and (what := event.take_data()):
                    _guarded('An event', event.callback, what)
            for subscription in alive:
                # One that was removed during the wait has nobody left to hear it.
                if subscription.handle.pointer in came and subscription in self._subscriptions:
                    _guarded(f'A message on {subscription.topic_name}', _take, subscription)


def _take(subscription: Subscription) -> None:
    found = subscription.handle.take_message(subscription.msg_type, subscription.raw)
    if found is not None:
        subscription.callback(found[0])


def _hold(held: ExitStack, handle: Any) -> bool:
    """Keep something of rclpy from being destroyed; False where it is already."""
    try:
        held.enter_context(handle)
    except InvalidHandle:
        return False
    return True


def _guarded(what: str, step: Callable[[Any], None], given: Any) -> None:
    try:
        step(given)
    except Exception as error:
        get_logger(PACKAGE).error(
            f'{what} could not be taken in ({type(error).__name__}: {error}); what comes next is.'
        )
