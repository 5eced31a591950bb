"""Ask a robot one question by the service ~/ask, and print the answer.

    python ask.py "What is on the table?"
    python ask.py "Where is the cup?" --ros-args -r __ns:=/robot2

The exit code is 0 with an answer, 1 without one and 2 without a question.
"""

import sys
import time

import rclpy
from rclpy.utilities import remove_ros_args

from m3et_ros.srv import AskQuestion

WAIT_S = 60.0
"""Seconds until the program gives up."""
AGAIN_S = 10.0
"""Seconds after which the question is sent again: a reply may be lost while two programs discover each other."""


def main() -> int:
    """Ask, print, and return the exit code."""
    question = ' '.join(remove_ros_args(sys.argv)[1:])
    if not question:
        print('usage: ask.py QUESTION [--ros-args -r __ns:=/ROBOT]', file=sys.stderr)
        return 2
    rclpy.init()
    node = rclpy.create_node('ask')
    client = node.create_client(AskQuestion, 'model/ask')
    deadline = time.monotonic() + WAIT_S
    # An answer about a picture of last week would be worse than none.
    request = AskQuestion.Request(question=question, max_age_s=5.0)
    reply = None
    while reply is None and time.monotonic() < deadline:
        if client.wait_for_service(timeout_sec=AGAIN_S):
            future = client.call_async(request)
            rclpy.spin_until_future_complete(node, future, timeout_sec=AGAIN_S)
            reply = future.result() if future.done() else None
    if reply is None:
        print(f'Nobody answers on {client.service_name}; start a model node, such as m3et robot.', file=sys.stderr)
    elif not reply.success:
        print(reply.message, file=sys.stderr)
    elif reply.answer.answerable:
        print(f'{reply.answer.text} ({reply.answer.confidence:.0%})')
    else:
        print(f'{reply.answer.text}: {reply.answer.explanation}')
    rclpy.shutdown()
    return 0 if reply is not None and reply.success else 1


if __name__ == '__main__':
    sys.exit(main())
