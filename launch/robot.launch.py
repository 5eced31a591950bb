"""The robot: the model node on the topics of a camera, configured and activated at once.

ros2 launch m3et_ros robot.launch.py
ros2 launch m3et_ros robot.launch.py --show-args
ros2 launch m3et_ros robot.launch.py namespace:=left camera:=/left/camera model:=/models/m3et_kitchen
ros2 launch m3et_ros robot.launch.py camera_preset:=zed
"""

from launch.actions import DeclareLaunchArgument, LogInfo, OpaqueFunction
from launch.conditions import IfCondition
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import LifecycleNode, Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

from launch import LaunchDescription
from m3et_ros.ros.camera.presets import DEFAULT, PRESETS, find_preset

SHARE = FindPackageShare('m3et_ros')
TOPICS = {
    'rgb_topic': ('rgb/image_raw', ('', '/compressed')),
    'camera_info_topic': ('rgb/camera_info', ('',)),
    'depth_topic': ('depth/image_raw', ('', '/compressedDepth', '/compressed')),
}
"""Arguments that name a topic, with the input of the model node and its transports, each a topic of its own."""

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
    DeclareLaunchArgument(
        'camera_preset',
        default_value=DEFAULT,
        description=f'Camera whose topics are read: {", ".join(PRESETS)}; m3et cameras describes them.',
    ),
    DeclareLaunchArgument(
        'camera', default_value='', description='Prefix of the camera topics; empty takes that of camera_preset.'
    ),
    DeclareLaunchArgument(
        'rgb_topic',
        default_value='',
        description='Colour images; compressed ones at this name with /compressed. Empty leaves it to camera_preset.',
    ),
    DeclareLaunchArgument(
        'depth_topic',
        default_value='',
        description='Depth images aligned to colour; compressed ones at this name with /compressedDepth. Empty leaves '
        'it to camera_preset.',
    ),
    DeclareLaunchArgument(
        'camera_info_topic',
        default_value='',
        description='Calibration of the colour camera. Empty leaves it to camera_preset.',
    ),
    DeclareLaunchArgument(
        'respawn', default_value='true', description='Starts the node again when it dies or stops answering.'
    ),
    DeclareLaunchArgument('rviz', default_value='false', description='Starts RViz 2 too, if it is installed.'),
    DeclareLaunchArgument('log_level', default_value='info', description='debug, info, warn, error or fatal.'),
]


def camera_remappings(context):
    """Return the remappings of the camera topics: those of the preset, and those that an argument gives instead."""
    topics = chosen_preset(context).topics(value_of('camera', context))
    for argument, (name, suffixes) in TOPICS.items():
        if given := value_of(argument, context):
            topics |= {f'{name}{suffix}': f'{given}{suffix}' for suffix in suffixes}
    return list(topics.items())


def chosen_preset(context):
    """Return the preset of the argument camera_preset."""
    return find_preset(value_of('camera_preset', context))


def value_of(name, context):
    """Return the text of a launch argument."""
    return LaunchConfiguration(name).perform(context)


def nodes(context):
    """Return the model node and RViz; the parameter file sets model and device unless an argument does."""
    preset, remappings = chosen_preset(context), camera_remappings(context)
    parameters = {} if value_of('depth_topic', context) else preset.parameters
    given = {
        name: ParameterValue(text, value_type=str)
        for name, text in ({n: value_of(n, context) for n in ('model', 'device')} | parameters).items()
        if text
    }
    autostart = ParameterValue(LaunchConfiguration('autostart'), value_type=bool)
    respawn = value_of('respawn', context).lower() == 'true'
    model = LifecycleNode(
        package='m3et_ros',
        executable='supervised_node' if respawn else 'model_node',
        arguments=['m3et_ros.ros.model_node'] if respawn else [],
        name='model',
        namespace=LaunchConfiguration('namespace'),
        parameters=[LaunchConfiguration('params_file'), {'autostart': autostart, **given}],
        remappings=remappings,
        ros_arguments=['--log-level', LaunchConfiguration('log_level')],
        output='screen',
    )
    rviz = Node(
        package='rviz2',
        executable='rviz2',
        namespace=LaunchConfiguration('namespace'),
        arguments=['-d', PathJoinSubstitution([SHARE, 'config', 'm3et.rviz'])],
        remappings=remappings,
        condition=IfCondition(LaunchConfiguration('rviz')),
        output='screen',
    )
    about = [] if preset.name == DEFAULT else [LogInfo(msg=f'Camera {preset.name}: {preset.alignment}')]
    return [*about, model, rviz]


def generate_launch_description():
    """Return the model node and, with rviz, RViz."""
    return LaunchDescription([*ARGUMENTS, OpaqueFunction(function=nodes)])
