"""Tell the clients of a service apart, so that they can take turns.

rclpy does not say who sent a request, but every client numbers its requests 1, 2, 3, ...: a request that continues a
series belongs to the client of that series. Two clients whose numbers happen to coincide may be taken for each other.
"""

from collections import OrderedDict
from collections.abc import Callable, Coroutine
from contextvars import ContextVar
from itertools import count
from typing import Any

from rclpy.action import ActionServer
from rclpy.action.server import ServerGoalHandle
from rclpy.executors import SingleThreadedExecutor, await_or_execute
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.service import Service

InvalidHandle = rclpy_implementation.InvalidHandle
REQUEST_NUMBER: ContextVar[int] = ContextVar('request_number', default=0)
"""Number of the request whose callback an executor of this file is starting; 0 under another executor."""


class Clients:
    """The clients of one service, by the numbers of their requests.

    Args:
        limit: number of clients that are remembered; the one that has asked nothing for longest is forgotten first.
    """

    def __init__(self, limit: int = 256):
        self._limit = limit
        self._last: OrderedDict[int, int] = OrderedDict()
        self._ids = count(1)

    def of(self, number: int) -> int:
        """Return the client of the next request; 0 where its number is unknown.

        Args:
            number: number of the request at its client; 0 for unknown.
        """
        if not number:
            return 0
        # Of several the one that has asked nothing for longest: a client with many open questions was here last.
        client = next((one for one, last in self._last.items() if last == number - 1), None)
        if client is None:
            client = next(self._ids)
        self._last[client] = number
        self._last.move_to_end(client)
        if len(self._last) > self._limit:
            self._last.popitem(last=False)
        return client


class NumberingExecutor(SingleThreadedExecutor):
    """A single-threaded executor that sets REQUEST_NUMBER while it starts the callback of a service."""

    def _take_service(self, srv: Service) -> Callable[[], Coroutine] | None:
        """Take a request as SingleThreadedExecutor does, with its number."""
        try:
            with srv.handle:
                request, header = srv.handle.service_take_request(srv.srv_type.Request)
        except InvalidHandle:
            return None

        async def execute() -> None:
            if header is None:
                return
            REQUEST_NUMBER.set(header.request_id.sequence_number)
            response = await await_or_execute(srv.callback, request, srv.srv_type.Response())
            srv.send_response(response, header)

        return execute


class NumberingActionServer(ActionServer):
    """An action server that knows the numbers of the requests for its goals."""

    def __init__(self, *args: Any, **kwargs: Any):
        self._numbers: OrderedDict[bytes, int] = OrderedDict()
        super().__init__(*args, **kwargs)

    def take_number(self, goal: ServerGoalHandle) -> int:
        """Return the number of the request for a goal that is about to be executed, and forget it; 0 if unknown."""
        return self._numbers.pop(bytes(goal.goal_id.uuid), 0)

    async def _execute_goal_request(self, request_header_and_message: tuple[Any, Any]) -> None:
        header, request = request_header_and_message
        self._numbers[bytes(request.goal_id.uuid)] = header.sequence_number
        # Goals that are refused are never executed.
        while len(self._numbers) > 1000:
            self._numbers.popitem(last=False)
        await super()._execute_goal_request(request_header_and_message)
