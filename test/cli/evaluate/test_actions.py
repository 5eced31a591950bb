"""m3et evaluate actions on recorded kitchens: what a run leaves, and what is refused."""

import csv
import json
import re

import pytest

from m3et_ros.cli.main import main

SMALL = ('--eqa', '--width', 32, '--height', 32, '--backend', 'raycast', '--fps', 5, '--frames', 100)


@pytest.fixture(scope='module')
def kitchens(tmp_path_factory):
    """Two recorded kitchens of twenty seconds with their actions, and a third bag that is none."""
    pytest.importorskip('mujoco')
    folder = tmp_path_factory.mktemp('kitchens') / 'k'
    assert main([*map(str, ('record', folder, *SMALL, '--seed', 20_000, '--episodes', 2, '--questions', 4))]) == 0
    (folder / 'bad.mcap').write_bytes(b'\x89MCAP0\r\n')
    rows = (folder / 'segments.csv').read_text()
    first, verb = rows.splitlines()[1], next(csv.DictReader(rows.splitlines()))['verb']
    (folder / 'three.csv').write_text(
        rows
        + first.replace('20000', 'bad')
        + '\n'
        + first.replace('20000_0', 'odd_0').replace(f',{verb},', ',fly,')
        + '\n'
    )
    return folder


def actions(*arguments):
    return main(['evaluate', 'actions', '--model', 'tiny', *map(str, arguments)])


def test_a_bad_bag_costs_no_other(kitchens, tmp_path, capsys):
    bags = [kitchens / '20000', kitchens / '20001', kitchens / 'bad.mcap']
    assert actions(*bags, '--segments', kitchens / 'three.csv', '--out', tmp_path) == 0
    said = capsys.readouterr()
    assert 'bad: ' in said.err and '1 of' in said.err and 'fly' in said.err and 'Read 2 of 3 bags' in said.out
    metrics = json.loads((tmp_path / 'metrics.json').read_text())['metrics']
    rows = list(csv.DictReader((tmp_path / 'per_sample.csv').read_text().splitlines()))
    assert metrics['failed_bags'] == 1 and metrics['segments']['unknown']['verbs'] == {'fly': 1}
    asked = [row for row in rows if row['recognition_1']]
    assert len(asked) == metrics['recognition']['chain']['all']['samples'] > 3
    right = sum(row['recognition_action_rank'] == '0' for row in asked) / len(asked)
    assert right == pytest.approx(metrics['recognition']['chain']['all']['action']['top1']['value'], abs=1e-6)
    assert (tmp_path / 'report.html').stat().st_size > 20_000


def test_model_device_and_number_of_processes_arrive_at_the_jobs(kitchens, border, reach, tmp_path):
    run = border('m3et_ros.evaluation.jobs.run_jobs', last=True)
    line = ('evaluate', 'actions', kitchens / '20000', '--segments', kitchens / 'segments.csv', '--model', 'tiny')
    reach(*line, '--out', tmp_path, '--workers', 5, '--device', 'cpu')
    assert {name: run[0][name] for name in ('workers', 'model', 'device')} == {
        'workers': 5,
        'model': 'tiny',
        'device': 'cpu',
    }


def test_a_finished_run_is_printed_again_and_compared_with_a_threshold(kitchens, tmp_path, capsys):
    given = (kitchens / '20000', '--segments', kitchens / 'segments.csv', '--out', tmp_path, '--json')
    assert actions(*given) == 0
    first = (tmp_path / 'metrics.json').read_bytes()
    assert actions(*given, '--at-least', 1) == 2
    said = capsys.readouterr()
    assert 'is below 1' in said.err and (tmp_path / 'metrics.json').read_bytes() == first
    assert json.loads((tmp_path / 'metrics.json').read_text())['metrics']['segments']['elsewhere'] > 0


@pytest.mark.parametrize(
    ('words', 'sentence'),
    [
        (('BAG',), 'give --segments'),
        ((), 'no data were given'),
        (('--segments', 'CSV'), '--segments is for recordings'),
        (('BAG', '--segments', 'CSV', '--bf16'), '--bf16 is for kitchens of a cache'),
        (('BAG', '--segments', 'CSV', '-r', 'x'), '-r x has no value'),
        (('BAG', '--segments', 'NONE'), 'cannot be read'),
        (('BAG', '--segments', 'WRONG'), 'line 2 of .*wrong.csv .* column stop_timestamp'),
        (('BAD', '--segments', 'CSV'), 'no segment is about bad: their video_id are 20000, 20001'),
        (('BAG', '--segments', 'STRANGE'), 'no word for nouns kite'),
    ],
)
def test_an_evaluation_that_cannot_be_done_is_one_sentence(kitchens, tmp_path, capsys, words, sentence):
    rows = (kitchens / 'segments.csv').read_text().splitlines()
    head, first = rows[0].split(','), rows[1].split(',')
    for name, column, text in (('wrong', 'stop_timestamp', 'later'), ('strange', 'noun', 'kite')):
        row = [text if title == column else cell for title, cell in zip(head, first)]
        (tmp_path / f'{name}.csv').write_text(f'{rows[0]}\n{",".join(row)}\n')
    places = {
        'BAG': kitchens / '20000',
        'BAD': kitchens / 'bad.mcap',
        'CSV': kitchens / 'segments.csv',
        'WRONG': tmp_path / 'wrong.csv',
        'STRANGE': tmp_path / 'strange.csv',
        'NONE': tmp_path / 'none.csv',
    }
    assert actions(*(places.get(word, word) for word in words), '--out', tmp_path / 'out') == 1
    said = capsys.readouterr().err
    assert re.search(sentence, said) and 'Traceback' not in said


def test_epic_with_recordings_uses_their_pixels(kitchens, tmp_path, capsys):
    words = ['evaluate', 'epic', str(kitchens / '20000'), '--model', 'tiny', '--out', str(tmp_path)]
    assert main([*words, '--segments', str(kitchens / 'segments.csv'), '--json']) == 0
    found = json.loads(capsys.readouterr().out)
    assert found['metrics']['recognition']['chain']['all']['samples'] > 1 and (tmp_path / 'report.html').exists()
    assert main([*words, '--epic', str(tmp_path)]) == 1
    assert main(['evaluate', 'epic', '--model', 'tiny', '--out', str(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert '--epic is for labels without pixels' in said and 'no data were given; give --epic' in said
