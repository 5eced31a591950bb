"""A rosbag2 recording instead of a camera, and the robot on it, in the time of the recording.

    ros2 launch m3et_ros replay.launch.py bag:=/path/to/bag
    ros2 launch m3et_ros replay.launch.py bag:=kitchen.mcap rate:=0.5 loop:=true model:=tiny

The arguments of robot.launch.py apply too. Everything ends with the recording.
"""

from pathlib import Path

from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription, Shutdown
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node, SetParameter
from launch_ros.parameter_descriptions import ParameterValue

from launch import LaunchDescription

ARGUMENTS = [
    DeclareLaunchArgument('bag', description='Folder of a rosbag2 recording, or its .mcap or .db3 file.'),
    DeclareLaunchArgument(
        'rate', default_value='1.0', description='Speed factor; 2.0 plays twice as fast as recorded.'
    ),
    DeclareLaunchArgument('loop', default_value='false', description='Starts over at the end, for ever.'),
    DeclareLaunchArgument('start', default_value='0.0', description='Start, in seconds after the first message.'),
]


def end_with_player(event, context):
    """End everything after the recording; during a shutdown a second one would be an error."""
    return None if context.is_shutdown else [Shutdown(reason='the recording has ended')]


def generate_launch_description():
    """Return the player, which waits for the robot's subscriptions, and the robot on the clock of the recording."""
    player = Node(
        package='m3et_ros',
        executable='replay_node',
        name='replay',
        output='screen',
        parameters=[
            {
                'path': ParameterValue(LaunchConfiguration('bag'), value_type=str),
                'rate': ParameterValue(LaunchConfiguration('rate'), value_type=float),
                'loop': ParameterValue(LaunchConfiguration('loop'), value_type=bool),
                'start_s': ParameterValue(LaunchConfiguration('start'), value_type=float),
                'wait_for_subscribers': True,
            }
        ],
        on_exit=end_with_player,
    )
    robot = IncludeLaunchDescription(PythonLaunchDescriptionSource(str(Path(__file__).with_name('robot.launch.py'))))
    return LaunchDescription([*ARGUMENTS, player, SetParameter(name='use_sim_time', value=True), robot])
