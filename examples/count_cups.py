"""Count cups while the robot drives: print how many are in view and how many there were, whenever that changes.

    python count_cups.py --ros-args -p thing:=bowl -p every_s:=5.0

The first question is about the newest image, the second about the whole episode. The shipped model counts badly, so
the confidence is printed too. A node with memory:=false refuses the second.
"""

import rclpy
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node

from m3et_ros.srv import AskQuestion

QUESTIONS = {'frame': 'How many {}s are in view?', 'episode': 'How many {}s have you seen?'}
LOST_S = 20.0
"""Seconds after which an answer is taken for lost."""


class CountThings(Node):
    """Asks two questions again and again, never the same one twice at a time."""

    def __init__(self):
        super().__init__('count_things')
        self._thing = self.declare_parameter('thing', 'cup').value
        self._client = self.create_client(AskQuestion, 'model/ask')
        self._last, self._asked = {}, {}
        self.create_timer(self.declare_parameter('every_s', 2.0).value, self._ask)

    def _ask(self):
        if not self._client.service_is_ready():
            return
        now = self.get_clock().now()
        for scope, question in QUESTIONS.items():
            asked = self._asked.get(scope)
            if asked is None or (now - asked).nanoseconds > LOST_S * 1e9:
                self._asked[scope] = now
                request = AskQuestion.Request(question=question.format(self._thing), scope=scope)
                self._client.call_async(request).add_done_callback(lambda f, scope=scope: self._on_reply(scope, f))

    def _on_reply(self, scope, future):
        self._asked[scope], reply = None, future.result()
        answer = reply.answer
        if not reply.success:
            text = sentence = reply.message
        elif answer.answerable:
            text, sentence = answer.text, f'{answer.text} ({answer.confidence:.0%})'
        else:
            text = sentence = f'{answer.text}: {answer.explanation}'
        if text != self._last.get(scope):
            self._last[scope] = text
            print(f'{"in view" if scope == "frame" else "so far"}: {sentence}', flush=True)


def main():
    """Run until Ctrl-C."""
    try:
        rclpy.init()
        rclpy.spin(CountThings())
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        rclpy.try_shutdown()


if __name__ == '__main__':
    main()
