"""Guards of the services that every rclpy node has: a request that makes one of them fail is refused in its reply.

rclpy raises out of these callbacks, for example for a lifecycle transition by an id that is not allowed now, or for a
parameter of a type that does not exist. The exception would end the process, and the client would wait for ever.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from lifecycle_msgs.srv import ChangeState
from rcl_interfaces.msg import SetParametersResult
from rcl_interfaces.srv import SetParameters, SetParametersAtomically
from rclpy.impl.rcutils_logger import RcutilsLogger
from rclpy.node import Node

from m3et_ros.ros.logs import error_sentence

Report = Callable[[str, Exception], str]
"""Takes an activity and the exception that stopped it; counts and logs them, and returns the sentence."""

NAMELESS = 'A parameter without a name was sent; give the name of a parameter.'


def guard_services(node: Node, report: Report | None = None) -> None:
    """Guard the services that a node has now: those of its parameters, and of its lifecycle.

    Args:
        node: a node that has just been initialised by rclpy.
        report: called when a request makes a callback fail; None = the log of the node.
    """
    report = report or partial(log_error, node.get_logger())
    for service in node.services:
        kind = service.srv_type
        answer = _set_one_by_one if kind is SetParameters else _call
        service.callback = partial(answer, service.callback, kind, service.srv_name, report)


def log_error(logger: RcutilsLogger, activity: str, error: Exception) -> str:
    """Log that an error stopped an activity; returns the sentence."""
    sentence = error_sentence(activity, error)
    logger.error(sentence, throttle_duration_sec=10.0)
    return sentence


def _call(
    callback: Callable[[Any, Any], Any], kind: Any, name: str, report: Report, request: Any, response: Any
) -> Any:
    """Answer a request; after an exception, with the refusal of its kind."""
    if kind is SetParametersAtomically and not all(parameter.name for parameter in request.parameters):
        return kind.Response(result=SetParametersResult(successful=False, reason=NAMELESS))
    try:
        return callback(request, response)
    except Exception as error:
        reason = report(f'a request to {name}', error)
    refusal = kind.Response()
    if kind is ChangeState:
        refusal.success = False
    elif kind is SetParametersAtomically:
        refusal.result = SetParametersResult(successful=False, reason=reason)
    return refusal


def _set_one_by_one(
    callback: Callable[[Any, Any], Any], kind: Any, name: str, report: Report, request: Any, response: Any
) -> Any:
    """Set parameters, each on its own, so that one that makes rclpy fail does not hide the results of the others."""
    for parameter in request.parameters:
        if not parameter.name:  # rclpy would accept it
            response.results.append(SetParametersResult(successful=False, reason=NAMELESS))
            continue
        try:
            response.results += callback(SetParameters.Request(parameters=[parameter]), kind.Response()).results
        except Exception as error:
            reason = report(f'setting {parameter.name!r} by {name}', error)
            response.results.append(SetParametersResult(successful=False, reason=reason))
    return response
