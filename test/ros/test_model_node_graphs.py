"""The node under runtime auto: active with torch at once, then OpenVINO once a child has built its graphs."""

import itertools
from contextlib import suppress
from dataclasses import replace

import psutil
import pytest

from m3et_ros.data.checkpoints.m3et import random_checkpoint, save_checkpoint
from m3et_ros.data.kitchen.labels import corpus, kitchen_labels
from m3et_ros.data.tokenizer import Tokenizer
from m3et_ros.models.m3et.sizes import TINY
from m3et_ros.runtime import backends
from m3et_ros.runtime.backends import background
from m3et_ros.srv import LoadModel

pytestmark = [
    pytest.mark.skipif(bool(backends.missing('openvino')), reason=backends.missing('openvino')),
    pytest.mark.timeout(900),
]  # exporting takes seconds, on a machine at work minutes


@pytest.fixture
def small(tmp_path, monkeypatch):
    """Folder of a model of two layers, with a cache of its own and nothing that says which runtime to take."""
    monkeypatch.setenv('M3ET_CACHE', str(tmp_path / 'cache'))
    monkeypatch.delenv('M3ET_RUNTIME')
    monkeypatch.setattr(background, 'NICE', 0)  # a child that gives way would never end on a machine at work
    config = replace(TINY, name='small', schedule='MT', stages=1, tasks=('depth', 'text'), text_length=4)
    tokenizer = Tokenizer.train(corpus(), vocabulary=config.vocabulary)
    save_checkpoint(tmp_path / 'small', random_checkpoint(config, tokenizer, kitchen_labels()), card='')
    return str(tmp_path / 'small')


def children():
    found = []
    for child in psutil.Process().children():
        with suppress(psutil.Error):  # it has just ended
            if background.BUILDER in child.cmdline():
                found.append(child)
    return found


@pytest.fixture
def started(ros, robot_here, small):
    """Start the node for a camera without depth, which halves the number of graphs, and wait until it is active."""

    def start():
        robot = robot_here('robot', 'depth_transport:=none', model=small)
        ros.until(lambda: robot.rgb.get_subscription_count() and robot.asker.service_is_ready(), 60)
        return robot

    return start


def test_the_node_goes_active_with_torch_and_openvino_takes_over(ros, started):
    lines = []
    ros.read_log(lambda message: lines.append(message.msg))
    robot = started()

    stamps = itertools.count(100)

    def taken():
        robot.show(next(stamps))
        return robot.diagnosis().get('runtime', '').startswith('openvino')

    robot.ros.until(lambda: taken() or robot.pause(), 600)
    ros.until(lambda: any('takes over from torch' in line for line in lines))
    assert any(line.startswith('Active with') and 'by torch (while openvino is' in line for line in lines)
    assert any('graph 1 of 4' in line for line in lines)
    assert robot.count('runtime_fallback') == 0 and robot.count('internal_error') == 0
    assert children() == []


def test_the_child_ends_with_the_model_and_with_the_node(ros, started, small):
    robot = started()
    (first,) = ros.until(children, 60)
    first.suspend()  # so that its graphs are not there before the second model comes
    load = robot.node.create_client(LoadModel, '/robot/model/load_model')
    ros.until(load.service_is_ready, 60)
    assert ros.until(load.call_async(LoadModel.Request(model=small)).result, 60).success
    ros.until(lambda: not first.is_running(), 60)
    (second,) = ros.until(children, 60)
    second.suspend()
    assert second.pid != first.pid
    robot.stop()
    assert not second.is_running()


def test_a_failed_build_is_counted_once(started, monkeypatch):
    monkeypatch.setattr(background, 'BUILDER', 'm3et_ros.none')
    robot = started()
    robot.ros.until(lambda: robot.count('runtime_fallback'), 60)
    assert robot.diagnosis()['runtime'].startswith('torch (openvino cannot serve (its build ended with code 1')
    published = len(robot.received['/diagnostics'])
    robot.ros.until(lambda: len(robot.received['/diagnostics']) > published + 1, 60)
    assert robot.count('runtime_fallback') == 1
