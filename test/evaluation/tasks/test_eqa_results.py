"""A run's folder: written, read back, merged and compared."""

import csv
import hashlib
import json
from dataclasses import replace

import pytest

from m3et_ros.data.datasets.openeqa import EqaQuestion, read_results
from m3et_ros.data.errors import InputError
from m3et_ros.evaluation.jobs import PARTS, JobResult
from m3et_ros.evaluation.tasks.eqa_results import (
    EqaRun,
    answers_run,
    compare,
    copy_parts,
    document,
    merge_runs,
    questions_digest,
    read_run,
    sample_rows,
    scored_answers,
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


def test_every_column_of_a_sample_is_its_own():
    asked = EqaQuestion('Where?', 'on the hob', 'place', 'q', 'kitchen-a', ('hob', 'stove'), 1.5, ('hob',) * 10)
    answer = {
        'question_id': 'q',
        'answer': 'the stove',
        'confidence': 0.25,
        'frames_used': 3,
        'first_ns': 11,
        'last_ns': 22,
        'frame_s': 1.25,
        'trouble': 'odd',
    }
    one = EqaRun(MADE_BY, (asked,), (JobResult({'bag': 'a', 'answers': [answer]}, {}),))
    (row,) = sample_rows(one, scored_answers(one, {'q': 4.0}))
    assert row == {
        'question_id': 'q',
        'episode': 'kitchen-a',
        'category': 'place',
        'question': 'Where?',
        'reference': 'on the hob',
        'extra_references': 'hob | stove',
        'time': 1.5,
        'answer': 'the stove',
        'confidence': 0.25,
        'frames_used': 3,
        'first_ns': 11,
        'last_ns': 22,
        'frame_s': 1.25,
        'exact_match': 1.0,
        'token_f1': 0.0,
        'best_f1': 1.0,
        'vqa_soft': 0.0,
        'vqa_soft_older': 0.0,
        'mark': 4.0,
        'trouble': 'odd',
    }


def test_times_are_written_apart(tmp_path):
    folder = written(tmp_path / 'run', TWO)
    times = json.loads((folder / 'times.json').read_text())
    assert times['encode_ms']['count'] == 4 and times['encode_ms']['mean'] == 15 and times['times_real_time'] == 2.0


def test_a_result_file_is_scored_as_a_run(tmp_path):
    path = tmp_path / 'mine.json'
    path.write_text(json.dumps([{'question_id': 'a-0', 'answer': 'on the table'}]))
    found = answers_run(path, TWO.questions, 'm3et evaluate answers mine.json')
    assert [row.exact_match for row in scored_answers(found)] == [1, 0, 0, 0]
    assert found.made_by['command'] == 'm3et evaluate answers mine.json' and found.made_by['model']['id'] == 'mine'
    assert found.made_by['settings'] == {'results_sha256': hashlib.sha256(path.read_bytes()).hexdigest()}
    back = read_run(written_without_bags(tmp_path / 'run', found))
    assert scored_answers(back) == scored_answers(found)
    path.write_text(json.dumps([{'question_id': 'strange', 'answer': 'x'}]))
    with pytest.raises(InputError, match="answers question_id 'strange'"):
        answers_run(path, TWO.questions, '')


def written_without_bags(folder, a_run):
    rows = scored_answers(a_run)
    write_run(folder, a_run, rows, document(a_run, rows))
    return folder


def test_parts_of_merged_runs_are_copied_with_times_and_pictures(tmp_path):
    folders = [written(tmp_path / name, run((name, ['x', 'y']))) for name in 'ab']
    (folders[1] / PARTS / 'b.jpg').write_bytes(b'picture')
    merged = merge_runs(folders)
    copy_parts(tmp_path / 'out', [folder / PARTS for folder in folders], merged)
    assert {path.name for path in (tmp_path / 'out').iterdir()} == {
        'a.json',
        'a.times.json',
        'b.json',
        'b.times.json',
        'b.jpg',
    }
    assert (tmp_path / 'out' / 'b.jpg').read_bytes() == b'picture'
    copy_parts(folders[0] / PARTS, [folder / PARTS for folder in folders], merged)  # onto a source itself
    assert (folders[0] / PARTS / 'b.jpg').read_bytes() == b'picture'


def test_training_questions_and_the_judge_are_recorded():
    rows = scored_answers(TWO, {'a-0': 5.0})
    found = document(TWO, rows, [question('t', 0)], {'model': 'judge', 'seed': 3})
    assert found['made_by']['training_questions']['count'] == 1
    assert found['made_by']['judge'] == {'model': 'judge', 'seed': 3}
    assert found['metrics']['lines_from'] == 'training questions' and 'llm_match' in found['metrics']['all']
    assert 'judge' not in document(TWO, rows)['made_by']


def test_a_bag_that_failed_counts_as_unanswered():
    bad = EqaRun(
        MADE_BY,
        TWO.questions,
        (
            TWO.results[0],
            JobResult({'bag': 'b', 'failed': 'b is damaged', 'answers': [], 'files': {}, 'troubles': []}, {}),
        ),
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


def test_an_unfinished_run_is_refused(tmp_path):
    with pytest.raises(InputError, match='is not a finished --out folder of m3et evaluate eqa'):
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
    assert found['all']['exact_match'] == {'first': 0.5, 'second': 0.75, 'difference': 0.25, 'low': None, 'high': None}
    assert found['categories']['place']['exact_match']['difference'] == 0
    assert compare(scored_answers(better), scored_answers(TWO))['all']['exact_match']['difference'] == -0.25
    with pytest.raises(InputError, match='no question in common'):
        compare(scored_answers(TWO), scored_answers(run(('z', ['x', 'y']))))


def test_every_part_of_a_question_changes_the_digest_and_the_order_does_not():
    plain, other = question('a', 0), question('a', 1)
    assert questions_digest([plain, other]) == questions_digest([other, plain])
    variants = [
        plain,
        replace(plain, question='Why?'),
        replace(plain, answer='here'),
        replace(plain, extra_answers=('there',)),
        replace(plain, time=1.0),
        replace(plain, time=2.0),
        replace(plain, answers=('here',) * 10),
    ]
    assert len({questions_digest([one]) for one in variants}) == len(variants)
