"""The environment that ROS does not survive: each variable is one sentence, and processes go on where they can."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from m3et_ros.data.errors import InputError
from m3et_ros.ros import environment
from m3et_ros.ros.environment import check_domain, drop_middleware, foreign_shared_memory, settle


@pytest.fixture(autouse=True)
def variables(monkeypatch, tmp_path):
    """An environment of its own, in which nothing is wrong."""
    fresh = {'HOME': str(tmp_path), 'AMENT_PREFIX_PATH': ''}
    monkeypatch.setattr(os, 'environ', fresh)
    monkeypatch.setattr(tempfile, 'tempdir', str(tmp_path / 'temporary'))
    (tmp_path / 'temporary').mkdir()
    settle.cache_clear()
    drop_middleware.cache_clear()
    yield fresh
    settle.cache_clear()
    drop_middleware.cache_clear()


def installed(folder, *names):
    (folder / 'lib').mkdir(parents=True)
    for name in names:
        (folder / 'lib' / f'lib{name}.so').touch()
    return str(folder)


def test_a_sound_environment_is_left_alone(variables):
    before = dict(variables)
    assert settle() == () and variables == before
    check_domain()


def test_a_middleware_that_is_not_installed_is_dropped_and_told(variables, monkeypatch, tmp_path):
    monkeypatch.setattr(sys, 'prefix', '/nowhere')
    own = ('rmw_fastrtps_cpp', 'rmw_fastrtps_shared_cpp', 'rmw_dds_common__rosidl_typesupport_cpp')
    variables |= {'AMENT_PREFIX_PATH': installed(tmp_path / 'ros', *own), 'RMW_IMPLEMENTATION': 'rmw_cyclonedds_cpp'}
    (trouble,) = settle()
    assert 'RMW_IMPLEMENTATION' not in variables
    assert 'is rmw_cyclonedds_cpp, which is not installed here, so rmw_fastrtps_cpp is used' in str(trouble)
    assert str(trouble).endswith('unset the variable, or start every node with the same middleware.')


@pytest.mark.parametrize('place', ['AMENT_PREFIX_PATH', 'prefix', 'LD_LIBRARY_PATH'])
def test_an_installed_middleware_is_used(variables, monkeypatch, tmp_path, place):
    root = installed(tmp_path / 'ros', 'rmw_cyclonedds_cpp')
    monkeypatch.setattr(sys, 'prefix', root if place == 'prefix' else '/nowhere')
    if place != 'prefix':
        variables[place] = f'/other:{root}/lib' if place == 'LD_LIBRARY_PATH' else f'/other:{root}'
    variables['RMW_IMPLEMENTATION'] = 'rmw_cyclonedds_cpp'
    assert settle() == () and variables['RMW_IMPLEMENTATION'] == 'rmw_cyclonedds_cpp'


@pytest.mark.parametrize('home', [None, '/proc/nohome'])
def test_log_files_go_to_the_temporary_files_without_a_home(variables, tmp_path, home):
    del variables['HOME']
    if home:
        variables['HOME'] = home
    (trouble,) = settle()
    folder = Path(variables['ROS_LOG_DIR'])
    assert folder == tmp_path / 'temporary' / f'm3et-log-{os.getuid()}'
    assert folder.is_dir() and folder.stat().st_mode & 0o777 == 0o700 and str(folder) in trouble.what
    assert ('HOME is not set' if home is None else '/proc/nohome/.ros/log cannot be written') in trouble.what


def test_another_user_cannot_lay_out_the_log_folder(variables, tmp_path):
    del variables['HOME']
    (tmp_path / 'elsewhere').mkdir()
    (tmp_path / 'temporary' / f'm3et-log-{os.getuid()}').symlink_to(tmp_path / 'elsewhere')
    settle()
    folder = Path(variables['ROS_LOG_DIR'])
    assert not folder.is_symlink() and folder.parent == tmp_path / 'temporary' and folder.name.startswith('m3et-log-')


@pytest.mark.parametrize('name', ['ROS_LOG_DIR', 'ROS_HOME'])
def test_a_log_folder_of_the_user_needs_no_home(variables, tmp_path, name):
    del variables['HOME']
    variables[name] = str(tmp_path / 'logs')
    assert settle() == () and 'temporary' not in variables.get('ROS_LOG_DIR', '')


@pytest.mark.parametrize('value', ['SUBNET', 'LOCALHOST', 'SYSTEM_DEFAULT', ''])
def test_ranges_in_which_nodes_find_each_other_are_right(variables, value):
    variables['ROS_AUTOMATIC_DISCOVERY_RANGE'] = value
    assert settle() == ()


@pytest.mark.parametrize(('value', 'words'), [('OFF', 'no node finds another one'), ('near', 'is near, which is no')])
def test_discovery_that_is_off_is_told(variables, value, words):
    variables['ROS_AUTOMATIC_DISCOVERY_RANGE'] = value
    (trouble,) = settle()
    assert words in trouble.what and 'SUBNET' in trouble.fix
    assert settle() == (trouble,)


@pytest.mark.parametrize('text', ['abc', '300', '233', '-1', '1.5', ' 7', '٣', '0x10'])
def test_a_domain_that_is_none_is_refused(variables, text):
    variables['ROS_DOMAIN_ID'] = text
    with pytest.raises(InputError, match='a domain is a whole number from 0 to 232; correct the variable'):
        check_domain()


@pytest.mark.parametrize('text', ['', '0', '7', '232'])
def test_domains_are_accepted(variables, text):
    variables['ROS_DOMAIN_ID'] = text
    check_domain()


def test_shared_memory_of_another_user_is_told_with_the_profile(monkeypatch, tmp_path):
    monkeypatch.setattr(environment, 'SHARED_MEMORY', tmp_path)
    assert foreign_shared_memory() is None
    (tmp_path / 'fastrtps_1').touch()
    (tmp_path / 'other').touch()
    assert foreign_shared_memory() is None
    monkeypatch.setattr(os, 'getuid', lambda: 12345)
    monkeypatch.setattr(environment, '_user', {12345: 'somebody', tmp_path.stat().st_uid: 'root'}.__getitem__)
    trouble = foreign_shared_memory()
    assert '(root) have shared memory' in trouble.what and 'somebody and they cannot open' in trouble.what
    assert 'config/fastdds_udp.xml' in trouble.fix


def test_users_without_a_name_have_a_number(monkeypatch):
    assert environment._user(0) == 'root'
    monkeypatch.setattr(environment.pwd, 'getpwuid', {}.__getitem__)
    assert environment._user(4711) == 'user 4711'


def child(home, **changes):
    line = [sys.executable, '-m', 'm3et_ros.cli.main', 'ask', 'Is there a cup?', '--timeout', '0.2']
    return subprocess.run(line, env={'HOME': home} | changes, capture_output=True, text=True, timeout=120)


def test_a_question_to_a_robot_survives_a_foreign_middleware(tmp_path):
    done = child(str(tmp_path), RMW_IMPLEMENTATION='rmw_nosuch_cpp', ROS_DOMAIN_ID='97')
    lines = done.stderr.splitlines()
    assert done.returncode == 1 and len(lines) == 2, done.stderr
    assert lines[0].startswith('m3et: RMW_IMPLEMENTATION is rmw_nosuch_cpp, which is not installed here')
    assert lines[1].startswith('m3et: No model node answers in namespace /m3et on ROS domain 97')


@pytest.mark.parametrize(
    'words',
    [
        ['-m', 'm3et_ros.ros.model_node'],
        ['-c', 'import sys; from m3et_ros.ros.camera_sim import main; sys.exit(main())'],
        ['-c', 'import sys; from m3et_ros.ros.replay_node import main; sys.exit(main())'],
    ],
)
def test_a_node_that_is_started_by_itself_survives_a_foreign_middleware(tmp_path, words):
    """Unknown arguments end it early; rcl would have ended it with code 102 before they were read."""
    done = subprocess.run(
        [sys.executable, *words, '--ros-args', '--nonsense'],
        env={'HOME': str(tmp_path), 'RMW_IMPLEMENTATION': 'rmw_nosuch_cpp'},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 1 and 'unknown arguments' in done.stderr and 'Traceback' not in done.stderr, done.stderr


def test_a_node_logs_that_the_middleware_was_replaced(tmp_path):
    script = 'import m3et_ros.ros.process as p\np._init("ready", [])\n'
    done = subprocess.run(
        [sys.executable, '-c', script],
        env={'HOME': str(tmp_path), 'RMW_IMPLEMENTATION': 'rmw_nosuch_cpp', 'ROS_DOMAIN_ID': '97'},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert 'RMW_IMPLEMENTATION is rmw_nosuch_cpp, which is not installed here' in done.stderr, done.stderr


def test_a_question_in_no_domain_is_one_sentence(tmp_path):
    done = child(str(tmp_path), ROS_DOMAIN_ID='abc')
    assert done.returncode == 1 and done.stdout == ''
    assert done.stderr.startswith("m3et: ROS_DOMAIN_ID is 'abc'") and done.stderr.count('\n') == 1


def test_fast_dds_accepts_the_profile_without_shared_memory(tmp_path):
    profile = str(Path(__file__).parents[2] / 'config' / 'fastdds_udp.xml')
    script = (
        'import os, rclpy; rclpy.init(); node = rclpy.create_node("a")\n'
        'print(sum("/dev/shm/fastrtps" in line for line in open("/proc/self/maps")))\n'
        'node.destroy_node(); rclpy.shutdown()'
    )
    names = ('FASTRTPS_DEFAULT_PROFILES_FILE', 'FASTDDS_DEFAULT_PROFILES_FILE')
    done = subprocess.run(
        [sys.executable, '-c', script],
        env={'HOME': str(tmp_path), 'AMENT_PREFIX_PATH': sys.prefix} | dict.fromkeys(names, profile),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0 and 'Error' not in done.stderr and done.stdout.split() == ['0'], done.stderr


def test_a_lock_of_shared_memory_that_cannot_be_listed_is_no_trouble(monkeypatch):
    def refuse(pattern):
        raise PermissionError(pattern)

    monkeypatch.setattr(environment, 'SHARED_MEMORY', SimpleNamespace(glob=refuse))
    assert foreign_shared_memory() is None
