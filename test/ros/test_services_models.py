"""Loading a model and the services of the memory, as a client meets them."""

import threading
from dataclasses import replace
from functools import partial

import pytest
from service_bench import Bench
from std_srvs.srv import Trigger

from m3et_ros.ros.model_node import ModelNode
from m3et_ros.srv import LoadModel


@pytest.fixture
def bench(ros):
    return partial(Bench, ros)


def test_every_field_of_the_reply_to_load_model(bench):
    bench = bench(seed=4).activate()
    refused = bench.call('load_model', model='/no/such/folder')
    assert (refused.success, refused.model_id) == (False, '') and '/no/such/folder' in refused.message
    assert bench.node.session.engine.model_id == 'tiny-random-4'
    loaded = bench.call('load_model', model='tiny')
    assert loaded == LoadModel.Response(success=True, message='', model_id='tiny-random-4')
    assert bench.node.session.newest is None


def test_the_newest_frame_is_there_after_another_model_was_loaded(bench):
    bench = bench().activate().observe(1, 7)
    old = bench.node.session
    assert bench.call('load_model', model='tiny').success
    session = bench.node.session
    assert session is not old and session.newest.frame is old.newest.frame and session.memory.frames == 1
    answer = bench.call('ask', question='what is this?', scope='episode').answer
    assert answer.header.stamp.nanosec == 7


def test_a_second_model_is_refused_while_one_is_loaded_and_the_old_one_answers(bench, monkeypatch):
    bench, gate, load = bench().activate().observe(1), threading.Event(), ModelNode._load

    def slowly(self, name):
        gate.wait(60)
        return load(self, name)

    monkeypatch.setattr(ModelNode, '_load', slowly)
    first = bench.send('load_model', model='tiny')
    second = bench.call('load_model', model='tiny')
    assert not second.success and second.message.startswith('Another model is being loaded')
    assert bench.refusals() == {'load_busy': 1}
    assert bench.call('ask', question='what is this?').success and not first.done()
    gate.set()
    assert bench.ros.until(first.result).success
    assert bench.call('load_model', model='tiny').success


def test_a_model_that_is_ready_after_the_node_was_deactivated_is_dropped(bench, monkeypatch):
    bench, gate, load = bench().activate(), threading.Event(), ModelNode._load

    def slowly(self, name):
        gate.wait(60)
        return load(self, name)

    monkeypatch.setattr(ModelNode, '_load', slowly)
    old, loading = bench.node.session, bench.send('load_model', model='tiny')
    bench.ros.until(lambda: not bench.call('load_model', model='tiny').success)
    bench.node.trigger_deactivate()
    gate.set()
    response = bench.ros.until(loading.result)
    assert not response.success and 'deactivated' in response.message and bench.node.session is old


class Memory:
    """Stands in for the memory of a trained model and records the paths it gets."""

    frames = 7

    def __init__(self):
        self.paths = []

    def save(self, path):
        self.paths.append(('save', str(path)))

    def restore(self, path):
        self.paths.append(('restore', str(path)))


def test_memory_is_saved_to_and_restored_from_the_file_of_the_parameter(bench, monkeypatch):
    monkeypatch.setenv('HOME', '/home/of_the_robot')
    bench = bench(memory_file='~/one.safetensors').activate()
    memory = bench.node.session.memory = Memory()
    path = '/home/of_the_robot/one.safetensors'
    saved = Trigger.Response(success=True, message=f'7 frames of the episode are remembered in {path}.')
    assert bench.call('save_memory') == saved
    bench.node.settings = replace(bench.node.settings, memory_file='/two')
    restored = Trigger.Response(success=True, message='The episode goes on from /two, after 7 frames.')
    assert bench.call('restore_memory') == restored
    assert memory.paths == [('save', path), ('restore', '/two')]
    bench.node.settings = replace(bench.node.settings, memory_file='')
    for name in ('save_memory', 'restore_memory'):
        response = bench.call(name)
        assert not response.success and response.message.startswith('The parameter memory_file is empty')
    assert bench.refusals() == {'memory_file': 2}


def test_a_new_episode_begins_without_the_old_frames(bench):
    bench = bench().activate().observe(1, 2)
    assert bench.call('reset_memory') == Trigger.Response(success=True, message='A new episode begins.')
    message = bench.call('ask', question='what?', scope='episode').message
    topic = bench.node.resolve_topic_name('rgb/image_raw')
    assert message == f'No image has arrived yet; check the camera topic {topic} or send an image along.'
    bench.observe(3)
    assert bench.call('ask', question='what?', scope='episode').answer.frames_used == 1
