"""The launch files under the real launch: arguments, remappings, the way to active, a clean end.

Run: python -m pytest test/launch    (where launch, launch_ros and launch_pytest are installed; PyPI has none of them)
"""

import importlib.util
import time
from pathlib import Path

import numpy as np
import pytest
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import Image

WHY = 'launch comes with a full ROS 2 installation only, and this is the pip-only way'
# At the root of the checkout `import launch` finds the folder of launch files: ask for what lies deeper.
pytest.importorskip('launch_ros.actions', reason=WHY)
launch_pytest = pytest.importorskip('launch_pytest', reason=WHY)

from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription, RegisterEventHandler  # noqa: E402
from launch.event_handlers import OnProcessExit  # noqa: E402
from launch.launch_description_sources import PythonLaunchDescriptionSource  # noqa: E402
from launch_pytest.actions import ReadyToTest  # noqa: E402

from launch import LaunchDescription  # noqa: E402

FOLDER = Path(__file__).resolve().parents[2] / 'launch'
FILES = sorted(path.name for path in FOLDER.glob('*.launch.py'))
SMALL = {'model': 'tiny', 'device': 'cpu'}
START_NS = 1_700_000_000 * 10**9
exit_codes: dict[str, int] = {}


def included(name: str, **arguments: str) -> LaunchDescription:
    """Return a description that starts a launch file and notes how its processes end."""
    exit_codes.clear()
    source = PythonLaunchDescriptionSource(str(FOLDER / name))
    note = OnProcessExit(on_exit=lambda event, context: exit_codes.update({event.process_name: event.returncode}))
    return LaunchDescription(
        [
            RegisterEventHandler(note),
            ReadyToTest(),
            IncludeLaunchDescription(source, launch_arguments=arguments.items()),
        ]
    )


def first_image(topic: str, *, feed: str = '', seconds: float = 60) -> Image:
    """Return the first image on a topic, while a grey picture is published on the topic `feed`, if given."""
    context, images = rclpy.Context(), []
    rclpy.init(context=context)
    node = rclpy.create_node('listener', context=context)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    node.create_subscription(Image, topic, images.append, qos_profile_sensor_data)
    publisher = node.create_publisher(Image, feed, 1) if feed else None
    grey = Image(height=48, width=64, encoding='rgb8', step=192, data=bytes([128]) * (48 * 192))
    deadline = time.monotonic() + seconds
    while not images and time.monotonic() < deadline:
        if publisher:
            grey.header.stamp = node.get_clock().now().to_msg()
            publisher.publish(grey)
        executor.spin_once(timeout_sec=0.2)
    executor.shutdown()
    node.destroy_node()
    rclpy.shutdown(context=context)
    assert images, f'nothing came on {topic} within {seconds} s'
    return images[0]


def all_ended_well() -> bool:
    """Say whether every process that was started has ended with exit code 0."""
    return bool(exit_codes) and set(exit_codes.values()) == {0}


@pytest.mark.parametrize('name', FILES)
def test_every_argument_is_described(name):
    spec = importlib.util.spec_from_file_location('launch_file', FOLDER / name)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    arguments = [a for a in module.generate_launch_description().entities if isinstance(a, DeclareLaunchArgument)]
    assert arguments and all(argument.description.endswith('.') for argument in arguments)
    assert f'ros2 launch m3et_ros {name}' in module.__doc__


@launch_pytest.fixture
def robot():
    """The robot under another namespace, with a camera of another name."""
    return included('robot.launch.py', namespace='left', camera='/head', **SMALL)


@pytest.mark.launch(fixture=robot)
def test_robot_becomes_active_and_reads_the_named_camera(robot):
    assert first_image('/left/model/depth/image', feed='/head/color/image_raw').encoding == '32FC1'
    yield
    assert all_ended_well()


@launch_pytest.fixture
def webcam():
    """The robot on a webcam of usb_cam, which has no depth."""
    return included('robot.launch.py', namespace='left', camera_preset='usb_cam', **SMALL)


@pytest.mark.launch(fixture=webcam)
def test_a_preset_reads_the_topics_of_its_driver(webcam):
    assert first_image('/left/model/depth/image', feed='/image_raw').encoding == '32FC1'
    yield
    assert all_ended_well()


@launch_pytest.fixture
def fleet():
    """Two robots in one process, with cameras of another name."""
    return included('fleet.launch.py', robots='left,right', camera='head', batch_window_s='0.01', **SMALL)


@pytest.mark.launch(fixture=fleet)
def test_each_robot_of_a_fleet_reads_the_camera_in_its_namespace(fleet):
    for name in ('left', 'right'):
        assert first_image(f'/{name}/model/depth/image', feed=f'/{name}/head/color/image_raw').encoding == '32FC1'
    yield
    assert all_ended_well()


@launch_pytest.fixture
def recording(tmp_path_factory):
    """A short recording with compressed images, as cameras are recorded in the field; it ends by itself."""
    from m3et_ros.data.bags.writer import BagWriter
    from m3et_ros.data.frame import Frame

    bag = tmp_path_factory.mktemp('recording') / 'bag'
    rgb, depth = np.full((48, 64, 3), 90, np.uint8), np.ones((48, 64), np.float32)
    with BagWriter(bag, images='compressed') as writer:
        for index in range(30):
            writer.write_frame(Frame(rgb, depth, START_NS + index * 100_000_000))
    return included('replay.launch.py', bag=str(bag), **SMALL)


@pytest.mark.launch(fixture=recording)
def test_replay_reaches_the_robot_through_compressed_topics(recording):
    stamp = first_image('/m3et/model/depth/image').header.stamp
    assert stamp.sec in range(START_NS // 10**9, START_NS // 10**9 + 3)
    deadline = time.monotonic() + 60
    while len(exit_codes) < 2 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert len(exit_codes) == 2 and all_ended_well()


@launch_pytest.fixture
def demo():
    """The simulated kitchen before the robot."""
    return included('demo.launch.py', camera_rate='2.0', **SMALL)


@pytest.mark.launch(fixture=demo)
def test_demo_shows_the_kitchen_to_the_robot(demo):
    image = first_image('/m3et/model/depth/image')
    assert (image.header.frame_id, image.width, image.height) == ('camera_color_optical_frame', 640, 480)
    yield
    assert all_ended_well()
