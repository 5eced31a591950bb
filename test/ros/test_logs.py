"""Records of Python's logging arrive in the log of ROS, and only while a node runs."""

import logging

import pytest

from m3et_ros.ros import logs

LOGGER = logging.getLogger(f'{logs.PACKAGE}.runtime.part')


@pytest.fixture
def logged(ros):
    """Every message on /rosout."""
    messages = []
    ros.read_log(messages.append)
    return messages


def test_records_reach_rosout_in_the_name_of_the_node_with_their_severity(ros, logged):
    node = ros.node('model', namespace='robot')
    levels = {logging.INFO: 20, logging.WARNING: 30, logging.ERROR: 40, 35: 30, logging.CRITICAL: 50, 70: 50}
    with logs.forwarded() as handler:
        handler.node_logger = node.get_logger().name
        for level in levels:
            LOGGER.log(level, 'level %d', level)
    ros.until(lambda: len([m for m in logged if m.name == 'robot.model']) >= len(levels))
    assert [(m.msg, m.level) for m in logged if m.name == 'robot.model'] == [
        (f'level {level}', severity) for level, severity in levels.items()
    ]


def test_before_there_is_a_node_records_keep_their_name(capfd):
    with logs.forwarded():
        LOGGER.warning('random weights')
    assert f'[{LOGGER.name}]: random weights' in ''.join(capfd.readouterr())


def test_an_exception_is_logged_with_its_traceback(capfd):
    with logs.forwarded():
        try:
            raise OSError('disk full')
        except OSError:
            LOGGER.exception('not written')
    assert 'OSError: disk full' in ''.join(capfd.readouterr())


def test_afterwards_the_logger_is_as_before():
    package = logging.getLogger(logs.PACKAGE)
    before = package.level, list(package.handlers)
    with pytest.raises(KeyboardInterrupt), logs.forwarded():
        raise KeyboardInterrupt
    assert (package.level, package.handlers) == before
