"""m3et convert: recordings to LeRobot data sets and back on the command line."""

import json
import resource
from pathlib import Path

import lerobot_sets
import pytest

from m3et_ros.cli.main import main
from m3et_ros.data.lerobot.from_bag import ConvertedTopics
from m3et_ros.data.lerobot.reader import LeRobotReader


@pytest.fixture(scope='module')
def bag(tmp_path_factory):
    return lerobot_sets.write_recording(tmp_path_factory.mktemp('convert') / 'bag')


@pytest.fixture(scope='module')
def data(bag):
    out = bag.with_name('set')
    assert main(['convert', 'bag', str(bag), str(out)]) == 0
    return out


def test_there_and_back_as_json(bag, tmp_path, capsys):
    there, back = tmp_path / 'set', tmp_path / 'back'
    assert main(['convert', 'bag', str(bag), str(there), '--json']) == 0
    document = json.loads(capsys.readouterr().out)
    size = sum(file.stat().st_size for file in there.rglob('*') if file.is_file())
    assert document | {'deviation_s': 0} == {
        'schema': 1,
        'path': str(there),
        'bytes': size,
        'frames': 8,
        'episodes': 1,
        'fps': 10,
        'tasks': ['', 'pick the cup', 'pour it'],
        'deviation_s': 0,
        'notes': [],
    }
    assert main(['convert', 'lerobot', str(there), str(back), '--json']) == 0
    assert json.loads(capsys.readouterr().out) == {
        'schema': 1,
        'bags': [str(back)],
        'frames': 8,
        'repeated': 0,
        'notes': [],
    }


def test_a_path_alone_shows_what_it_is(bag, tmp_path, capsys):
    assert main(['convert', str(bag), str(tmp_path / 'set')]) == 0
    assert 'm3et train pretrain --data lerobot:' in capsys.readouterr().out
    assert main(['convert', str(tmp_path / 'set'), str(tmp_path / 'back')]) == 0
    assert f'm3et replay {tmp_path / "back"}' in capsys.readouterr().out
    assert main(['convert', 'nowhere', str(tmp_path / 'other')]) == 2
    assert main(['convert', 'bag', 'nowhere', str(tmp_path / 'other')]) == 1
    assert 'there is no bag at nowhere' in capsys.readouterr().err


def test_every_option_arrives_at_the_data_set(border, reach, every_option):
    called = border('m3et_ros.data.lerobot.from_bag.convert_bags', last=True)
    line = ['convert', 'bag', 'one', 'two', 'out', '--rgb', '/rgb', '--depth', '/d', '--instruction', '/i', '--state']
    line += ['/s', '--action', '/a', '--fps', '7', '--images', 'png', '--json']
    reach(*line)
    (call,) = called
    assert call.pop('track') and call == {
        'bags': [Path('one'), Path('two')],
        'out': Path('out'),
        'topics': ConvertedTopics('/rgb', '/d', '/i', '/s', '/a'),
        'fps': 7,
        'images': 'png',
    }
    every_option(line)


def test_every_option_arrives_at_the_recordings(data, border, reach, every_option):
    called = border('m3et_ros.data.lerobot.to_bag.convert_episodes', last=True)
    camera = 'observation.images.camera'
    line = ['convert', 'lerobot', data, 'out', '--episode', '0', '--episode', '2', '--camera', camera, '--json']
    reach(*line)
    (call,) = called
    assert call.pop('track') and call.pop('data').camera == camera
    assert call == {'out': Path('out'), 'episodes': [0, 2]}
    every_option(line)
    assert main(['convert', 'lerobot', str(data), 'out', '--camera', 'other']) == 1


def test_what_was_there_before_stays(bag, data, capsys):
    assert main(['convert', 'bag', str(bag), str(data)]) == 1
    assert 'exists already' in capsys.readouterr().err and LeRobotReader(data).info.frames == 8
    assert main(['convert', 'lerobot', str(data), str(bag)]) == 1
    assert 'exists already' in capsys.readouterr().err and bag.exists()


@pytest.fixture
def small_disk():
    """Files of this process can grow to 128 KiB only; to write more fails as on a full disk."""
    _, hard = limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 17, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.fixture(scope='module')
def long(tmp_path_factory):
    """A recording and its data set that are larger than the small disk."""
    bag = lerobot_sets.write_recording(tmp_path_factory.mktemp('long') / 'bag', 80)
    assert main(['convert', 'bag', str(bag), str(bag.with_name('set'))]) == 0
    return bag, bag.with_name('set')


def test_a_full_disk_is_a_sentence_and_leaves_nothing(long, tmp_path, capsys, small_disk):
    bag, data = long
    for line in (['bag', bag], ['bag', bag, '--images', 'png'], ['lerobot', data]):
        out = tmp_path / 'out'
        assert main(['convert', *map(str, line), str(out)]) == 1
        said = capsys.readouterr().err
        assert f'{out} cannot be written' in said and 'File too large' in said and not out.exists()
