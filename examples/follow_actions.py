"""Print the present and the next action of the person in view whenever one of them changes.

    python follow_actions.py --ros-args -r __ns:=/robot2 -p least_score:=0.4

A line has the stamp of the first image with these actions.
"""

import rclpy
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node

from m3et_ros.msg import ActionAnticipation


class FollowActions(Node):
    """Subscribes to ~/anticipation, which has one message for each image."""

    def __init__(self):
        super().__init__('follow_actions')
        # The model ranks all actions, also where nothing is done: below this score an action is not worth a word.
        self._least = self.declare_parameter('least_score', 0.2).value
        self._last = None
        self.create_subscription(ActionAnticipation, 'model/anticipation', self._on_actions, 1)

    def _on_actions(self, message):
        now, following = self._best(message.current_actions), self._best(message.actions)
        if (now, following) != self._last:
            self._last = now, following
            stamp = message.header.stamp
            print(f'{stamp.sec}.{stamp.nanosec // 10**6:03}  now: {now}  next: {following}', flush=True)

    def _best(self, actions):
        """Return the label of the best action, '-' for none."""
        return actions[0].label if actions and actions[0].score >= self._least else '-'


def main():
    """Run until Ctrl-C."""
    try:
        rclpy.init()
        rclpy.spin(FollowActions())
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        rclpy.try_shutdown()


if __name__ == '__main__':
    main()
