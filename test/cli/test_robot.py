"""m3et robot: the arguments of the model node. The running robot is tested in ask/test_app.py."""

from itertools import pairwise
from pathlib import Path

import pytest
from clip_files import write_clip

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
    sources = ('--webcam', '--video', '--pictures', '--rate', '--loop', '--preset')
    every_option([*words, *sources])


def test_options_that_are_not_given_are_left_to_the_parameter_file(border, reach):
    started = border('m3et_ros.cli.robot.supervise', last=True)
    reach('robot')
    arguments = started[0]['arguments']
    assert started[0]['respawn'] is True
    assert [one for flag, one in pairwise(arguments) if flag == '-p'] == ['autostart:=true']
    assert str(process.share('config', 'robot.yaml')) in arguments and '__ns:=/m3et' in arguments
    assert 'rgb/image_raw:=/camera/camera/color/image_raw' in arguments


def values_of(arguments, flag):
    return [one for before, one in pairwise(arguments) if before == flag]


def test_a_preset_gives_the_topics_of_its_driver_and_says_what_the_driver_needs(border, reach, capsys):
    started = border('m3et_ros.cli.robot.supervise', last=True)
    reach('robot', '--preset', 'orbbec')
    reach('robot', '--preset', 'zed', '--camera', '/camera/camera')
    reach('robot', '--preset', 'usb_cam', '-p', 'depth_transport:=raw')
    orbbec, zed, webcam = (call['arguments'] for call in started)
    assert values_of(orbbec, '-r')[1:] == camera_remaps('', 'orbbec')
    assert 'rgb/image_raw:=/camera/color/image_raw' in orbbec
    assert 'rgb/image_raw:=/camera/camera/rgb/color/rect/image' in zed
    assert 'rgb/image_raw:=/image_raw' in webcam and not any('depth/image_raw' in word for word in webcam)
    # What the user gives comes last and is stronger.
    assert values_of(webcam, '-p') == ['autostart:=true', 'depth_transport:="none"', 'depth_transport:=raw']
    said = capsys.readouterr().err
    assert 'orbbec: Its depth must be aligned to colour: start the driver with depth_registration:=true.' in said
    assert 'on the camera topic /camera/color/image_raw' in said
    assert main(['robot', '--preset', 'realsence']) == 1
    assert 'did you mean realsense?' in capsys.readouterr().err


def test_a_source_is_started_beside_the_model_node_which_reads_colour_alone(border, reach, tmp_path, capsys):
    clip = write_clip(tmp_path / 'clip.mp4')
    cameras = border('m3et_ros.cli.robot.Child', last=True)
    reach('robot', '--video', clip, '--loop', '--namespace', 'left', '--camera', '/head')
    reach('robot', '--webcam', '3')
    (camera, webcam) = cameras
    assert (camera['name'], camera['module']) == ('camera', 'm3et_ros.ros.camera_video')
    assert values_of(camera['arguments'], '-r') == ['__ns:=/head']
    assert values_of(camera['arguments'], '-p') == [
        f'video:="{clip}"',
        'rate_hz:=1.0',
        'loop:=true',
        'wait_for_subscribers:=true',
        'results_of:="/left/model"',
    ]
    assert values_of(webcam['arguments'], '-r') == ['__ns:=/camera/camera']
    assert values_of(webcam['arguments'], '-p')[0] == 'webcam:="3"'
    assert 'It has colour alone: the model predicts depth' in capsys.readouterr().err


@pytest.mark.parametrize(
    ('options', 'sentence'),
    [
        (['--video', 'a', '--webcam', '0'], 'are three cameras; give one of them'),
        (['--video', 'a', '--rate', '2'], '--rate goes with --pictures'),
        (['--webcam', '0', '--loop'], '--loop goes with --video or --pictures'),
        (['--video', 'a', '--sim-time'], '--sim-time and --preset are for a camera with a driver'),
        (['--pictures', 'a', '--preset', 'zed'], '--sim-time and --preset are for a camera with a driver'),
        (['--video', '/none.mp4'], '/none.mp4 does not exist; give a video file'),
        (['--pictures', '/none'], '/none does not exist; give a folder of pictures'),
    ],
    ids=['two', 'rate', 'loop', 'sim time', 'preset', 'no video', 'no folder'],
)
def test_sources_that_cannot_be_used_are_refused_before_anything_starts(capsys, options, sentence):
    assert main(['robot', *options]) == 1
    assert sentence in capsys.readouterr().err


def test_the_end_of_a_clip_ends_the_robot_after_its_last_result_with_exit_code_zero(m3et, tmp_path):
    clip = write_clip(tmp_path / 'clip.mp4', fps=5)
    options = ('--model', 'tiny', '--namespace', '/clip', '--camera', '/clip/camera')
    result = m3et('robot', '--video', clip, *options, timeout=110)
    assert result.returncode == 0, result.stderr
    assert f'end of {clip}, images sent: 6' in result.stderr
    assert f'{clip} has ended and its last image is served; so the robot ends.' in result.stderr
    # Neither depth nor camera_info is missed in a clip.
    assert 'depth/image_raw' not in result.stderr and 'No camera_info' not in result.stderr


def test_a_camera_that_fails_ends_the_robot_with_its_sentence(m3et):
    result = m3et('robot', '--webcam', '987', '--model', 'tiny', '--namespace', '/blind', timeout=110)
    assert result.returncode == 1
    assert (
        '/dev/video987 does not exist' in result.stderr and 'camera ended by itself with exit code 1' in result.stderr
    )


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
