"""m3et evaluate eqa, answers, merge and compare: every option where it arrives."""

from pathlib import Path

import pytest

# Imported before a test replaces JobRunner, from which it derives a class.
import m3et_ros.evaluation.tasks.vlm  # noqa: F401
from m3et_ros.cli.evaluate.common import ClusterRun, ScoreOptions
from m3et_ros.cli.main import main
from m3et_ros.data.datasets.openeqa import EqaQuestion, write_questions
from m3et_ros.evaluation.tasks.eqa import EqaTask

SCORING = (
    *('--train', 't.json'),
    *('--at-least', '0.25'),
    *('--judge-url', 'http://j/v1', '--judge-model', 'marker', '--judge-prompt', 'p.txt'),
)
SCORES = ScoreOptions(
    train=[Path('t.json')], at_least=0.25, judge_url='http://j/v1', judge_model='marker', judge_prompt=Path('p.txt')
)
RUN = ('--model', 'tiny', '--out', 'results', '--workers', '5', '--ray', 'local', '--threads', '2', '--device', 'cuda')
VLM = ('--answerer', 'vlm', '--answerer-checkpoint', 'hf:owner/name')


def test_every_option_of_eqa_arrives(border, every_option):
    called = border('m3et_ros.cli.evaluate.eqa.evaluate_recordings')
    line = ['evaluate', 'eqa', 'one', 'two', '--questions', 'a.json', '--questions', 'b.json', *RUN, *VLM, *SCORING]
    line += ['--scope', 'frame', '--generate', '--every', '3', '--memory', 'comb', '--memory-frames', '6']
    line += ['--camera', '/head', '--remap', '/x:=/y', '--json']
    assert main(line) == 0
    assert called == [
        {
            'bags': [Path('one'), Path('two')],
            'questions': [Path('a.json'), Path('b.json')],
            'task': EqaTask(
                scope='frame',
                write=True,
                every=3,
                memory_frames=6,
                camera='/head',
                remaps={'/x': '/y'},
                comb=True,
                threads=2,
            ),
            'run': ClusterRun(
                model='tiny',
                out=Path('results'),
                workers=5,
                ray='local',
                threads=2,
                device='cuda',
                answerer='vlm',
                answerer_checkpoint='hf:owner/name',
            ),
            'scoring': SCORES,
            'as_json': True,
        }
    ]
    every_option(line)


def test_the_trained_memory_is_the_default(border):
    called = border('m3et_ros.cli.evaluate.eqa.evaluate_recordings')
    assert main(['evaluate', 'eqa', 'one', '--questions', 'a.json', '--model', 'tiny', '--out', 'x']) == 0
    assert called[0]['task'] == EqaTask()


@pytest.fixture
def questions(tmp_path):
    """A question file about the bag `one`, and another for training."""
    for name, episode in (('q', 'one'), ('t', 'elsewhere')):
        write_questions(tmp_path / f'{name}.json', [EqaQuestion('Is it on?', name, 'state', f'{name}-0', episode)])
    (tmp_path / 'p.txt').write_text('{question} {answer} {prediction} {extra_answers}')
    return tmp_path


@pytest.mark.parametrize('cluster', [False, True])
def test_model_device_workers_and_cluster_arrive_at_the_jobs(border, reach, questions, cluster):
    runner = border('m3et_ros.evaluation.jobs.JobRunner', 'runner')
    here = border('m3et_ros.evaluation.jobs.run_jobs', last=True)
    there = border('m3et_ros.evaluation.jobs_ray.run_on_ray', last=True)
    line = ['evaluate', 'eqa', questions / 'one', '--questions', questions / 'q.json', '--out', questions / 'out']
    line += ['--model', 'tiny', '--device', 'cuda:1', '--workers', 5, '--every', 3, *(['--ray', 'local'] * cluster)]
    reach(*line)
    assert [*runner[0].values()] == ['tiny', 'cuda:1', EqaTask(every=3), questions / 'out' / 'parts']
    (call,) = there if cluster else here
    assert not (here if cluster else there) and call['workers'] == 5
    assert not cluster or call['address'] == 'local'
    assert [job.bag for job in call['jobs']] == [questions / 'one'] and (questions / 'out').is_dir()


def scoring_of(folder):
    """SCORING with files that exist."""
    return [str(folder / word) if word in ('t.json', 'p.txt') else word for word in SCORING]


def check_finish(call, out):
    assert call['out'] == out and call['at_least'] == 0.25 and call['as_json']
    assert [question.answer for question in call['training']] == ['t']
    judge = call['judge']
    assert (judge.url, judge.model, judge.prompt) == (
        'http://j/v1',
        'marker',
        '{question} {answer} {prediction} {extra_answers}',
    )


def test_every_option_of_answers_arrives(border, every_option, questions):
    finished = border('m3et_ros.cli.evaluate.eqa._finish')
    (questions / 'a.json').write_text('[{"question_id": "q-0", "answer": "q"}]')
    line = ['evaluate', 'answers', questions / 'a.json', '--questions', questions / 'q.json']
    line += ['--out', questions / 'out', *scoring_of(questions), '--json']
    assert main([*map(str, line)]) == 0
    check_finish(finished[0], questions / 'out')
    assert [question.question_id for question in finished[0]['run'].questions] == ['q-0']
    every_option(line)


def test_every_option_of_merge_arrives(border, every_option, questions):
    finished = border('m3et_ros.cli.evaluate.eqa._finish')
    merged = border('m3et_ros.evaluation.tasks.eqa_results.merge_runs', 'run')
    copied = border('m3et_ros.evaluation.tasks.eqa_results.copy_parts')
    line = ['evaluate', 'merge', 'one', 'two', '--out', questions / 'out', *scoring_of(questions), '--json']
    assert main([*map(str, line)]) == 0
    check_finish(finished[0], questions / 'out')
    assert [*merged[0].values()] == [[Path('one'), Path('two')]] and finished[0]['run'] == 'run'
    assert [*copied[0].values()] == [questions / 'out' / 'parts', [Path('one/parts'), Path('two/parts')], 'run']
    every_option(line)


@pytest.mark.parametrize(('at_least', 'code'), [(-0.125, 0), (-0.1249, 2), (-1, 0)])
def test_every_option_of_compare_arrives(border, every_option, tmp_path, at_least, code):
    part = {'exact_match': {'first': 0.5, 'second': 0.375, 'difference': -0.125, 'low': None, 'high': None}}
    document = {'all': part | {'better': 0, 'worse': 1, 'questions': 8}, 'categories': {}}
    compared = border('m3et_ros.evaluation.report.html.write_comparison', document)
    line = ['evaluate', 'compare', 'one', 'two', '--out', tmp_path / 'out', '--at-least', at_least, '--json']
    assert main([*map(str, line)]) == code
    assert [*compared[0].values()] == [tmp_path / 'out', (Path('one'), Path('two'))]
    every_option(line)


def test_up_to_three_unanswered_questions_of_a_bag_are_printed(capsys):
    from m3et_ros.cli.evaluate.eqa import _print_unanswered

    def part(bag, count):
        answers = [{'question_id': f'{bag}-{n}', 'trouble': 'late'} for n in range(count)]
        return {'bag': bag, 'answers': [*answers, {'question_id': 'fine', 'answer': 'yes'}]}

    _print_unanswered([part('a', 3), part('b', 4), part('c', 0)])
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 7 and lines[3] == 'b-0 stays unanswered: late'
    assert lines[6] == 'b: 1 more questions stay unanswered; per_sample.csv says why'
