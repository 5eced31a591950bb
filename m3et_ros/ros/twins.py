"""Warn when another node has the same full name: both would answer the same requests and publish the same topics."""

import time
from collections.abc import Callable

from rclpy.clock import Clock, ClockType
from rclpy.node import Node

CHECK_S = 5.0
TWIN_S = 25.0
"""Seconds that a twin must have been there; DDS forgets a node that was killed after 20 s only."""


class TwinWatch:
    """Looks for nodes of the same name every CHECK_S seconds.

    Args:
        node: the node.
        report: called with '' while there is no twin and with a sentence while there is one.
        clock: seconds that never go back.
    """

    def __init__(self, node: Node, report: Callable[[str], None], *, clock: Callable[[], float] = time.monotonic):
        self._node, self._report, self._clock = node, report, clock
        self._since: float | None = None
        self._timer = node.create_timer(CHECK_S, self.check, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def check(self) -> None:
        """Look now."""
        name = self._node.get_fully_qualified_name()
        own = self._node.get_name(), self._node.get_namespace()
        count = self._node.get_node_names_and_namespaces().count(own)
        if count < 2:
            self._since = None
            self._report('')
            return
        self._since = self._clock() if self._since is None else self._since
        if self._clock() - self._since >= TWIN_S:
            self._report(
                f'{count} nodes are called {name}, and each request is answered by one of them; stop the others or '
                'give each robot a namespace of its own.'
            )
