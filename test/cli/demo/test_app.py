"""The whole robot for a few seconds: real processes on real DDS, and every option where it arrives."""

import json
import os
import signal
from pathlib import Path
from types import SimpleNamespace

import cv2
import pytest

from m3et_ros.cli.demo.app import DemoOutput, RobotModel, SimulatedCamera, check_alive, start_nodes
from m3et_ros.cli.demo.camera_and_robot import QUESTIONS
from m3et_ros.cli.main import main
from m3et_ros.cli.ros_names import camera_remaps

SMALL = ('--model', 'tiny', '--width', '96', '--height', '72', '--seconds', '2', '--rows', '2')


@pytest.fixture(scope='module')
def shown(m3et, tmp_path_factory):
    """A short demo for programs: its document, the lines for people beside it, and its folder."""
    folder = tmp_path_factory.mktemp('demo')
    result = m3et('demo', *SMALL, '--json', '--out', folder, timeout=100)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout), result.stderr, folder


def test_people_are_told_that_the_weights_are_random(shown):
    assert 'tiny has no trained weights yet: this is tiny-random-0' in shown[1]


def test_answers_come_with_their_evidence(shown):
    answers = [line for line in shown[1].splitlines() if 'confidence' in line]
    assert len(answers) == 4
    assert all('tiny-random-0' in line and 'ms old' in line for line in answers)
    assert shown[1].count('(in truth: ') == 2


def test_the_picture_is_written(shown):
    picture = cv2.imread(str(shown[2] / 'sheet.png'))
    assert picture.shape[1] == 1540 and picture.shape[0] > 900
    assert len(set(map(tuple, picture.reshape(-1, 3)[::7]))) > 500


def test_a_program_reads_numbers(shown):
    found = shown[0]
    assert found['model_id'] == 'tiny-random-0' and not found['trained']
    assert found['frames_out'] > 0 and 0 < found['age_s']['p50'] <= found['age_s']['p95']
    assert len(found['moments']) == 2
    assert all(len(moment['answers']) == 2 and set(moment['truth']) == {'now', 'next'} for moment in found['moments'])
    assert any({'now', 'next'} < set(moment['anticipation'] or ()) for moment in found['moments'])


def test_a_node_that_dies_is_quoted(m3et, tmp_path, monkeypatch):
    (tmp_path / 'mujoco.py').write_text('"""No simulator."""\n')
    monkeypatch.setenv('PYTHONPATH', str(tmp_path))
    result = m3et('demo', *SMALL, timeout=100)
    assert result.returncode == 1 and 'Traceback' not in result.stderr
    assert 'camera ended by itself with exit code 1; its last lines:' in result.stderr


@pytest.mark.parametrize(('number', 'code'), [(None, 0), (signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_demo_that_is_cut_short_ends_with_the_code_of_the_signal(border, monkeypatch, number, code):
    border('m3et_ros.cli.demo.app.start_nodes', [])
    monkeypatch.setattr(DemoOutput, 'print_summary', lambda self, summary: None)

    def run(children, stopped, *_):
        if number:
            os.kill(os.getpid(), number)
        return SimpleNamespace(summary=lambda: {'moments': []})

    monkeypatch.setattr('m3et_ros.cli.demo.app._run', run)
    assert main(['demo', '--no-sheet']) == code


def test_every_option_arrives(border, reach, every_option, monkeypatch, tmp_path):
    monkeypatch.setattr('os.getpid', lambda: 42)
    started = border('m3et_ros.cli.demo.app.start_nodes', [])
    ran = border('m3et_ros.cli.demo.app._run', last=True)
    line = ['demo', '--seconds', 3, '--seed', 9, '--out', tmp_path, '--model', 'tiny', '--device', 'cuda:1']
    line += ['--rate', 5, '--width', 96, '--height', 72, '--rows', 2]
    reach(*line)
    assert started == [
        {
            'namespace': '/m3et_demo_42',
            'prefix': '/m3et_demo_42/camera',
            'seed': 9,
            'robot': RobotModel(model='tiny', device='cuda:1'),
            'camera': SimulatedCamera(rate=5.0, width=96, height=72),
        }
    ]
    (call,) = ran
    assert (call['seconds'], call['rows'], call['children']) == (3.0, 2, [])
    assert (call['namespace'], call['prefix']) == ('/m3et_demo_42', '/m3et_demo_42/camera')
    every_option(line, ['--sheet', '--json'])


def test_every_option_arrives_at_the_nodes(border):
    started = border('m3et_ros.cli.demo.app.Child')
    start_nodes('/d', '/d/camera', 9, RobotModel(model='tiny', device='cuda:1'), SimulatedCamera(rate=5.0, width=96))
    camera, model = started
    assert (camera['name'], camera['module'], camera['show']) == ('camera', 'm3et_ros.ros.camera_sim', False)
    assert camera['arguments'] == [
        '--ros-args',
        *('-r', '__ns:=/d/camera'),
        *('-p', 'seed:=9'),
        *('-p', 'rate_hz:=5.0'),
        *('-p', 'width:=96'),
        *('-p', 'height:=480'),
        *('-p', 'depth_noise:=true'),
        *('-p', f'questions:={json.dumps("|".join(question for question, _ in QUESTIONS))}'),
    ]
    assert (model['name'], model['module'], model['show']) == ('model', 'm3et_ros.ros.model_node', False)
    assert model['arguments'][:3] == ['--ros-args', '-r', '__ns:=/d'] and model['arguments'][5:] == [
        *('-p', 'autostart:=true'),
        *('-p', 'model:="tiny"'),
        *('-p', 'device:="cuda:1"'),
        *('-p', 'seed:=9'),
        *(word for rule in camera_remaps('/d/camera') for word in ('-r', rule)),
    ]


@pytest.mark.parametrize(('flag', 'written'), [('--sheet', True), ('--no-sheet', False)])
def test_the_picture_goes_to_the_folder(border, capsys, tmp_path, flag, written):
    drawn = []

    class Finished:
        def summary(self):
            return {'moments': ['one'], 'model_id': 'm'}

        def draw(self, path, summary):
            drawn.append(path)

    border('m3et_ros.cli.demo.app.start_nodes', [])
    border('m3et_ros.cli.demo.app._run', Finished())
    assert main(['demo', '--out', str(tmp_path), flag, '--json', '--seed', '9', '--rate', '5']) == 0
    document = json.loads(capsys.readouterr().out)
    assert drawn == ([Path(tmp_path / 'sheet.png')] if written else [])
    assert document | {'sheet': ''} == {
        'schema': 1,
        'moments': ['one'],
        'model_id': 'm',
        'seed': 9,
        'fps_asked': 5.0,
        'sheet': '',
    }
    assert ('sheet' in document) == written


@pytest.mark.parametrize(('fps', 'slow'), [(8.0, False), (7.9, True)])
def test_a_slow_camera_is_reported(capsys, fps, slow):
    summary = {
        'age_s': {'p50': 0.125, 'p95': None},
        'drops': {'stamp_back': 2},
        'fps_in': fps,
        'fps_out': 7.5,
        'fps_asked': 10.0,
        'sheet': 'out/sheet.png',
    }
    DemoOutput(as_json=False).print_summary(summary)
    printed = capsys.readouterr().out
    assert ('10 were requested; the kitchen renders no faster' in printed) == slow
    assert 'age of a result 125 ms (p95 unknown); dropped by the model node: 2 stamp_back.' in printed
    assert printed.endswith('Picture: out/sheet.png\n')


def test_events_are_out_of_the_way_of_json(capsys):
    DemoOutput(as_json=True).print_event('now')
    DemoOutput(as_json=False).print_event('then')
    printed = capsys.readouterr()
    assert (printed.err, printed.out) == ('now\n', 'then\n')


def test_the_first_child_that_ended_is_the_failure():
    class Ended:
        def __init__(self, code):
            self.code = code

        def failure(self):
            return KeyError(self.code)

    check_alive([Ended(None)])
    with pytest.raises(KeyError, match='3'):
        check_alive([Ended(None), Ended(3), Ended(4)])
