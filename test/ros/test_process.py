"""The environment before rclpy.init, and processes that end in order."""

import os
import signal
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from types import SimpleNamespace

import pytest

from m3et_ros.ros import process

NODE = """
import logging, sys, time, rclpy
from m3et_ros.data.errors import InputError
from m3et_ros.ros.process import run
from rcl_interfaces.msg import ParameterEvent
from rclpy.executors import SingleThreadedExecutor

def serve(node, stop):
    logging.getLogger('m3et_ros.runtime.part').warning('the weights are random')
    print('ready', flush=True)
    if 'damaged' in sys.argv:
        raise InputError('bag', 'the bag is cut off; record it again')
    while 'wait' in sys.argv and not stop():
        time.sleep(0.01)
    return 7

def make():
    if 'refuse' in sys.argv:
        raise InputError('parameter', 'parameter top_k is 0; give 1..50')
    if 'slow' in sys.argv:
        node = rclpy.create_node('slow')
        node.create_timer(0.01, lambda: (print('ready', flush=True), time.sleep(600)))
        return node
    if 'type' in sys.argv:
        return rclpy.create_node('typed').declare_parameter('', 1)
    if 'break' in sys.argv:
        raise RuntimeError('our own bug')
    node = rclpy.create_node('idle')
    print('ready', flush=True)
    if 'making' in sys.argv:
        for number in range(100):
            node.create_publisher(ParameterEvent, f'a{number}', 1)
            SingleThreadedExecutor().shutdown()
    return node

sys.exit(run(make, serve=serve) if 'serve' in sys.argv else run(make))
"""


def start(*words):
    return subprocess.Popen(
        [sys.executable, '-c', NODE, *words], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


@pytest.mark.parametrize('word', ['idle', 'making', 'slow'])
@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_process_in_every_phase(number, word):
    process = start(word)
    assert process.stdout.readline() == 'ready\n'
    process.send_signal(number)
    if number == signal.SIGINT:
        process.send_signal(number)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert 'Traceback' not in errors and 'Error' not in errors


@pytest.mark.parametrize(
    'words,sentence',
    [
        (['refuse'], 'top_k is 0; give 1..50'),
        (['type'], 'Invalid parameter name'),
        (['serve', 'damaged'], 'the bag is cut off; record it again'),
    ],
    ids=' '.join,
)
def test_refused_input_is_one_sentence_and_exit_code_1(words, sentence):
    process = start(*words)
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 1
    assert sentence in output + errors and 'Traceback' not in errors


def test_a_node_may_serve_in_its_own_way_and_choose_the_exit_code():
    process = start('serve')
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 7
    assert (output + errors).count('the weights are random') == 1 and '[WARN]' in output + errors


def test_a_node_that_serves_in_its_own_way_learns_of_a_signal():
    process = start('serve', 'wait')
    while process.stdout.readline() != 'ready\n':
        assert process.poll() is None
    process.terminate()
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 7 and 'interrupted' not in errors


@pytest.mark.parametrize('words', [['--params-file', '/nowhere.yaml'], ['--nonsense']])
def test_a_wrong_command_line_is_one_sentence_and_exit_code_1(words):
    process = start('--ros-args', *words)
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 1
    assert words[-1] in output + errors and 'Traceback' not in errors


def test_a_bug_is_not_hidden():
    process = start('break')
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 1 and 'our own bug' in errors


@pytest.fixture
def environment(monkeypatch):
    fresh = {}
    monkeypatch.setattr(os, 'environ', fresh)
    return fresh


def test_an_empty_environment_gets_profile_and_prefix(environment, monkeypatch):
    monkeypatch.setattr(process, 'PROFILES', (('fastdds.xml', 0),))
    sentence = process.prepare()
    assert environment['AMENT_PREFIX_PATH'] == sys.prefix
    for variable in process.PROFILE_VARIABLES:
        assert os.path.isfile(environment[variable]) and environment[variable] in sentence


@pytest.mark.parametrize('variable', process.PROFILE_VARIABLES)
def test_the_profile_of_the_user_wins(environment, variable):
    environment.update({variable: '/own.xml', 'AMENT_PREFIX_PATH': '/own'})
    assert '/own.xml' in process.prepare()
    environment.pop('PYTEST_CURRENT_TEST', None)
    assert environment == {variable: '/own.xml', 'AMENT_PREFIX_PATH': '/own'}


def test_a_small_shared_memory_gets_the_small_profile(environment, monkeypatch):
    monkeypatch.setattr(process, 'PROFILES', (('fastdds.xml', 1 << 60), ('fastdds_small.xml', 0)))
    assert 'MiB of /dev/shm are free' in process.prepare()
    assert environment['FASTDDS_DEFAULT_PROFILES_FILE'].endswith('fastdds_small.xml')


def test_too_little_shared_memory_is_reported_with_the_fix(environment, monkeypatch):
    monkeypatch.setattr(process, 'PROFILES', (('fastdds.xml', 1 << 60),))
    assert '--shm-size' in process.prepare()
    assert not set(process.PROFILE_VARIABLES) & set(environment)


@pytest.mark.parametrize(
    'free, words', [(100, 'fastdds.xml.'), (99, 'fastdds_small.xml, because only 0 MiB'), (20, 'small'), (19, '--shm')]
)
def test_a_profile_serves_from_exactly_its_room_on(environment, monkeypatch, free, words):
    monkeypatch.setattr(process, 'PROFILES', (('fastdds.xml', 100), ('fastdds_small.xml', 20)))
    monkeypatch.setattr(process.shutil, 'disk_usage', lambda path: SimpleNamespace(free=free))
    assert words in process.prepare()


@pytest.mark.parametrize('name,room', process.PROFILES)
def test_profiles_fit_the_room_they_ask_for(name, room):
    tree = ElementTree.parse(process.share('config', name))
    segment = next(int(e.text) for e in tree.iter() if e.tag.endswith('segment_size'))
    largest = next(int(e.text) for e in tree.iter() if e.tag.endswith('maxMessageSize'))
    assert 640 * 480 * 3 < largest < segment
    assert 3 * segment < room, 'camera, model and viewer'


def test_fast_dds_accepts_the_profile_and_reserves_its_segment():
    script = (
        'from m3et_ros.ros import process\n'
        "process.PROFILES = (('fastdds_small.xml', 0),)\n"
        'process.prepare(); import rclpy; rclpy.init(); node = rclpy.create_node("a")\n'
        'ranges = [line.split()[0].split("-") for line in open("/proc/self/maps") if "/dev/shm/fast" in line]\n'
        'print(max(int(end, 16) - int(start, 16) for start, end in ranges))\n'
        'node.destroy_node(); rclpy.shutdown()'
    )
    done = subprocess.run([sys.executable, '-c', script], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and 'Error' not in done.stderr, done.stderr
    assert int(done.stdout.split()[-1]) >= 4 * process.MIB


def test_share_searches_the_ament_prefix_and_names_the_folders(environment, monkeypatch, tmp_path):
    environment['AMENT_PREFIX_PATH'] = str(tmp_path)
    file = tmp_path / 'share' / 'm3et_ros' / 'config' / 'only_here.yaml'
    file.parent.mkdir(parents=True)
    file.touch()
    assert process.share('config', 'only_here.yaml') == file
    with pytest.raises(FileNotFoundError, match=str(tmp_path)):
        process.share('config', 'nowhere.yaml')


def test_a_parameter_that_is_not_utf_8_is_one_sentence(tmp_path):
    line = [sys.executable, '-m', 'm3et_ros.ros.replay_node', '--ros-args', '-p', b'path:=caf\xe9']
    done = subprocess.run(line, env=os.environ | {'HOME': str(tmp_path)}, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1 and 'Traceback' not in done.stderr
    assert r"the argument b'path:=caf\xe9' is not UTF-8; type it in UTF-8" in done.stderr
