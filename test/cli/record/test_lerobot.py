"""m3et record --lerobot: episodes of the simulated kitchen as one data set."""

import json
import os
import signal

import numpy as np
import pytest

from m3et_ros.cli.main import main
from m3et_ros.cli.record import lerobot
from m3et_ros.cli.record.episode import START_NS, RecordOptions
from m3et_ros.data.bags.frames import frames
from m3et_ros.data.bags.reader import BagReader
from m3et_ros.data.bags.writer import quaternion
from m3et_ros.data.lerobot.reader import LeRobotReader

pytest.importorskip('mujoco')
SMALL = ('--frames', '30', '--width', '48', '--height', '36', '--backend', 'raycast', '--seed', '5')


def test_episodes_are_those_of_the_bags(tmp_path, capsys):
    out = tmp_path / 'set'
    assert main(['record', '--lerobot', str(out), *SMALL, '--episodes', '2', '--images', 'png', '--json']) == 0
    document = json.loads(capsys.readouterr().out)
    data = LeRobotReader(out)
    assert document | {'bytes': 0, 'seconds': 0} == {
        'schema': 1,
        'path': str(out),
        'episodes': 2,
        'frames': 60,
        'complete': True,
        'bytes': 0,
        'seed': 5,
        'seconds': 0,
        'backend': 'raycast',
        'tasks': document['tasks'],
    }
    assert set(document['tasks']) == set(data.tasks.values()) and data.info.features[data.camera].dtype == 'image'
    assert main(['record', str(tmp_path / 'bag'), *SMALL]) == 0
    with BagReader(tmp_path / 'bag') as bag:
        for row, frame in zip(data.frames(data.episodes[0]), frames(bag), strict=True):
            assert row.frame.stamp_ns == frame.stamp_ns and np.array_equal(row.frame.rgb, frame.rgb)
            assert np.array_equal(row.frame.depth, frame.depth, equal_nan=True)
    assert data.episodes[1].facts['topics']['observation.state'][0] == '/camera/pose'


def test_the_task_is_the_action_under_way_and_the_state_the_pose():
    options = RecordOptions(width=32, height=24, frames=80)
    from m3et_ros.data.kitchen.sim.camera import Camera

    episode = lerobot.open_episode(options, 5)
    with Camera(episode, backend='raycast', shadows=False) as camera:
        seen = [(one, lerobot.frame_of(one)) for one in map(camera.observe, episode.run(options.frames))]
    for observation, row in seen[::13]:
        current = observation.state.current
        assert row.frame.instruction == (current.narration if current else '')
        assert row.frame.stamp_ns == START_NS + round(observation.stamp_s * 1e9)
        pose = [*observation.pose[:3, 3], *quaternion(observation.pose[:3, :3])]
        assert row.state == pytest.approx(pose, rel=1e-6)
    assert any(row.frame.instruction for _, row in seen)


def test_a_signal_ends_it_after_a_frame_and_the_data_set_is_whole(tmp_path, monkeypatch, capsys):
    real = lerobot.frame_of

    def first_then_signal(observation):
        os.kill(os.getpid(), signal.SIGINT)
        return real(observation)

    monkeypatch.setattr(lerobot, 'frame_of', first_then_signal)
    assert main(['record', '--lerobot', str(tmp_path / 'set'), *SMALL]) == 130
    assert '1 frames of 48x36 (stopped early: 30 were requested)' in capsys.readouterr().out
    assert LeRobotReader(tmp_path / 'set').info.frames == 1


@pytest.mark.parametrize(
    ('options', 'words'),
    [
        (('--lerobot', '--eqa'), 'are about bags'),
        (('--lerobot', '--compressed'), 'are for bags'),
        (('--lerobot', '--storage', 'sqlite3'), 'are for bags'),
        (('--images', 'png'), '--images goes with --lerobot'),
        (('--lerobot', '--fps', '2.5'), 'whole number'),
    ],
    ids=['eqa', 'compressed', 'storage', 'images', 'fps'],
)
def test_options_that_do_not_go_together_are_refused(tmp_path, capsys, options, words):
    assert main(['record', str(tmp_path / 'out'), *SMALL, *options]) == 1
    assert words in capsys.readouterr().err and not (tmp_path / 'out').exists()
