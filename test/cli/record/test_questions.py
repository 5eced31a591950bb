"""m3et record --eqa: bags and their questions, the same for the same seeds."""

import json

import pytest

from m3et_ros.cli.main import main
from m3et_ros.data.bags.reader import BagReader
from m3et_ros.data.datasets.openeqa import read_questions
from m3et_ros.data.epic.annotations import read_segments
from m3et_ros.data.kitchen.sim.episode import Episode

SMALL = ('--eqa', '--width', 32, '--height', 32, '--backend', 'raycast', '--fps', 5)


def record(*arguments):
    return main(['record', *map(str, (*arguments, *SMALL))])


@pytest.fixture(scope='module', autouse=True)
def simulator():
    pytest.importorskip('mujoco')


def test_several_episodes_share_one_file_of_questions(tmp_path, capsys):
    assert record(tmp_path / 'a', '--seed', 20_000, '--episodes', 2, '--frames', 150, '--questions', 9, '--json') == 0
    told = json.loads(capsys.readouterr().out)
    questions = read_questions(tmp_path / 'a' / 'questions.json')
    assert told['asked'] == len(questions) >= 14 and told['complete'] and told['seeds'] == [20_000, 20_001]
    assert sorted({question.episode for question in questions}) == ['20000', '20001']
    assert len({question.category for question in questions}) >= 6
    for bag in told['bags']:
        with BagReader(bag) as reader:
            assert reader.topics['/camera/camera/color/image_raw'].count == 150
    episode = Episode(20_001, width=32, height=32, fps=5)
    for _ in episode.run(150):
        pass
    segments = [one for one in read_segments(told['segments'], None).segments if one.video == '20001']
    assert len(segments) >= 3 and segments[0].narration == episode.labels[0].narration
    assert [(s.start_s, s.stop_s, s.verb_word, s.noun_word) for s in segments] == [
        (label.start_s, label.stop_s, label.verb, label.noun) for label in episode.labels
    ]
    assert record(tmp_path / 'a', '--seed', 19_999, '--episodes', 2) == 1
    assert '20000 exists already' in capsys.readouterr().err and not (tmp_path / 'a' / '19999').exists()


def test_one_episode_is_the_folder_itself_and_the_same_seed_asks_the_same(tmp_path, capsys):
    for name in ('one', 'two'):
        assert record(tmp_path / name / 'bag', '--seed', 5, '--frames', 100) == 0
    assert 'm3et evaluate eqa' in capsys.readouterr().out
    one, two = ((tmp_path / name / 'bag' / 'questions.json').read_bytes() for name in ('one', 'two'))
    assert one == two and b'"bag-000"' in one
    with BagReader(tmp_path / 'one' / 'bag') as reader:
        assert reader.duration_s == pytest.approx(19.8)


def test_too_short_to_be_asked_about_is_a_sentence(tmp_path, capsys):
    assert record(tmp_path / 'bag', '--frames', 1) == 1
    assert '--frames is 1' in capsys.readouterr().err and not (tmp_path / 'bag').exists()


def test_several_episodes_are_for_questions_only(tmp_path, capsys):
    assert main(['record', str(tmp_path / 'bag'), '--episodes', '2']) == 1
    assert '--eqa' in capsys.readouterr().err and not (tmp_path / 'bag').exists()
