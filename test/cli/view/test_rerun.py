"""A real robot as a recording of Rerun."""

import threading

import pytest
from rrd_files import read_rrd

from m3et_ros.cli.view import rerun as live
from m3et_ros.cli.view.rerun_log import RobotLog
from m3et_ros.srv import AskQuestion

pytest.importorskip('rerun', reason='rerun-sdk is not installed (170 MB): pip install m3et_ros[rerun]')


def test_a_robot_is_recorded_until_it_is_stopped(graph, robot, tmp_path, monkeypatch, capsys):
    stopped, logged = threading.Event(), set()

    def noted(log, stream, message, original=RobotLog.message):
        original(log, stream, message)
        logged.add(stream)

    monkeypatch.setattr(RobotLog, 'message', noted)
    out = tmp_path / 'live.rrd'
    thread = threading.Thread(target=lambda: live.run_rerun(graph, stopped, save=out))
    thread.start()
    try:
        images = {'rgb', 'depth', 'info', 'completed', 'mask', 'labels', 'anticipation'}
        assert graph.node.wait(lambda: images <= logged, 60)

        def answered():
            graph.robot(robot).ask(AskQuestion.Request(question='What is this?', top_k=1), 60)
            return 'answer' in logged

        assert graph.node.wait(answered, 60)
    finally:
        stopped.set()
        thread.join(60)
    assert not thread.is_alive() and f'showing {robot}' in capsys.readouterr().err
    entities = read_rrd(out)
    root = robot.strip('/')
    for name in ('camera/rgb', 'camera/depth', 'camera/depth_completed', 'camera/filled', 'camera/segmentation'):
        assert f'/{root}/{name}' in entities
    assert entities[f'/{root}/camera']['Pinhole:resolution'] == [[[160, 120]]]
    assert entities[f'/{root}/answers']['TextLog:text'][0][0].startswith('What is this? ')
    assert f'/{root}/health/rates' in entities and f'/{root}/anticipation/confidence' in entities
    assert not [one for one in graph.node.subscriptions if one.topic_name.startswith('/cam/')]


def test_only_the_robots_that_were_named_are_shown(graph, robot, tmp_path, monkeypatch, capsys):
    stopped = threading.Event()

    def arranged(roots, original=live.blueprint):
        stopped.set()
        return original(roots)

    monkeypatch.setattr(live, 'blueprint', arranged)
    live.run_rerun(graph, stopped, namespaces=['/absent'], save=tmp_path / 'a.rrd')
    assert 'showing /absent.' in capsys.readouterr().err and (tmp_path / 'a.rrd').exists()
