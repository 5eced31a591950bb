"""m3et evaluate vqa on small recorded kitchens: what a run leaves, how it goes on, and what is refused."""

import csv
import json
import shutil
from dataclasses import replace

import pytest

from m3et_ros.cli.main import main
from m3et_ros.data.datasets.openeqa import read_questions, read_results, write_questions

SMALL = ('--vqa', '--width', 32, '--height', 32, '--backend', 'raycast', '--fps', 2, '--frames', 30)


@pytest.fixture(scope='module')
def kitchens(tmp_path_factory):
    """Two recorded kitchens with questions about their frames, and a third bag that is none."""
    pytest.importorskip('mujoco')
    folder = tmp_path_factory.mktemp('kitchens') / 'k'
    assert main([*map(str, ('record', folder, *SMALL, '--seed', 20_000, '--episodes', 2, '--questions', 12))]) == 0
    (folder / 'bad.mcap').write_bytes(b'\x89MCAP0\r\n')
    return folder


def vqa(kitchens, out, *more, bags=None, questions=None):
    bags = sorted(kitchens.glob('2*')) if bags is None else bags
    asked = () if questions == 'none' else ('--questions', questions or kitchens / 'questions.json')
    return main(['evaluate', 'vqa', *map(str, (*bags, *asked, '--model', 'tiny', '--out', out, *more))])


@pytest.fixture(scope='module')
def run(kitchens, tmp_path_factory):
    """A finished run over both."""
    out = tmp_path_factory.mktemp('run') / 'out'
    assert vqa(kitchens, out) == 0
    return out


def rows(out):
    with (out / 'per_sample.csv').open(newline='') as file:
        return list(csv.DictReader(file))


def test_a_run_leaves_all_of_it(kitchens, run):
    found = json.loads((run / 'metrics.json').read_text())
    asked = read_questions(kitchens / 'questions.json')
    assert found['metrics']['all']['questions'] == len(asked) == 24
    assert found['made_by']['settings']['scope'] == 'moment'
    bags = ' '.join(str(kitchens / name) for name in ('20000', '20001'))
    assert found['made_by']['command'] == (
        f'm3et evaluate vqa {bags} --model tiny --questions {kitchens / "questions.json"}'
    )
    for name, bag in found['metrics']['bags'].items():
        assert bag['asked_frames'] == len({question.time for question in asked if question.episode == name})
    types = found['metrics']['answer_types']
    assert sum(part['questions'] for part in types.values()) == 24 and 'yes/no' in types
    assert read_results(run / 'results.json').keys() == {question.question_id for question in asked}
    for row, question in zip(rows(run), asked):
        assert float(row['time']) == question.time == float(row['frame_s'])  # asked at the time of a frame
        assert row['last_ns'] == row['first_ns'] and row['frames_used'] == '1' and row['vqa_soft'] == ''
    text = (run / 'report.html').read_text()
    assert 'Questions about frames' in text and 'data:image/jpeg' in text and 'Type of answer' in text


def test_a_run_goes_on_and_another_time_is_another_question(kitchens, run, tmp_path):
    shutil.copytree(run, tmp_path / 'out')
    kept, anew = (tmp_path / 'out' / 'parts' / f'{bag}.json' for bag in ('20001', '20000'))
    before = [path.stat().st_mtime_ns for path in (kept, anew)]
    asked = read_questions(kitchens / 'questions.json')
    write_questions(tmp_path / 'q.json', [replace(asked[0], time=asked[0].time + 0.5), *asked[1:]])
    assert vqa(kitchens, tmp_path / 'out', questions=tmp_path / 'q.json') == 0
    assert kept.stat().st_mtime_ns == before[0] and anew.stat().st_mtime_ns > before[1]
    assert (tmp_path / 'out' / 'metrics.json').read_bytes() != (run / 'metrics.json').read_bytes()


def test_what_people_answered_is_scored_as_vqa_does(kitchens, run, tmp_path, capsys):
    said = {row['question_id']: row['answer'] for row in rows(run)}
    asked = read_questions(kitchens / 'questions.json')
    agree = [
        replace(one, answers=(said[one.question_id].upper(),) * 2 + (said[one.question_id],) * 2 + ('x',) * 6)
        for one in asked[:6]
    ]
    write_questions(tmp_path / 'q.json', [*agree, *asked[6:]])
    assert vqa(kitchens, tmp_path / 'out', questions=tmp_path / 'q.json') == 0
    # Two of ten said the same, and two more in capital letters, which stay in what people say by the older rule alone.
    found = json.loads((tmp_path / 'out' / 'metrics.json').read_text())['metrics']
    digits = sum(said[one.question_id].isdecimal() for one in asked[:6])  # numbers have no capitals: four agree
    older = (0.6 * (6 - digits) + digits) / 6
    assert found['all']['vqa_soft_older']['value'] == pytest.approx(older, abs=1e-6)
    assert found['all']['vqa_soft']['value'] == 1 and older < 1
    assert found['all']['vqa_soft']['questions'] == 6 and 'VQA score' in capsys.readouterr().out
    assert 'VQA soft score' in (tmp_path / 'out' / 'report.html').read_text()


def test_bad_bags_and_times_outside_are_told_and_the_rest_scored(kitchens, run, tmp_path, capsys):
    asked = read_questions(kitchens / 'questions.json')
    late = [replace(one, time=99.0) for one in asked[:4]]
    write_questions(
        tmp_path / 'q.json', [*late, *asked[4:], replace(asked[0], question_id='bad-0', episode_history='bad')]
    )
    bags = [*sorted(kitchens.glob('2*')), kitchens / 'bad.mcap']
    assert vqa(kitchens, tmp_path / 'out', '--json', bags=bags, questions=tmp_path / 'q.json') == 0
    told = capsys.readouterr()
    found = json.loads(told.out)['metrics']
    assert found['failed_bags'] == 1 and found['all']['unanswered'] == pytest.approx(5 / 25, abs=1e-6)
    lines = told.err.splitlines()
    assert sum('stays unanswered' in line and '99 s' in line for line in lines) == 3
    assert any('1 more questions stay unanswered' in line for line in lines)
    same, other = rows(run), rows(tmp_path / 'out')
    assert other[0]['trouble'] and not other[4]['trouble']
    assert [row['answer'] for row in same[4:]] == [row['answer'] for row in other[4:24]]


def test_blind_looks_at_nothing_and_is_compared(kitchens, run, tmp_path, capsys):
    assert vqa(kitchens, tmp_path / 'blind', '--scope', 'blind', '--at-least', 1) == 2
    assert 'below 1.0' in capsys.readouterr().err
    assert all(row['frames_used'] == '0' and row['frame_s'] == '' for row in rows(tmp_path / 'blind'))
    command = ['evaluate', 'compare', tmp_path / 'blind', run, '--out', tmp_path / 'both', '--json']
    assert main([*map(str, command)]) == 0
    assert json.loads(capsys.readouterr().out)['common'] == 24


def test_runs_over_other_bags_are_merged_with_their_pictures(kitchens, run, tmp_path):
    for bag in ('20000', '20001'):
        assert vqa(kitchens, tmp_path / bag, bags=[kitchens / bag]) == 0
    command = ['evaluate', 'merge', tmp_path / '20000', tmp_path / '20001', '--out', tmp_path / 'both']
    assert main([*map(str, command)]) == 0
    whole, both = (json.loads((folder / 'metrics.json').read_text()) for folder in (run, tmp_path / 'both'))
    assert both['metrics'] == whole['metrics'] and (tmp_path / 'both' / 'parts' / '20001.jpg').exists()
    assert 'data:image/jpeg' in (tmp_path / 'both' / 'report.html').read_text()


@pytest.mark.parametrize(
    ('options', 'words'),
    [
        ({'questions': 'none'}, ['--questions', 'm3et record --vqa']),
        ({'more': ('--data', 'test')}, ['--data', 'recordings']),
        ({'more': ('--samples', 4000)}, ['--samples']),
        ({'more': ('--without', 'depth')}, ['--without']),
        ({'bags': [], 'questions': None}, ['--questions is for recordings', 'none was given']),
        ({'bags': [], 'questions': 'none', 'more': ('--scope', 'blind')}, ['--scope is for recordings']),
        ({'questions': 'wrong'}, ['record 2', "'time' is '-1'"]),
        ({'more': ('--remap', '/a')}, ['-r /a', 'FROM:=TO']),
    ],
)
def test_what_cannot_be_done_is_one_sentence(kitchens, tmp_path, capsys, options, words):
    records = json.loads((kitchens / 'questions.json').read_text())
    records[1]['time'] = -1
    (tmp_path / 'wrong').write_text(json.dumps(records))
    questions = options.get('questions')
    assert (
        vqa(
            kitchens,
            tmp_path / 'out',
            *options.get('more', ()),
            bags=options.get('bags'),
            questions=tmp_path / 'wrong' if questions == 'wrong' else questions,
        )
        == 1
    )
    told = [line for line in capsys.readouterr().err.splitlines() if 'random ones' not in line]
    assert len(told) == 1 and all(word in told[0] for word in words), told
    assert not (tmp_path / 'out').exists() and 'M3ET_TRACEBACK' not in told[0]
