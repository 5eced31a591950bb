"""m3et rerun: recordings with results as files of Rerun."""

import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from rclpy.serialization import serialize_message
from rrd_files import read_rrd
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from m3et_ros.cli.main import main
from m3et_ros.data.bags.writer import BagWriter
from m3et_ros.data.frame import Frame
from m3et_ros.msg import Answer
from m3et_ros.ros.convert import stamp_msg, to_image_msg

STAMP, STEP = 1_700_000_000_000_000_000, 100_000_000
FRAMES = 4
K = np.array([[50, 0, 32], [0, 50, 24], [0, 0, 1]], float)


@pytest.fixture(scope='module')
def bag(tmp_path_factory):
    """A recording of a camera."""
    path = tmp_path_factory.mktemp('rerun') / 'bag'
    with BagWriter(path) as writer:
        write_frames(writer, FRAMES)
    return path


@pytest.fixture(scope='module')
def bag_with_results(tmp_path_factory):
    """A recording of a camera, and of the results of the robot /one."""
    path = tmp_path_factory.mktemp('rerun') / 'results'
    with BagWriter(path) as writer:
        write_frames(writer, FRAMES)
        header = Header(stamp=stamp_msg(STAMP), frame_id='camera_color_optical_frame')
        overlay = to_image_msg(np.full((48, 64, 3), 7, np.uint8), 'rgb8', header)
        completed = to_image_msg(np.full((48, 64), 2, np.float32), '32FC1', header)
        answer = Answer(header=header, question='What?', text='a cup', confidence=0.5, answerable=True)
        for topic, message in (('segmentation/overlay', overlay), ('depth/image', completed), ('answer', answer)):
            kind = 'sensor_msgs/msg/Image' if isinstance(message, Image) else 'm3et_ros/msg/Answer'
            writer.write_serialized(f'/one/model/{topic}', kind, serialize_message(message), STAMP)
    return path


def write_frames(writer, count):
    for n in range(count):
        rgb, depth = np.full((48, 64, 3), 40 * n, np.uint8), np.full((48, 64), 1.5, np.float32)
        depth[:8] = np.nan
        writer.write_frame(Frame(rgb, depth, STAMP + n * STEP, frame_id='camera_color_optical_frame', K=K))


def test_without_rerun_one_sentence_says_how_to_install_it(bag, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, 'rerun', None)
    assert main(['rerun', str(bag), '-o', str(tmp_path / 'a.rrd')]) == 1
    assert "pip install 'm3et_ros[rerun]'" in capsys.readouterr().err and not list(tmp_path.iterdir())


class TestFiles:
    """Files are written where Rerun is installed."""

    @pytest.fixture(autouse=True)
    def _installed(self):
        pytest.importorskip('rerun', reason='rerun-sdk is not installed (170 MB): pip install m3et_ros[rerun]')

    def test_a_model_runs_over_a_recording_without_results(self, bag, tmp_path, capsys):
        out = tmp_path / 'a.rrd'
        words = ['rerun', str(bag), '-o', str(out), '--model', 'tiny', '--ask', 'What is this?', '--every', '2']
        assert main([*words, '--device', 'cpu']) == 0
        printed = capsys.readouterr()
        assert f'{out}: 2 frames with results of tiny' in printed.out and '100 %' in printed.err
        entities = read_rrd(out)
        for name in ('rgb', 'depth', 'depth_completed', 'segmentation'):
            assert entities[f'/robot/camera/{name}']['ros_time'][-2:] == [STAMP, STAMP + 2 * STEP]
        assert entities['/robot/camera']['Pinhole:resolution'] == [[[64, 48]]]
        assert len(entities['/robot/anticipation/confidence']['ros_time']) == 2
        assert entities['/robot/boxes']['ros_time'] == [STAMP, STAMP + 2 * STEP]
        assert entities['/robot/answers']['TextLog:text'][0][0].startswith('What is this? ')

    def test_results_of_a_recording_are_shown_as_they_are(self, bag_with_results, tmp_path, capsys):
        out = tmp_path / 'a.rrd'
        assert main(['rerun', str(bag_with_results), '-o', str(out)]) == 0
        assert f'{out}: 4 frames with the results that it holds' in capsys.readouterr().out
        entities = read_rrd(out)
        assert entities['/one/answers']['TextLog:text'] == [['What? a cup (0.50)']]
        assert entities['/one/camera/rgb']['ros_time'] == [STAMP + n * STEP for n in range(FRAMES)]
        filled = [bytes(one[0]) for one in entities['/one/camera/filled']['SegmentationImage:buffer'] if one]
        assert [np.frombuffer(one, np.uint8).reshape(48, 64).sum() for one in filled] == [8 * 64]
        assert entities['/one/camera']['Pinhole:resolution'] == [[[64, 48]]]

    def test_the_topics_may_be_named(self, bag, tmp_path, capsys):
        words = ['rerun', str(bag), '-o', str(tmp_path / 'a.rrd')]
        assert main([*words, '--rgb', '/no/colours']) == 1
        assert main([*words, '--depth', '/no/depth']) == 1
        printed = capsys.readouterr().err
        assert '/no/colours' in printed and '/no/depth' in printed and not list(tmp_path.iterdir())

    def test_an_interrupted_run_leaves_no_file(self, bag, tmp_path):
        """A signal comes while the model runs, in a process of its own."""
        code = (
            'import os, signal, sys\n'
            'from m3et_ros.cli.view import rerun_log\n'
            'logged = rerun_log.RobotLog.rgb\n'
            'def rgb(*arguments):\n'
            '    os.kill(os.getpid(), signal.SIGTERM)\n'
            '    logged(*arguments)\n'
            'rerun_log.RobotLog.rgb = rgb\n'
            'from m3et_ros.cli.main import main\n'
            'sys.exit(main())\n'
        )
        words = ['rerun', str(bag), '-o', str(tmp_path / 'a.rrd'), '--model', 'tiny']
        command = [sys.executable, '-c', code, *words]
        result = subprocess.run(command, capture_output=True, text=True, timeout=300, env=dict(os.environ))
        assert result.returncode == 128 + signal.SIGTERM, result.stderr
        assert 'nothing is written' in result.stderr and not list(tmp_path.iterdir())

    def test_every_option_is_given(self, every_option):
        every_option(['rerun', '-o', '--model', '--ask', '--every', '--device', '--rgb', '--depth'])
