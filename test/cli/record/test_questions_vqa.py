"""m3et record --vqa: bags and questions about their frames, the same for the same seeds."""

import json
from functools import partial

import numpy as np
import pytest

from m3et_ros.cli.main import main
from m3et_ros.data.bags.frames import frames
from m3et_ros.data.bags.reader import BagReader
from m3et_ros.data.datasets.openeqa import read_questions
from m3et_ros.data.kitchen.questions.frame import FAMILIES
from m3et_ros.data.kitchen.questions.frame_wordings import ANSWERS
from m3et_ros.data.kitchen.sim.episode import Episode

SMALL = ('--width', 32, '--height', 32, '--backend', 'raycast', '--fps', 3)


def record(*arguments):
    return main(['record', *map(str, (*arguments, *SMALL))])


@pytest.fixture(scope='module', autouse=True)
def simulator():
    pytest.importorskip('mujoco')


def test_several_episodes_share_one_file_of_questions(tmp_path, capsys):
    where = tmp_path / 'a'
    assert record(where, '--vqa', '--seed', 20_000, '--episodes', 2, '--frames', 60, '--questions', 20, '--json') == 0
    told = json.loads(capsys.readouterr().out)
    questions = read_questions(where / 'questions.json')
    assert told['asked'] == len(questions) == 40 and told['complete']
    assert {question.episode for question in questions} == {'20000', '20001'}
    assert len({question.category for question in questions}) > 8 and {q.category for q in questions} <= {*FAMILIES}
    assert all(question.answer in ANSWERS for question in questions)
    for bag in told['bags']:
        with BagReader(bag) as reader:
            stamps = np.array([frame.stamp_ns for frame in frames(reader)])
        own = [question.time for question in questions if bag.endswith(question.episode)]
        assert own == sorted(own) and {round(1e9 * at) for at in own} <= {*(stamps - stamps[0])}
        assert max(own) - min(own) > 10  # of 20 s


def test_one_episode_is_the_folder_itself_and_the_same_seed_asks_the_same(tmp_path, capsys):
    for name in ('one', 'two'):
        assert record(tmp_path / name / 'bag', '--vqa', '--seed', 5, '--frames', 40) == 0
    assert f'm3et evaluate vqa {tmp_path / "two" / "bag"} --questions' in capsys.readouterr().out
    one, two = ((tmp_path / name / 'bag' / 'questions.json').read_bytes() for name in ('one', 'two'))
    assert one == two and b'"bag-000"' in one and b'"time"' in one


def test_the_bag_is_that_of_a_recording_without_questions(tmp_path):
    assert record(tmp_path / 'asked', '--vqa', '--seed', 20_000, '--frames', 20) == 0
    assert record(tmp_path / 'plain', '--seed', 20_000, '--frames', 20) == 0
    looks = []
    for name in ('asked', 'plain'):
        with BagReader(tmp_path / name) as reader:
            looks.append([(frame.stamp_ns, frame.rgb.tobytes()) for frame in frames(reader)])
    assert looks[0] == looks[1] and len(looks[0]) == 20


def test_too_little_to_be_asked_about_leaves_the_bag(tmp_path, capsys, monkeypatch):
    # Two frames of a kitchen of version 2 suffice, because its wordings are asked of things out of view, too.
    monkeypatch.setattr('m3et_ros.data.kitchen.sim.episode.Episode', partial(Episode, version=1))
    assert record(tmp_path / 'bag', '--vqa', '--frames', 2) == 1
    assert 'more episodes' in capsys.readouterr().err
    assert {file.name for file in (tmp_path / 'bag').iterdir()} == {'bag.mcap', 'metadata.yaml', 'segments.csv'}


@pytest.mark.parametrize(
    ('options', 'words'),
    [
        (('--vqa', '--frames', 1), '--frames is 1'),
        (('--vqa', '--eqa'), '--eqa and --vqa'),
        (('--episodes', 2), '--eqa or --vqa'),
    ],
)
def test_what_cannot_be_recorded_is_a_sentence(tmp_path, capsys, options, words):
    assert record(tmp_path / 'bag', *options) == 1
    assert words in capsys.readouterr().err and not (tmp_path / 'bag').exists()
