"""The simulated kitchen instead of a camera, and the robot on its images.

    ros2 launch m3et_ros demo.launch.py
    ros2 launch m3et_ros demo.launch.py seed:=7 camera_rate:=5.0 model:=tiny

The arguments of robot.launch.py apply too.
"""

from pathlib import Path

from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

from launch import LaunchDescription

ARGUMENTS = [
    DeclareLaunchArgument(
        'camera', default_value='/camera/camera', description='Namespace of the camera and prefix of its topics.'
    ),
    DeclareLaunchArgument(
        'seed', default_value='0', description='Seed of kitchen and person; the same seed gives the same images.'
    ),
    DeclareLaunchArgument('camera_rate', default_value='10.0', description='Images per second.'),
    DeclareLaunchArgument('backend', default_value='auto', description='Renderer: egl, osmesa, raycast or auto.'),
    DeclareLaunchArgument(
        'episode_frames',
        default_value='0',
        description='Number of images after which the next kitchen follows; 0 stays in one.',
    ),
]


def generate_launch_description():
    """Return the camera, in the namespace from which the robot reads, and the robot."""
    robot = IncludeLaunchDescription(PythonLaunchDescriptionSource(str(Path(__file__).with_name('robot.launch.py'))))
    kinds = {
        'seed': ('seed', int),
        'rate_hz': ('camera_rate', float),
        'backend': ('backend', str),
        'episode_frames': ('episode_frames', int),
    }
    camera = Node(
        package='m3et_ros',
        executable='camera_sim',
        name='camera_sim',
        namespace=LaunchConfiguration('camera'),
        parameters=[
            {
                name: ParameterValue(LaunchConfiguration(argument), value_type=kind)
                for name, (argument, kind) in kinds.items()
            }
        ],
        output='screen',
    )
    return LaunchDescription([*ARGUMENTS, robot, camera])
