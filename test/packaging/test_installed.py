"""The installed package, whichever way it came: type support, modules, share files, executables.

Run: python -m pytest test/packaging/test_installed.py
"""

import configparser
import importlib
import os
from pathlib import Path

import pytest
import rclpy
from ament_index_python.packages import get_package_prefix, get_package_share_directory
from rclpy.executors import SingleThreadedExecutor
from rclpy.serialization import deserialize_message, serialize_message

ROOT = Path(__file__).resolve().parents[2]
INTERFACES = sorted(path.relative_to(ROOT) for kind in ('msg', 'srv', 'action') for path in ROOT.glob(f'{kind}/*.*'))


def console_scripts() -> dict[str, str]:
    """Return the executables of setup.cfg as name -> module:function."""
    config = configparser.ConfigParser()
    config.read(ROOT / 'setup.cfg')
    lines = config['options.entry_points']['console_scripts'].split('\n')
    return dict((part.strip() for part in line.split('=')) for line in lines if line)


def test_middleware_is_fast_dds():
    assert rclpy.get_rmw_implementation_identifier() == 'rmw_fastrtps_cpp'


@pytest.mark.parametrize('path', INTERFACES, ids=str)
def test_interface_has_python_type_support_and_source(path):
    module = importlib.import_module(f'm3et_ros.{path.parent}')
    interface = getattr(module, path.stem)
    type(interface).__import_type_support__()
    assert interface._TYPE_SUPPORT is not None
    assert (Path(get_package_share_directory('m3et_ros')) / path).read_bytes() == (ROOT / path).read_bytes()


def test_message_survives_the_wire_format():
    from m3et_ros.msg import ActionAnticipation, ScoredLabel

    action = ScoredLabel(id=3, label='open fridge', score=0.5)
    sent = ActionAnticipation(horizon_s=1.0, actions=[action], model_id='tiny')
    assert deserialize_message(serialize_message(sent), ActionAnticipation) == sent


def test_service_answers_over_dds():
    from m3et_ros.srv import LoadModel

    def load(request, response):
        response.success, response.model_id = True, request.model.upper()
        return response

    context = rclpy.Context()
    rclpy.init(context=context)
    executor = SingleThreadedExecutor(context=context)
    nodes = [rclpy.create_node(name, context=context) for name in ('server', 'client')]
    try:
        for node in nodes:
            executor.add_node(node)
        nodes[0].create_service(LoadModel, 'load_model', load)
        client = nodes[1].create_client(LoadModel, 'load_model')
        assert client.wait_for_service(20)
        future = client.call_async(LoadModel.Request(model='tiny'))
        executor.spin_until_future_complete(future, 20)
        assert future.done() and future.result().model_id == 'TINY'
    finally:
        executor.shutdown()
        for node in nodes:
            node.destroy_node()
        rclpy.shutdown(context=context)


@pytest.mark.parametrize('folder', ['launch', 'config', 'examples'])
def test_share_files_are_those_of_the_source(folder):
    share = Path(get_package_share_directory('m3et_ros'))
    files = [
        path.relative_to(ROOT)
        for path in (ROOT / folder).rglob('*')
        if path.is_file() and path.name != '.keep' and '__pycache__' not in path.parts
    ]
    assert files
    for path in files:
        assert (share / path).read_bytes() == (ROOT / path).read_bytes(), f'{path} is stale: run `make` again'


@pytest.mark.parametrize('name', console_scripts())
def test_executable_is_where_ros2_run_looks(name):
    executable = Path(get_package_prefix('m3et_ros')) / 'lib' / 'm3et_ros' / name
    assert os.access(executable, os.X_OK)
    assert console_scripts()[name].split(':')[0] in executable.read_text()


def test_every_room_is_installed():
    rooms = [path.parent.relative_to(ROOT) for path in (ROOT / 'm3et_ros').rglob('__init__.py')]
    assert len(rooms) > 8
    for room in rooms:
        importlib.import_module('.'.join(room.parts))
