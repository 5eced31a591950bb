"""m3et robot: the arguments of the model node. The running robot is tested in ask/test_app.py."""

from itertools import pairwise
from pathlib import Path

import pytest

from m3et_ros.cli.main import main
from m3et_ros.cli.output import Refused
from m3et_ros.cli.robot import NodeOptions, model_arguments
from m3et_ros.cli.ros_names import camera_remaps
from m3et_ros.ros import process

OPTIONS = {
    '--namespace': 'left/arm',
    '--camera': 'head',
    '--model': '2024',
    '--device': 'cuda:1',
    '--runtime': 'openvino',
    '--param': 'top_k:=7',
    '--remap': 'rgb/image_raw:=/other',
}


def test_every_option_arrives_at_the_model_node(border, reach, every_option, tmp_path):
    file = tmp_path / 'robot.yaml'
    file.write_text('')
    started = border('m3et_ros.cli.robot.supervise', last=True)
    words = [
        'robot',
        *(word for pair in OPTIONS.items() for word in pair),
        '--params-file',
        file,
        '--sim-time',
        '--no-respawn',
    ]
    reach(*words)
    (child,) = started
    assert (child['name'], child['module'], child['respawn']) == ('model', 'm3et_ros.ros.model_node', False)
    assert child['arguments'] == [
        '--ros-args',
        *('-r', '__ns:=/left/arm'),
        *('--params-file', str(file)),
        *('-p', 'autostart:=true'),
        *('-p', 'model:="2024"'),
        *('-p', 'device:="cuda:1"'),
        *('-p', 'runtime:="openvino"'),
        *('-p', 'use_sim_time:=true'),
        *('-p', 'top_k:=7'),
        *('-r', 'rgb/image_raw:=/other'),
        *(word for rule in camera_remaps('/head') for word in ('-r', rule)),
    ]
    every_option(words)


def test_options_that_are_not_given_are_left_to_the_parameter_file(border, reach):
    started = border('m3et_ros.cli.robot.supervise', last=True)
    reach('robot')
    arguments = started[0]['arguments']
    assert started[0]['respawn'] is True
    assert [one for flag, one in pairwise(arguments) if flag == '-p'] == ['autostart:=true']
    assert str(process.share('config', 'robot.yaml')) in arguments and '__ns:=/m3et' in arguments
    assert 'rgb/image_raw:=/camera/camera/color/image_raw' in arguments


@pytest.mark.parametrize(
    ('node', 'sentence'),
    [
        (NodeOptions(params_file=Path('/none.yaml')), '/none.yaml is not a file'),
        (NodeOptions(namespace='a b'), '--namespace is'),
        (NodeOptions(camera='a-b'), '--camera is'),
    ],
)
def test_wrong_names_and_files_are_refused(node, sentence):
    with pytest.raises(Refused, match=sentence):
        model_arguments(node)


def test_a_node_that_ends_by_itself_ends_the_robot_with_its_code(capfd, monkeypatch):
    monkeypatch.setattr('m3et_ros.cli.robot.MODEL_NODE', 'this')
    assert main(['robot']) == 0
    assert 'the model node has ended' in capfd.readouterr().err
    monkeypatch.setattr('m3et_ros.cli.robot.MODEL_NODE', 'no_such_module')
    assert main(['robot']) == 1
    assert 'model ended by itself with exit code 1' in capfd.readouterr().err
