"""The fleet node: a model node for each of many robots, in one process with one model and shared batches.

    ros2 launch m3et_ros fleet.launch.py robots:=left,right batch_window_s:=0.01
    python -m m3et_ros.ros.fleet_node --ros-args -p robots:=left,right -p autostart:=true

Every robot has the topics, services, actions and parameters of its own model node, /left/model and /right/model; they
share weights, device and process. A parameter file of the model node applies to all of them; '/left/model:' in it
addresses one.
"""

from collections.abc import Callable, Sequence
from typing import Any

from rclpy.exceptions import InvalidNamespaceException
from rclpy.node import Node
from rclpy.validate_namespace import validate_namespace

from m3et_ros.data.errors import InputError
from m3et_ros.ros import process
from m3et_ros.ros.clients import NumberingExecutor
from m3et_ros.ros.guards import guard_services
from m3et_ros.ros.model_node import ModelNode
from m3et_ros.ros.parameters import PARAMETERS as ROBOT_PARAMETERS
from m3et_ros.ros.parameters import P, declare, unknown_overrides
from m3et_ros.runtime.shared_model import SharedModels

PARAMETERS = (
    P('robots', '', 'Namespaces of the robots, separated by commas, such as left,right.'),
    P(
        'batch_window_s',
        0.0,
        'Longest time in seconds that a frame waits for those of other robots, to be encoded in one batch with them '
        'where torch serves; 0 encodes each by itself.',
        0,
        1,
    ),
    P('batch_most', 16, 'Largest number of frames in a batch.', 2, 256),
)
"""Parameters of the fleet node; its model nodes have their own."""


def namespaces(text: str) -> list[str]:
    """Return the namespaces in a comma-separated list: 'left, /arm/right' -> ['/left', '/arm/right'].

    Raises:
        InputError: 'parameter', the list is empty, names one twice or holds an invalid one.
    """
    found = ['/' + name.strip().strip('/') for name in text.split(',') if name.strip()]
    if not found:
        raise InputError('parameter', 'parameter robots is empty; give namespaces, such as robots:=left,right')
    for name in found:
        if found.count(name) > 1:
            raise InputError('parameter', f'parameter robots has {name} twice; give each robot its own name')
        try:
            validate_namespace(name)
        except InvalidNamespaceException as error:
            raise InputError(
                'parameter',
                f'parameter robots: {name} is not a namespace; give letters, digits and underscores, a letter first',
            ) from error
    return found


class Fleet(Node):
    """A node that owns the model nodes of the robots."""

    # Empty in a fleet whose parameters were refused: it is destroyed before it has robots.
    robots: Sequence[ModelNode] = ()

    def __init__(self, **kwargs: Any) -> None:
        super().__init__('fleet', **kwargs)
        guard_services(self)
        options = declare(self, PARAMETERS)
        # A parameter file for all nodes is mostly about the model nodes of the robots.
        for sentence in unknown_overrides(self, PARAMETERS, others=ROBOT_PARAMETERS):
            self.get_logger().warning(sentence)
        models = SharedModels(window_s=options.batch_window_s, most=options.batch_most)
        self.robots = [
            ModelNode(namespace=name, models=models, parameters_beside=PARAMETERS, context=self.context)
            for name in namespaces(options.robots)
        ]
        batches = 'each frame is encoded by itself'
        if options.batch_window_s:
            batches = f'frames wait up to {options.batch_window_s:g} s for each other'
        self.get_logger().info(f'{len(self.robots)} robots share one process and its models; {batches}.')

    def report(self, activity: str, error: Exception) -> None:
        """Count an exception in the diagnostics of every robot, because rclpy does not say whose callback raised it."""
        for robot in self.robots:
            robot.health.internal_error(activity, error)

    def destroy_node(self) -> None:
        """Destroy the model nodes, then this one."""
        for robot in self.robots:
            robot.destroy_node()
        super().destroy_node()


def serve(fleet: Fleet, stop: Callable[[], bool]) -> int:
    """Spin all nodes on one executor; their callbacks are short, and each robot has an inference thread.

    A robot that cannot start says so in its diagnostics, and the others serve. Return 1 when none could start.
    """

    def none_started() -> bool:
        return all(robot.start_failed for robot in fleet.robots)

    executor = NumberingExecutor(context=fleet.context)
    for node in (fleet, *fleet.robots):
        executor.add_node(node)
    try:
        process.spin(
            executor, lambda: stop() or none_started(), fleet.report, lambda: all(robot.alive for robot in fleet.robots)
        )
    finally:
        executor.shutdown(timeout_sec=0)
    return int(none_started())


def main(args: list[str] | None = None) -> int:
    """Run the fleet until SIGINT or SIGTERM; return 1 when its parameters are refused or no robot starts."""
    return process.run(Fleet, args, serve=serve)


if __name__ == '__main__':
    raise SystemExit(main())
