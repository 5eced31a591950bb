"""m3et replay --evaluate: a live robot on a short recording, over DDS."""

import json

import pytest

from m3et_ros.cli.main import main
from m3et_ros.cli.output import Refused
from m3et_ros.cli.replay import live_score
from m3et_ros.cli.replay.live_score import LEAST_SERVED, LiveRun, counts_of, evaluate_live


@pytest.fixture(scope='module')
def bag(tmp_path_factory):
    pytest.importorskip('mujoco')
    path = tmp_path_factory.mktemp('live') / 'bag'
    words = ('record', path, '--seed', 20_003, '--frames', 12, '--width', 64, '--height', 48, '--backend', 'raycast')
    assert main([*map(str, words)]) == 0
    (path / 'questions.json').write_text(
        json.dumps(
            [
                {
                    'question': question,
                    'answer': 'yes',
                    'category': 'object recognition',
                    'question_id': str(number),
                    'episode_history': 'bag',
                }
                for number, question in enumerate(('Was there a cup?', 'Was there a pan?'))
            ]
        )
    )
    return path


def test_the_live_robot_is_asked_and_scored(bag, tmp_path, capsys):
    out = tmp_path / 'out'
    words = ('replay', bag, '--evaluate', '--questions', bag / 'questions.json', '--out', out, '--model', 'tiny')
    assert main([*map(str, words), '--rates', '4', '--namespace', '/live_test', '--json']) == 0
    document = json.loads(capsys.readouterr().out)
    assert {'schema': 1} | json.loads((out / 'live.json').read_text()) == document
    assert document['images'] == 12 and [row['rate'] for row in document['rates']] == [4]
    for row in document['rates']:
        assert row['images'] == row['lost'] + row['arrived'] == 12 and row['unserved'] >= 0
        assert row['arrived'] == row['served'] + row['superseded'] + row['repeated'] + row['unserved']
        assert 0 < row['served'] <= 12 and row['model'].startswith('tiny') and row['age_s']['p95'] >= 0
    answers = {answer['question_id']: answer['answer'] for answer in document['answers']}
    assert len(answers) == 2 and document['metrics']['all']['questions'] == 2
    assert {row['question_id']: row['answer'] for row in json.loads((out / 'results.json').read_text())} == answers


def test_diagnostics_become_a_row():
    diagnostics = {
        'frames_out': '57',
        'frames_in': '62',
        'age_s/p50': '0.05',
        'age_s/p95': '0.1',
        'latency_s/p50': '0.03',
        'dropped/frame_superseded': '1',
        'dropped/instruction_long': '5',
        'synchroniser/rgb_superseded': '2',
        'synchroniser/rgb_duplicate': '1',
        'synchroniser/depth_unmatched': '9',
        'frames_without_depth': '57',
        'causes/depth_unpaired': 'Depth never pairs.',
        'model_id': 'kitchen@1',
        'state': 'active',
    }
    row = counts_of(2.0, 3.14159, 64, diagnostics)
    assert (row['rate'], row['images'], row['arrived'], row['model']) == (2.0, 64, 62, 'kitchen@1')
    assert row['images'] == row['lost'] + row['arrived'] and row['lost'] == 2
    assert (row['served'], row['superseded'], row['repeated'], row['unserved']) == (57, 3, 1, 1)
    assert row['latency_s']['p50'] == 0.03 and row['latency_s']['p95'] != row['latency_s']['p95']
    assert row['served_share'] == round(57 / 64, 4)
    assert row['frames_without_depth'] == 57 and row['causes'] == {'depth_unpaired': 'Depth never pairs.'}
    assert row['dropped'] == {'frame_superseded': 1, 'instruction_long': 5}
    with pytest.raises(Refused, match='62 images arrived and 61 were played'):
        counts_of(2.0, 3.14159, 61, diagnostics)
    assert row['age_s'] == {'p50': 0.05, 'p95': 0.1} and row['seconds'] == 3.14


@pytest.mark.parametrize(
    ('words', 'sentence'),
    [
        (('--evaluate',), '--evaluate needs --out'),
        (('--out', 'x'), 'go with --evaluate'),
        (('--evaluate', '--out', 'x', '--loop'), 'neither --loop nor --restamp'),
    ],
)
def test_options_that_do_not_go_together_are_one_sentence(bag, capsys, words, sentence):
    assert main(['replay', str(bag), *words]) == 1
    assert sentence in capsys.readouterr().err


def test_questions_about_another_recording_are_refused(bag, tmp_path, capsys):
    questions = tmp_path / 'other.json'
    questions.write_text(
        json.dumps(
            [
                {
                    'question': 'What?',
                    'answer': 'a cup',
                    'category': 'object recognition',
                    'question_id': '1',
                    'episode_history': 'elsewhere',
                }
            ]
        )
    )
    assert main(['replay', str(bag), '--evaluate', '--out', str(tmp_path), '--questions', str(questions)]) == 1
    assert 'No question is about bag' in capsys.readouterr().err


def live_run(tmp_path, **changes):
    fields = {
        'bag': tmp_path / 'bag',
        'out': tmp_path,
        'namespace': '/live',
        'robot': ['--ros-args'],
        'player': ['--ros-args'],
        'images': 20,
        'rates': [1.0, 2.0, 4.0],
    }
    return LiveRun(**fields | changes)


def test_the_highest_sustained_rate_serves_at_least_95_per_cent(tmp_path, monkeypatch, capsys):
    served = {1.0: 20, 2.0: 19, 4.0: 18}
    played = []

    def play(live, rate, questions, stopped):
        played.append((rate, questions))
        return counts_of(rate, 1.0, live.images, {'frames_out': str(served[rate])}), []

    monkeypatch.setattr(live_score, '_play', play)
    evaluate_live(live_run(tmp_path, questions=['one']), as_json=True)
    document = json.loads(capsys.readouterr().out)
    assert document['highest_rate_kept_up_with'] == 2.0 and served[2.0] / 20 == LEAST_SERVED
    assert played == [(1.0, ['one']), (2.0, ()), (4.0, ())]  # questions are asked at the first rate alone
    assert (document['bag'], document['images']) == ('bag', 20) and 'metrics' not in document


def test_a_robot_that_needs_too_long_is_refused_with_the_reason(tmp_path, monkeypatch):
    monkeypatch.setattr(live_score, 'START_S', 0.3)
    monkeypatch.setattr(live_score, 'MODEL_NODE', 'timeit')
    run = live_run(tmp_path, robot=['-n', '1', 'import time; time.sleep(60)'])
    with pytest.raises(Refused, match='did not become active within 0 s'):
        evaluate_live(run, as_json=True)


def test_a_robot_that_ends_by_itself_is_the_failure(tmp_path, monkeypatch):
    monkeypatch.setattr(live_score, 'MODEL_NODE', 'no_such_module')
    with pytest.raises(Refused, match='model ended by itself with exit code 1'):
        evaluate_live(live_run(tmp_path), as_json=True)
