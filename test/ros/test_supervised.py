"""The real robot under supervision: after it stood still it answers again, and nothing is left of it afterwards."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import psutil
import pytest
from diagnostic_msgs.msg import DiagnosticArray
from std_msgs.msg import Header

from m3et_ros.ros.convert import to_image_msg
from m3et_ros.srv import AskQuestion

IMAGE = to_image_msg(np.full((48, 64, 3), 90, np.uint8), 'rgb8', Header())


class Supervised:
    """`m3et robot` in its own process, with a client."""

    def __init__(self, ros, *options):
        self.ros, self.node, self.diagnostics = ros, ros.node('watcher'), []
        command = [
            sys.executable,
            '-m',
            'm3et_ros.cli.main',
            'robot',
            '--namespace',
            'kept',
            '--model',
            'tiny',
            *options,
        ]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        self.client = self.node.create_client(AskQuestion, '/kept/model/ask')
        self.node.create_subscription(DiagnosticArray, '/diagnostics', self.diagnostics.append, 10)

    def child(self):
        """Return the process of the node."""
        return self.ros.until(lambda: psutil.Process(self.process.pid).children(), 60)[0]

    def answers(self, life):
        """Wait until the node says that it is active in this life, and a question is answered."""
        self.ros.until(lambda: life in self.started_again(), 90)
        self.ros.until(self._asked, 60)

    def started_again(self):
        for array in reversed(self.diagnostics):
            for status in array.status:
                values = {pair.key: pair.value for pair in status.values}
                if status.name == '/kept/model' and values.get('state') == 'active':
                    return values['started_again']
        return ''

    def _asked(self):
        future = self.client.call_async(AskQuestion.Request(question='Is there a cup?', image=IMAGE))
        end = time.monotonic() + 2
        while not future.done() and time.monotonic() < end:
            time.sleep(0.05)
        # A request to a node that is being killed is lost.
        return future.done() and (future.result().success or pytest.fail(future.result().message))

    def stop(self, number=signal.SIGINT):
        if self.process.poll() is None:
            self.process.send_signal(number)
        _, errors = self.process.communicate(timeout=120)
        return self.process.returncode, errors


@pytest.mark.timeout(300)
def test_a_robot_whose_node_stands_still_answers_again(ros):
    """It is killed then; test/cli/test_supervision.py has a node that is killed by somebody else."""
    robot = Supervised(ros)
    try:
        robot.answers('no')
        child = robot.child()
        os.kill(child.pid, signal.SIGSTOP)
        robot.answers('restart 1')
        assert not child.is_running()
        last = robot.child()
    finally:
        code, errors = robot.stop()
    assert code == 0 and not last.is_running(), errors
    assert 'the node model has not answered for ' in errors and 'Traceback' not in errors


def test_a_model_that_is_not_there_ends_the_robot_with_the_reason(ros):
    robot = Supervised(ros, '--model', 'nosuch')
    assert robot.process.wait(60) == 1
    _, errors = robot.stop()
    assert 'The node cannot start: There is no model nosuch' in errors and 'started again' not in errors
