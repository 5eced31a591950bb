"""A leaf of a behaviour tree that asks a robot a question, and a small tree of such leaves.

    pip install py_trees
    python behaviour_tree.py

The tree of `main` succeeds if a cup is in view and the tap is off.
"""

import sys
import time

import py_trees
import rclpy
from py_trees.common import Status

from m3et_ros.srv import AskQuestion

TICK_S = 0.2
AGAIN_S = 3.0
"""Seconds after which the question is sent again: a reply may be lost while two programs discover each other."""


class AskRobot(py_trees.behaviour.Behaviour):
    """RUNNING until the answer comes, then SUCCESS if it is the expected one, else FAILURE.

    Args:
        question: asked about the newest image each time the leaf is entered.
        expected: answer that makes it succeed.
        node: node that asks; somebody else spins it.
        least: smallest confidence in the answer.
        patience_s: seconds after which the leaf fails without an answer.
    """

    def __init__(self, question, expected, node, *, least=0.5, patience_s=20.0):
        super().__init__(question)
        self._expected, self._least, self._patience_s = expected, least, patience_s
        self._client = node.create_client(AskQuestion, 'model/ask')
        self._reply = None

    def initialise(self):
        """Send the question."""
        self._entered = time.monotonic()
        self._sent = self._entered - AGAIN_S
        self._reply = None

    def update(self):
        """Return the status, without waiting."""
        if self._reply is None or not self._reply.done():
            now = time.monotonic()
            if now - self._sent >= AGAIN_S and self._client.service_is_ready():
                self._sent = now
                self._reply = self._client.call_async(AskQuestion.Request(question=self.name, max_age_s=2.0))
            self.feedback_message = 'no answer yet'
            return Status.FAILURE if now - self._entered > self._patience_s else Status.RUNNING
        reply = self._reply.result()
        if not reply.success:
            self.feedback_message = reply.message
            return Status.FAILURE
        self.feedback_message = f'{reply.answer.text} ({reply.answer.confidence:.0%})'
        right = reply.answer.text == self._expected and reply.answer.confidence >= self._least
        return Status.SUCCESS if right else Status.FAILURE

    def terminate(self, new_status):
        """Drop a question that the tree no longer waits for."""
        if self._reply is not None and not self._reply.done():
            self._client.remove_pending_request(self._reply)


def main() -> int:
    """Tick until the tree has decided; return 0 if it succeeds."""
    rclpy.init()
    node = rclpy.create_node('behaviour_tree')
    leaves = [AskRobot('Is there a cup in view?', 'yes', node), AskRobot('Is the tap on?', 'no', node)]
    tree = py_trees.composites.Sequence('a cup may be filled', memory=True, children=leaves)
    while tree.status in (Status.INVALID, Status.RUNNING):
        tree.tick_once()
        rclpy.spin_once(node, timeout_sec=TICK_S)
    for leaf in leaves:
        print(f'{leaf.status.value}  {leaf.name} {leaf.feedback_message}')
    rclpy.shutdown()
    return 0 if tree.status == Status.SUCCESS else 1


if __name__ == '__main__':
    sys.exit(main())
