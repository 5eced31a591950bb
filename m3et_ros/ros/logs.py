"""Forward the Python logging of the package to the log of ROS, where the operator of a node looks."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from rclpy.logging import LoggingSeverity, get_logger

from m3et_ros.data.errors import printable

PACKAGE = 'm3et_ros'


def error_sentence(activity: str, error: Exception) -> str:
    """Return the sentence about an exception that the node survives; `activity` is what it stopped."""
    return printable(f'An internal error stopped {activity} ({type(error).__name__}: {error}); the node goes on.')


class RosHandler(logging.Handler):
    """Forwards records with their severity; levels in between count as the one below."""

    # Name of the node's logger, which alone reaches /rosout; while it is None, records keep their own name.
    node_logger: str | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Log one record."""
        try:
            severity = LoggingSeverity(min(max(record.levelno // 10 * 10, logging.DEBUG), logging.CRITICAL))
            # A new logger each time: rclpy lets one line of code log with one severity only.
            get_logger(self.node_logger or record.name).log(self.format(record), severity)
        except Exception:
            self.handleError(record)


@contextmanager
def forwarded() -> Iterator[RosHandler]:
    """Forward the package's records to ROS while the block lasts; the log level of ROS then decides."""
    handler, logger = RosHandler(), logging.getLogger(PACKAGE)
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    try:
        yield handler
    finally:
        logger.setLevel(level)
        logger.removeHandler(handler)
