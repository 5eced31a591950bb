"""Append every answer of a robot to a file, one JSON document a line.

    python log_answers.py answers.jsonl

Each line is on the disk before the next answer comes. The model node may end and come back meanwhile, and so may this
program: it goes on at the end of the file.
"""

import json
import os
import sys

import rclpy
from rclpy.executors import ExternalShutdownException
from rclpy.qos import QoSProfile
from rclpy.utilities import remove_ros_args

from m3et_ros.msg import Answer


def as_line(answer: Answer) -> str:
    """Return an answer as one line."""
    stamp = answer.header.stamp
    fields = ('question', 'text', 'confidence', 'answerable', 'reason', 'scope', 'frames_used', 'model_id', 'age_s')
    document = {'stamp': f'{stamp.sec}.{stamp.nanosec:09}'} | {name: getattr(answer, name) for name in fields}
    return json.dumps(document, ensure_ascii=False) + '\n'


def main() -> int:
    """Run until Ctrl-C."""
    words = remove_ros_args(sys.argv)[1:]
    if len(words) != 1:
        print('usage: log_answers.py FILE [--ros-args -r __ns:=/ROBOT]', file=sys.stderr)
        return 2
    with open(words[0], 'a', encoding='utf-8') as file:

        def write(answer: Answer) -> None:
            file.write(as_line(answer))
            file.flush()
            os.fsync(file.fileno())

        try:
            rclpy.init()
            node = rclpy.create_node('log_answers')
            # Answers may come faster than a disk writes.
            node.create_subscription(Answer, 'model/answer', write, QoSProfile(depth=100))
            rclpy.spin(node)
        except (KeyboardInterrupt, ExternalShutdownException):
            pass
        finally:
            rclpy.try_shutdown()
    return 0


if __name__ == '__main__':
    sys.exit(main())
