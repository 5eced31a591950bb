"""m3et evaluate epic on made-up annotations."""

import csv
import json

import pytest
from epic_folder import make_folder, row, write

from m3et_ros.cli.main import main

SMALL = ('--samples', 24, '--batch', 4, '--members', 1, '--held-out', 3)


@pytest.fixture(scope='module')
def annotations(tmp_path_factory):
    return make_folder(tmp_path_factory.mktemp('epic'), videos=10, segments=16)


@pytest.fixture(scope='module')
def trained(annotations, tmp_path_factory):
    out = tmp_path_factory.mktemp('runs') / 'history'
    return out, command('train', 'actions', '--epic', annotations, '--history', '--out', out, *SMALL)


def command(*arguments):
    return main(list(map(str, arguments)))


def evaluate(annotations, trained, out, *arguments):
    return command(
        'evaluate', 'epic', '--epic', annotations, '--model', trained[0] / 'checkpoint', '--out', out, *arguments
    )


def test_evaluating_twice_gives_the_same_bytes(annotations, trained, tmp_path, capsys):
    for name in 'ab':
        assert evaluate(annotations, trained, tmp_path / name) == 0
    printed = capsys.readouterr()
    assert 'no pixels' in printed.out and '48 segments of 3 videos, 4 without history' in printed.out
    assert 'challenge.json is left out' in printed.err
    for name in ('metrics.json', 'per_sample.csv'):
        first, second = ((tmp_path / run / name).read_bytes() for run in 'ab')
        assert first == second and len(first) > 500
    metrics = json.loads((tmp_path / 'a/metrics.json').read_text())['metrics']
    assert metrics['split'] == 'held_out' and metrics['learnt_from'] == 0 and metrics['segments'] == 48
    with (tmp_path / 'a/per_sample.csv').open() as file:
        rows = list(csv.DictReader(file))
    hits = sum(int(line['action_rank_plain']) < 1 for line in rows) / len(rows)
    assert metrics['scores']['plain']['all']['action']['top1']['value'] == pytest.approx(hits, abs=1e-6)


def test_validation_and_files_by_path(annotations, trained, tmp_path, capsys):
    assert evaluate(annotations, trained, tmp_path / 'v', '--split', 'validation') == 0
    assert evaluate(annotations, trained, tmp_path / 'w', '--split', annotations / 'EPIC_100_validation.csv') == 0
    documents = [json.loads((tmp_path / name / 'metrics.json').read_text())['metrics'] for name in 'vw']
    assert documents[0]['unseen_participants'] == documents[1]['unseen_participants'] == ['P05']
    assert documents[0]['scores'] == documents[1]['scores']
    capsys.readouterr()
    assert evaluate(annotations, trained, tmp_path / 't', '--split', 'train') == 0
    assert 'trained on 7 of 10 videos' in capsys.readouterr().err


def test_odd_rows_are_told_and_kept(annotations, trained, tmp_path, capsys):
    odd = write(
        tmp_path / 'odd.csv',
        tuple(row('P09_01_0', 0, 1, 0, 1)),
        [row('P09_01_0', 0, 1, 0, 1), row('P09_01_1', 3, 3, 99, 1), row('P09_02_0', 1, 2, 1, 1)],
    )
    assert evaluate(annotations, trained, tmp_path / 'out', '--split', odd) == 0
    printed = capsys.readouterr()
    assert '1 segments of odd.csv (first P09_01_1) have a verb or noun that is not in the class lists' in printed.err
    assert 'have no length' in printed.err and '3 segments of 2 videos, 2 without history' in printed.out


@pytest.mark.parametrize(
    'changes, said',
    [
        (('--split', 'nothing.csv'), 'nothing.csv is neither a split'),
        (('--model', 'nowhere'), 'There is no nowhere'),
        (('--device', 'abacus'), "The device 'abacus' cannot be used"),
        (('--epic', 'nowhere'), 'nowhere'),
    ],
)
def test_evaluating_refuses_in_one_sentence(annotations, trained, tmp_path, capsys, changes, said):
    assert evaluate(annotations, trained, tmp_path, *changes) == 1
    assert said in capsys.readouterr().err.splitlines()[-1]
