"""Many robots, one process, one model: a model node for each robot, frames of several of them encoded in one batch.

    ros2 launch m3et_ros fleet.launch.py robots:=left,right batch_window_s:=0.01
    python -m m3et_ros.ros.fleet_node --ros-args -p robots:=left,right -p autostart:=true

Every robot has the topics, services, actions and parameters of a model node of its own, /left/model and /right/model;
weights, device and process are shared. A parameter file of the model node serves them all; '/left/model:' in it means
one of them.
"""

from collections.abc import Callable

from rclpy.exceptions import InvalidNamespaceException
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.validate_namespace import validate_namespace

from m3et_ros.data.errors import InputError
from m3et_ros.ros import process
from m3et_ros.ros.model_node import ModelNode
from m3et_ros.ros.parameters import PARAMETERS as OF_ROBOTS
from m3et_ros.ros.parameters import P, declare, unknown_overrides
from m3et_ros.runtime.shared_model import SharedModels

PARAMETERS = (
    P('robots', '', 'Namespaces of the robots with commas between them, such as left,right.'),
    P(
        'batch_window_s',
        0.0,
        'Longest time in seconds that a frame waits for those of other robots to be encoded in '
        'one batch; 0 encodes each by itself.',
        0,
        1,
    ),
    P('batch_most', 16, 'Most frames of a batch.', 2, 256),
)
"""Parameters of the fleet, beside those of its model nodes."""


def namespaces(text: str) -> list[str]:
    """Namespaces from names with commas between them: 'left, /arm/right' -> ['/left', '/arm/right'].

    Raises:
        InputError: none, the same twice, or no valid namespace.
    """
    found = ['/' + name.strip().strip('/') for name in text.split(',') if name.strip()]
    if not found:
        raise InputError('parameter', 'parameter robots is empty; give namespaces, such as robots:=left,right')
    for name in found:
        if found.count(name) > 1:
            raise InputError('parameter', f'parameter robots has {name} twice; give each robot a name of its own')
        try:
            validate_namespace(name)
        except InvalidNamespaceException as error:
            raise InputError(
                'parameter',
                f'parameter robots: {name} is no namespace; give letters, digits and underlines, a letter first',
            ) from error
    return found


class Fleet(Node):
    """Holds the robots' model nodes."""

    robots: list[ModelNode] = []

    def __init__(self, **kwargs):
        super().__init__('fleet', **kwargs)
        options = declare(self, PARAMETERS)
        # A parameter file for all nodes is for the robots' nodes first of all.
        for sentence in unknown_overrides(self, PARAMETERS, others=OF_ROBOTS):
            self.get_logger().warning(sentence)
        models = SharedModels(window_s=options.batch_window_s, most=options.batch_most)
        self.robots = [
            ModelNode(namespace=name, models=models, beside=PARAMETERS) for name in namespaces(options.robots)
        ]
        self.get_logger().info(
            f'{len(self.robots)} robots share what is loaded; '
            + (
                f'frames wait {options.batch_window_s:g} s for each other.'
                if options.batch_window_s
                else 'each frame is encoded by itself.'
            )
        )

    def destroy_node(self) -> None:
        """Stop the robots' nodes, then leave."""
        for robot in self.robots:
            robot.destroy_node()
        super().destroy_node()


def serve(fleet: Fleet, stop: Callable[[], bool]) -> None:
    """Spin all nodes on one executor: their callbacks are short, and each robot has an inference thread."""
    executor = SingleThreadedExecutor(context=fleet.context)
    for node in (fleet, *fleet.robots):
        executor.add_node(node)
    try:
        process.spin(executor, stop)
    finally:
        executor.shutdown(timeout_sec=0)


def main(args: list[str] | None = None) -> int:
    """Run the fleet until SIGINT or SIGTERM; 1 when its parameters are refused."""
    return process.run(Fleet, args, serve=serve)


if __name__ == '__main__':
    raise SystemExit(main())
