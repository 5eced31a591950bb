"""Python logging of the package in the log of ROS, where who runs a node looks."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from rclpy.logging import LoggingSeverity, get_logger

PACKAGE = 'm3et_ros'


class RosHandler(logging.Handler):
    """Passes records on with their severity; levels in between count as the one below."""

    # Logger of the node, which alone reaches /rosout; None until there is one, then records keep their own name.
    node_logger: str | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Log one record."""
        try:
            severity = LoggingSeverity(min(max(record.levelno // 10 * 10, logging.DEBUG), logging.CRITICAL))
            # A new logger each time: rclpy lets one place in the code log with one severity only.
            get_logger(self.node_logger or record.name).log(self.format(record), severity)
        except Exception:
            self.handleError(record)


@contextmanager
def forwarded() -> Iterator[RosHandler]:
    """While the block lasts, what the package logs goes to ROS, whose log level then decides; else it is on stderr."""
    handler, logger = RosHandler(), logging.getLogger(PACKAGE)
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    try:
        yield handler
    finally:
        logger.setLevel(level)
        logger.removeHandler(handler)
