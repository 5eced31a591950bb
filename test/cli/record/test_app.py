"""m3et record: one episode as a bag, the same for the same seed, and what is refused."""

import json
import os
import signal
from pathlib import Path

import pytest

from m3et_ros.cli.main import main
from m3et_ros.cli.record.episode import RecordOptions, record_episode
from m3et_ros.cli.record.questions import QuestionOptions
from m3et_ros.cli.replay.app import read_contents
from m3et_ros.data.bags.reader import BagReader

SMALL = ('--width', '64', '--height', '48', '--frames', '4')
COLOUR = '/camera/camera/color/image_raw'


@pytest.fixture(scope='module')
def bag(tmp_path_factory, m3et_json):
    """A recording of four frames and the document of the command."""
    path = tmp_path_factory.mktemp('record') / 'bag'
    return path, m3et_json('record', path, *SMALL)


def messages(path, topic=None):
    with BagReader(path) as reader:
        return [(m.topic, m.stamp_ns, m.raw) for m in reader.messages([topic] if topic else None)]


def test_a_recording_holds_every_topic_of_the_camera(bag):
    path, document = bag
    assert document['frames'] == 4 and document['complete'] and document['bytes'] > 4 * 64 * 48 * 5
    contents = read_contents(path)
    assert {name: topic['messages'] for name, topic in contents['topics'].items()} == {
        COLOUR: 4,
        '/camera/camera/aligned_depth_to_color/image_raw': 4,
        '/camera/camera/color/camera_info': 4,
        '/camera/pose': 4,
        '/episode/segmentation': 4,
        '/episode/labels': 1,
    }
    assert contents['seconds'] == pytest.approx(0.3)


def test_the_same_seed_writes_the_same_messages(bag, tmp_path, capsys):
    assert main(['record', str(tmp_path / 'again'), *SMALL]) == 0
    assert messages(tmp_path / 'again') == messages(bag[0])
    assert main(['record', str(tmp_path / 'other'), *SMALL, '--seed', '1', '--storage', 'sqlite3', '--compressed']) == 0
    assert list((tmp_path / 'other').glob('*.db3'))
    assert f'{COLOUR}/compressed' in read_contents(tmp_path / 'other')['topics']
    assert 'Play it: m3et replay' in capsys.readouterr().out


@pytest.mark.parametrize(('number', 'code'), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_recording_that_is_cut_short_keeps_its_frames_and_says_so_by_its_exit_code(
    tmp_path, monkeypatch, capsys, number, code
):
    def cut_short(options, episode, out, stopped):
        os.kill(os.getpid(), number)
        return record_episode(options, episode, out, stopped)

    monkeypatch.setattr('m3et_ros.cli.record.app.record_episode', cut_short)
    assert main(['record', str(tmp_path / 'bag'), *SMALL]) == code
    assert '1 frames of 64x48 (stopped early: 4 were requested)' in capsys.readouterr().out
    assert len(messages(tmp_path / 'bag', COLOUR)) == 1


def test_a_recording_is_never_overwritten(bag, capsys):
    assert main(['record', str(bag[0]), *SMALL]) == 1
    assert 'exists already' in capsys.readouterr().err


OPTIONS = (
    *('--seed', '5'),
    *('--frames', '7'),
    *('--fps', '2.5'),
    *('--width', '48'),
    *('--height', '36'),
    *('--storage', 'sqlite3'),
    '--compressed',
    *('--backend', 'raycast'),
)
GIVEN = RecordOptions(
    seed=5, frames=7, fps=2.5, width=48, height=36, storage='sqlite3', compressed=True, backend='raycast'
)


@pytest.mark.parametrize('kind', ['eqa', 'vqa'])
def test_every_option_arrives_at_the_recording_of_questions(border, every_option, kind):
    called = border(f'm3et_ros.cli.record.app.record_{kind}')
    line = ['record', 'kitchens', *OPTIONS, f'--{kind}', '--questions', '11', '--episodes', '3', '--json']
    assert main(line) == 0
    asked = QuestionOptions(**{kind: True}, questions=11, episodes=3)
    assert called == [{'out': Path('kitchens'), 'options': GIVEN, 'asked': asked, 'as_json': True}]
    every_option(line, ['--eqa', '--vqa', '--lerobot', '--images', '--live', '--camera', '--topic'])


def test_every_option_arrives_at_the_data_set(border):
    called = border('m3et_ros.cli.record.app.record_lerobot')
    assert main(['record', '--lerobot', 'set', *OPTIONS, '--episodes', '3', '--images', 'small', '--json']) == 0
    assert called == [{'out': Path('set'), 'options': GIVEN, 'episodes': 3, 'images': 'small', 'as_json': True}]


def test_every_option_arrives_in_the_recording(tmp_path, capsys):
    pytest.importorskip('mujoco')
    assert main(['record', str(tmp_path / 'bag'), *OPTIONS, '--json']) == 0
    document = json.loads(capsys.readouterr().out)
    size = sum(file.stat().st_size for file in (tmp_path / 'bag').iterdir())
    assert document | {'seconds': 0, 'actions': []} == {
        'schema': 1,
        'path': str(tmp_path / 'bag'),
        'frames': 7,
        'complete': True,
        'bytes': size,
        'seed': 5,
        'seconds': 0,
        'backend': 'raycast',
        'actions': [],
    }
    assert main(['record', str(tmp_path / 'other'), *OPTIONS, '--seed', '6', '--json']) == 0
    assert messages(tmp_path / 'bag') != messages(tmp_path / 'other')


def test_for_people_the_size_and_the_next_command_are_printed(tmp_path, capsys):
    pytest.importorskip('mujoco')
    assert main(['record', str(tmp_path / 'bag'), *OPTIONS]) == 0
    printed = capsys.readouterr().out
    assert '7 frames of 48x36, ' in printed and 'rendered with raycast' in printed and 'stopped early' not in printed
    assert printed.endswith(f'Play it: m3et replay {tmp_path / "bag"}\n')
