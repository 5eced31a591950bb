"""How the nodes that stand in for a camera start and end."""

import signal
from collections.abc import Callable
from typing import TypeVar

import rclpy
from rclpy.exceptions import ParameterException
from rclpy.executors import ExternalShutdownException
from rclpy.logging import get_logger
from rclpy.node import Node

from m3et_ros.data.errors import InputError
from m3et_ros.ros import middleware

Source = TypeVar('Source', bound=Node)


def run(name: str, make: Callable[[], Source], play: Callable[[Source], int], args: list[str] | None = None) -> int:
    """Start a node, let it play and return the exit code: 0 also after SIGINT or SIGTERM, 1 for refused input.

    Args:
        name: name of the node in the log, before there is one.
        make: builds the node; what it refuses becomes one line in the log.
        play: runs until the source ends or the context is shut down.
        args: command line; None for that of the process.
    """
    sentence = middleware.prepare()
    rclpy.init(args=args)
    get_logger(name).info(sentence)
    node = None
    try:
        node = make()
        return play(node)
    except (InputError, ParameterException) as refused:
        get_logger(name).fatal(str(refused))
        return 1
    except (KeyboardInterrupt, ExternalShutdownException):
        return 0
    except Exception:
        # A signal may end the context between a check of it and a publish, which then raises.
        if rclpy.ok():
            raise
        return 0
    finally:
        # A second Ctrl-C must not tear the orderly end apart.
        signal.signal(signal.SIGINT, lambda *_: None)
        if node is not None:
            node.destroy_node()
        rclpy.try_shutdown()
