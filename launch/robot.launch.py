"""The robot: the model node on the topics of a camera, configured and activated at once.

ros2 launch m3et_ros robot.launch.py
ros2 launch m3et_ros robot.launch.py --show-args
ros2 launch m3et_ros robot.launch.py namespace:=left camera:=/left/camera model:=/models/m3et_kitchen
"""

from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.conditions import IfCondition
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import LifecycleNode, Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

from launch import LaunchDescription

SHARE = FindPackageShare('m3et_ros')
CAMERA = LaunchConfiguration('camera')

ARGUMENTS = [
    DeclareLaunchArgument('namespace', default_value='m3et', description='Namespace of the robot; one per robot.'),
    DeclareLaunchArgument(
        'params_file',
        default_value=PathJoinSubstitution([SHARE, 'config', 'robot.yaml']),
        description='Parameters of the model node.',
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
        'autostart',
        default_value='true',
        description='Configures and activates the node; false leaves that to its lifecycle services.',
    ),
    DeclareLaunchArgument('camera', default_value='/camera/camera', description='Prefix of the three camera topics.'),
    DeclareLaunchArgument(
        'rgb_topic',
        default_value=[CAMERA, '/color/image_raw'],
        description='Colour images; compressed ones at this name with /compressed.',
    ),
    DeclareLaunchArgument(
        'depth_topic',
        default_value=[CAMERA, '/aligned_depth_to_color/image_raw'],
        description='Depth images aligned to colour; compressed ones at this name with /compressedDepth.',
    ),
    DeclareLaunchArgument(
        'camera_info_topic',
        default_value=[CAMERA, '/color/camera_info'],
        description='Calibration of the colour camera.',
    ),
    DeclareLaunchArgument(
        'respawn', default_value='true', description='Starts the node again when it dies or stops answering.'
    ),
    DeclareLaunchArgument('rviz', default_value='false', description='Starts RViz 2 too, if it is installed.'),
    DeclareLaunchArgument('log_level', default_value='info', description='debug, info, warn, error or fatal.'),
]


def camera_remappings():
    """Return the remappings of the camera topics; each transport is a topic of its own."""
    rgb, depth = LaunchConfiguration('rgb_topic'), LaunchConfiguration('depth_topic')
    return [
        ('rgb/image_raw', rgb),
        ('rgb/image_raw/compressed', [rgb, '/compressed']),
        ('rgb/camera_info', LaunchConfiguration('camera_info_topic')),
        ('depth/image_raw', depth),
        ('depth/image_raw/compressedDepth', [depth, '/compressedDepth']),
        ('depth/image_raw/compressed', [depth, '/compressed']),
    ]


def model_node(context):
    """Return the model node; the parameter file sets model and device unless an argument does."""
    texts = {name: LaunchConfiguration(name).perform(context) for name in ('model', 'device')}
    given = {name: ParameterValue(text, value_type=str) for name, text in texts.items() if text}
    autostart = ParameterValue(LaunchConfiguration('autostart'), value_type=bool)
    respawn = LaunchConfiguration('respawn').perform(context).lower() == 'true'
    return [
        LifecycleNode(
            package='m3et_ros',
            executable='supervised_node' if respawn else 'model_node',
            arguments=['m3et_ros.ros.model_node'] if respawn else [],
            name='model',
            namespace=LaunchConfiguration('namespace'),
            parameters=[LaunchConfiguration('params_file'), {'autostart': autostart, **given}],
            remappings=camera_remappings(),
            ros_arguments=['--log-level', LaunchConfiguration('log_level')],
            output='screen',
        )
    ]


def generate_launch_description():
    """Return the model node and, with rviz, RViz."""
    rviz = Node(
        package='rviz2',
        executable='rviz2',
        namespace=LaunchConfiguration('namespace'),
        arguments=['-d', PathJoinSubstitution([SHARE, 'config', 'm3et.rviz'])],
        remappings=camera_remappings(),
        condition=IfCondition(LaunchConfiguration('rviz')),
        output='screen',
    )
    return LaunchDescription([*ARGUMENTS, OpaqueFunction(function=model_node), rviz])
