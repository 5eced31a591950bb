"""A model node for each of many robots, on the topics of its camera, in one process with one model.

ros2 launch m3et_ros fleet.launch.py robots:=left,right
ros2 launch m3et_ros fleet.launch.py robots:=left,right batch_window_s:=0.01 device:=cuda
"""

from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

from launch import LaunchDescription

CAMERA = LaunchConfiguration('camera')

ARGUMENTS = [
    DeclareLaunchArgument('robots', description='Namespaces of the robots, separated by commas.'),
    DeclareLaunchArgument(
        'batch_window_s',
        default_value='0.0',
        description='Longest time in seconds that a frame waits for those of other robots, to be encoded with them; '
        '0 encodes each by itself.',
    ),
    DeclareLaunchArgument(
        'params_file',
        default_value=PathJoinSubstitution([FindPackageShare('m3et_ros'), 'config', 'robot.yaml']),
        description='Parameters of the model nodes.',
    ),
    DeclareLaunchArgument(
        'model',
        default_value='',
        description='Named size, checkpoint folder or hf:owner/name of the Hub; empty leaves it to params_file.',
    ),
    DeclareLaunchArgument(
        'device', default_value='', description='auto, cpu, cuda or cuda:N; empty leaves it to params_file.'
    ),
    DeclareLaunchArgument(
        'camera',
        default_value='camera/camera',
        description='Prefix of the camera topics, in the namespace of each robot.',
    ),
    DeclareLaunchArgument(
        'respawn', default_value='true', description='Starts the process again when it dies or stops answering.'
    ),
    DeclareLaunchArgument('log_level', default_value='info', description='debug, info, warn, error or fatal.'),
]


def camera_remappings():
    """Return the remappings of the camera topics; relative, so that they apply in every namespace."""
    rgb, depth = [CAMERA, '/color/image_raw'], [CAMERA, '/aligned_depth_to_color/image_raw']
    return [
        ('rgb/image_raw', rgb),
        ('rgb/image_raw/compressed', [*rgb, '/compressed']),
        ('rgb/camera_info', [CAMERA, '/color/camera_info']),
        ('depth/image_raw', depth),
        ('depth/image_raw/compressedDepth', [*depth, '/compressedDepth']),
        ('depth/image_raw/compressed', [*depth, '/compressed']),
    ]


def fleet(context):
    """Return the process; a name would apply to all of its nodes, so it gets none."""
    texts = {name: LaunchConfiguration(name).perform(context) for name in ('robots', 'model', 'device')}
    given = {name: ParameterValue(text, value_type=str) for name, text in texts.items() if text}
    window = ParameterValue(LaunchConfiguration('batch_window_s'), value_type=float)
    respawn = LaunchConfiguration('respawn').perform(context).lower() == 'true'
    return [
        Node(
            package='m3et_ros',
            executable='supervised_node' if respawn else 'fleet_node',
            arguments=['m3et_ros.ros.fleet_node'] if respawn else [],
            output='screen',
            remappings=camera_remappings(),
            parameters=[LaunchConfiguration('params_file'), {'autostart': True, 'batch_window_s': window, **given}],
            ros_arguments=['--log-level', LaunchConfiguration('log_level')],
        )
    ]


def generate_launch_description():
    """Return the fleet."""
    return LaunchDescription([*ARGUMENTS, OpaqueFunction(function=fleet)])
