"""A run's folder: written, read back, merged and compared."""

import csv
import json

import pytest

from m3et_ros.data.datasets.openeqa import EqaQuestion, read_results
from m3et_ros.data.errors import InputError
from m3et_ros.evaluation.jobs import PARTS, JobResult
from m3et_ros.evaluation.tasks.eqa_results import (
    EqaRun,
    compare,
    document,
    merge_runs,
    read_run,
    scored_answers,
    times_of,
    write_run,
)

MADE_BY = {
    'command': 'm3et evaluate eqa a b',
    'settings': {'scope': 'episode'},
    'model': {'id': 'm'},
    'environment': {'torch': '2'},
}


def question(bag, number):
    category = ('place', 'state')[number % 2]
    return EqaQuestion(f'Where is thing {number}?', 'on the table', category, f'{bag}-{number}', bag)


def done(bag, answers, **more):
    part = {
        'bag': bag,
        'frames': 10,
        'seconds': 2.0,
        'files': {'x.mcap': '00'},
        'troubles': [],
        'key': 'k',
        **more,
        'answers': [
            {
                'question_id': f'{bag}-{n}',
                'answer': answer,
                'confidence': 0.5,
                'frames_used': 8,
                'first_ns': 1,
                'last_ns': 2,
            }
            for n, answer in enumerate(answers)
        ],
    }
    return JobResult(part, {'encode_ms': [10.0, 20.0], 'answer_ms': [5.0], 'wall_s': 1.0})


def run(*bags, made_by=MADE_BY, not_asked=0):
    return EqaRun(
        made_by,
        tuple(question(name, n) for name, _ in bags for n in range(2)),
        tuple(done(name, answers) for name, answers in bags),
        not_asked,
    )


def written(folder, a_run):
    (folder / PARTS).mkdir(parents=True)
    for one in a_run.results:
        (folder / PARTS / f'{one.part["bag"]}.json').write_text(json.dumps(one.part))
        (folder / PARTS / f'{one.part["bag"]}.times.json').write_text(json.dumps(one.times))
    rows = scored_answers(a_run)
    write_run(folder, a_run, rows, document(a_run, rows))
    return folder


TWO = run(('a', ['on the table', 'on the hob']), ('b', ['on the table', None]))


def test_a_run_is_read_back_as_written(tmp_path):
    folder = written(tmp_path / 'run', TWO)
    found = json.loads((folder / 'metrics.json').read_text())
    assert found['metrics']['all']['exact_match']['value'] == 0.5 and found['metrics']['all']['unanswered'] == 0.25
    assert found['metrics']['categories']['place']['exact_match']['value'] == 1
    assert found['metrics']['bags']['b']['frames'] == 10 and 'answers' not in found['metrics']['bags']['b']
    assert 'wall_s' not in json.dumps(found) and found['made_by']['questions']['asked'] == 4
    back = read_run(folder)
    assert back.questions == TWO.questions and back.made_by == MADE_BY
    assert scored_answers(back) == scored_answers(TWO)
    assert read_results(folder / 'results.json') == {
        'a-0': 'on the table',
        'a-1': 'on the hob',
        'b-0': 'on the table',
        'b-1': None,
    }
    table = list(csv.DictReader((folder / 'per_sample.csv').open()))
    assert [row['exact_match'] for row in table] == ['1.0', '0.0', '1.0', '0.0'] and table[3]['answer'] == ''
    assert table[1]['token_f1'] == '0.5' and table[0]['confidence'] == '0.5'


def test_times_stand_apart():
    times = times_of(TWO)
    assert times['encode_ms']['count'] == 4 and times['encode_ms']['mean'] == 15
    assert times['times_real_time'] == 2.0 and times_of(EqaRun(MADE_BY, (), ()))['times_real_time'] is None


def test_a_bag_that_failed_counts_as_unanswered():
    bad = EqaRun(
        MADE_BY,
        TWO.questions,
        (TWO.results[0], JobResult({'bag': 'b', 'failed': 'b is damaged', 'answers': [], 'files': {}, 'troubles': []}, {})),
    )
    found = document(bad, scored_answers(bad))['metrics']
    assert found['failed_bags'] == 1 and found['all']['unanswered'] == 0.5
    assert found['bags']['b']['failed'] == 'b is damaged' and found['all']['exact_match_of_answered'] == 0.5


def test_merged_runs_are_what_one_run_would_have_been(tmp_path):
    apart = [run(('a', ['on the table', 'on the hob']), not_asked=2), run(('b', ['on the table', None]), not_asked=2)]
    folders = [written(tmp_path / str(n), one) for n, one in enumerate(apart)]
    merged = merge_runs(folders[::-1])
    assert document(merged, scored_answers(merged)) == document(TWO, scored_answers(TWO))
    assert merged.not_asked == 0
    with pytest.raises(InputError, match='a is in .*0 and in .*0'):
        merge_runs([folders[0]] * 2)
    other = written(tmp_path / 'other', run(('c', ['x', 'y']), made_by=MADE_BY | {'settings': {'scope': 'frame'}}))
    with pytest.raises(InputError, match='another settings'):
        merge_runs([folders[0], other])
    elsewhere = written(tmp_path / 'c', run(('c', ['x', 'y']), made_by=MADE_BY | {'environment': {'torch': '3'}}))
    assert merge_runs([folders[0], elsewhere]).made_by['further_environments'] == [{'torch': '3'}]


def test_no_run_is_a_sentence(tmp_path):
    with pytest.raises(InputError, match='no folder that m3et evaluate eqa'):
        read_run(tmp_path)
    folder = written(tmp_path / 'run', TWO)
    (folder / PARTS / 'b.json').unlink()
    with pytest.raises(InputError, match='lacks b'):
        read_run(folder)
    (tmp_path / 'file').write_text('')
    with pytest.raises(InputError, match='cannot be written'):
        write_run(tmp_path / 'file', TWO, scored_answers(TWO), {})


def test_two_runs_are_compared_question_by_question():
    better = run(('a', ['on the table', 'on the table']), ('b', ['on the table', 'the table']))
    found = compare(scored_answers(TWO), scored_answers(better))
    assert found['common'] == 4 and found['all']['better'] == 2 and found['all']['worse'] == 0
    assert found['all']['exact_match'] == {'first': 0.5, 'second': 0.75, 'difference': 0.25, 'low': 0.0, 'high': 0.5}
    assert found['categories']['place']['exact_match']['difference'] == 0
    assert compare(scored_answers(better), scored_answers(TWO))['all']['exact_match']['difference'] == -0.25
    with pytest.raises(InputError, match='no question in common'):
        compare(scored_answers(TWO), scored_answers(run(('z', ['x', 'y']))))
