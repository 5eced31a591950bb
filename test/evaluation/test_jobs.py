"""Many bags: one or two processes give the same parts, finished parts are reused, a bad bag leaves the others alone."""

import json
from dataclasses import dataclass, replace

import cv2
import numpy as np
import pytest
import torch

from m3et_ros.data.bags.writer import BagWriter
from m3et_ros.data.checkpoints.m3et import save_checkpoint
from m3et_ros.data.datasets.openeqa import EqaQuestion
from m3et_ros.data.errors import InputError
from m3et_ros.data.frame import Frame
from m3et_ros.data.progress import no_progress
from m3et_ros.evaluation.jobs import (
    Job,
    JobResult,
    JobRunner,
    bag_fields,
    limited,
    match_bags,
    run_jobs,
    stored,
    times_of,
    write_times,
)
from m3et_ros.evaluation.tasks.eqa import EqaTask
from m3et_ros.runtime.open_model import untrained


@dataclass(frozen=True)
class ThreadsTask:
    """A task that reports the number of threads."""

    version: int = 1
    threads: int = 1

    def settings(self):
        return {'threads': self.threads}

    def examine(self, engine, bag, questions):
        part = {
            'bag': bag.name,
            'threads': [torch.get_num_threads(), cv2.getNumThreads()],
            'answers': [],
            'troubles': [],
        }
        return part, {}, {'txt': b'beside'}


@dataclass(frozen=True)
class UnforeseenError(ThreadsTask):
    """A task with a bug."""

    def examine(self, engine, bag, questions):
        raise RuntimeError('out of luck')


EPISODE = EqaTask()


def question(bag, number=0):
    return EqaQuestion(f'Is the tap on? {number}', 'yes', 'state', f'{bag}-{number}', f'kitchens/{bag}')


@pytest.fixture(scope='module')
def bags(tmp_path_factory):
    folder = tmp_path_factory.mktemp('bags')
    for seed, name in enumerate('abc'):
        rng = np.random.default_rng(seed)
        with BagWriter(folder / name) as bag:
            for at in range(4):
                bag.write_frame(Frame(rng.integers(0, 255, (24, 32, 3), dtype=np.uint8), None, 10**18 + at * 10**8))
    (folder / 'b' / 'b.mcap').write_bytes(b'no bag')
    return [folder / name for name in 'abc']


@pytest.fixture
def jobs(bags):
    return match_bags(bags, [question(name, n) for name in 'cab' for n in range(2)])[0]


@pytest.fixture(scope='module')
def runner():
    """The runner of this process, with another folder and task for each test."""
    made = JobRunner('tiny', 'cpu', EPISODE, None)

    def set_up(folder, task=EPISODE):
        made.folder, made.task = folder, task
        return made

    return set_up


def test_bags_are_known_by_their_names(bags):
    jobs, without = match_bags(bags, [question('c'), question('a'), question('x')])
    assert [(job.name, len(job.questions)) for job in jobs] == [('a', 1), ('c', 1)] and without == ['b']
    for given, words in (
        ([*bags, bags[0].with_name('other') / 'a'], 'two bags are called a'),
        (bags[1:2], 'a, x'),
        ([bags[1], bags[1].with_name('2*')], r'there is no bag at .*/2\*; give a rosbag2 folder'),
    ):
        with pytest.raises(InputError, match=words):
            match_bags(given, [question('x'), question('a')])


def test_one_and_two_processes_give_the_same_parts(runner, jobs, tmp_path):
    one = run_jobs(runner(tmp_path / 'one'), jobs, 1, 'tiny', 'cpu', no_progress)
    two = run_jobs(runner(tmp_path / 'two'), jobs, 2, 'tiny', 'cpu', no_progress)
    assert [result.part for result in one] == [result.part for result in two]
    assert [result.part['bag'] for result in one] == ['a', 'b', 'c']
    assert not any(result.cached for result in one + two)
    assert 'damaged' in one[1].part['failed'] and one[1].part['answers'] == []
    assert [len(result.part['answers']) for result in one] == [2, 0, 2]
    for name in ('a.json', 'b.json', 'c.json', 'a.jpg', 'c.jpg'):
        assert (tmp_path / 'one' / name).read_bytes() == (tmp_path / 'two' / name).read_bytes()
    assert [result.part for result in stored(tmp_path / 'one')] == [result.part for result in one]
    assert stored(tmp_path / 'one')[0].times == one[0].times and stored(tmp_path / 'one')[0].cached


def test_finished_parts_are_reused_until_something_changes(runner, jobs, tmp_path):
    def cached(task=EPISODE, todo=jobs):
        return [result.cached for result in run_jobs(runner(tmp_path, task), todo, 1, 'tiny', 'cpu', no_progress)]

    assert cached(todo=jobs[:1]) == [False]
    assert cached() == [True, False, False]
    assert cached() == [True, True, True]
    assert cached(EqaTask(every=2)) == [False, False, False]
    (tmp_path / 'a.json').write_text('{"key": ')
    other = [Job(job.bag, job.questions[:1]) if job.name == 'c' else job for job in jobs]
    assert cached(EqaTask(every=2), other) == [False, True, False]


@pytest.mark.parametrize('changed', ['version', 'model', 'heads', 'environment'])
def test_a_part_is_made_again_for_another(jobs, tmp_path, changed):
    made = JobRunner('tiny', 'cpu', ThreadsTask(), tmp_path)
    assert not made.run(jobs[0]).cached and made.run(jobs[0]).cached
    if changed == 'version':
        made.task = ThreadsTask(version=2)
    elif changed == 'heads':  # the weights of M3ET itself stay the same
        checkpoint = untrained('tiny', 0)
        next(checkpoint.heads['mambavl'].parameters()).data.add_(1)
        save_checkpoint(tmp_path / 'other', checkpoint, card='')
        model = made.model
        made = JobRunner(str(tmp_path / 'other'), 'cpu', ThreadsTask(), tmp_path)
        assert made.model['weights_sha256'] == model['weights_sha256']
        made.model = model
    elif changed == 'model':
        made.model = made.model | {'weights_sha256': '0'}
    else:
        made.environment = made.environment | {'torch': '0'}
    assert not made.run(jobs[0]).cached


def test_a_bag_is_examined_on_the_threads_of_the_task(jobs, tmp_path):
    before = torch.get_num_threads(), cv2.getNumThreads()
    made = JobRunner('tiny', 'cpu', ThreadsTask(threads=3), tmp_path)
    assert made.environment['threads'] == 3
    assert made.run(jobs[0]).part['threads'] == [3, 3] and (tmp_path / 'a.txt').read_bytes() == b'beside'
    assert (torch.get_num_threads(), cv2.getNumThreads()) == before


def test_each_process_opens_the_device_of_the_run(runner, jobs, tmp_path):
    results = run_jobs(runner(tmp_path), [jobs[0], jobs[2]], 2, 'tiny', 'no-such-device', no_progress)
    assert all('a process that examined this or another bag died' in result.part['failed'] for result in results)


def test_threads_are_restored_after_an_error():
    before = torch.get_num_threads(), cv2.getNumThreads()
    with pytest.raises(RuntimeError), limited(before[0] + 2):
        assert (torch.get_num_threads(), cv2.getNumThreads()) == (before[0] + 2, before[0] + 2)
        raise RuntimeError
    assert (torch.get_num_threads(), cv2.getNumThreads()) == before


def test_an_unforeseen_error_in_one_bag_is_reported_and_not_stored(runner, jobs, tmp_path):
    result = runner(tmp_path, UnforeseenError()).run(jobs[0])
    assert 'RuntimeError: out of luck' in result.part['failed'] and not (tmp_path / 'a.json').exists()
    assert result.part['files'] and result.part['troubles'] == []


def test_a_folder_that_cannot_be_written_is_refused(runner, jobs, tmp_path):
    (tmp_path / 'file').write_text('')
    with pytest.raises(InputError, match='file.*cannot be written') as refused:
        run_jobs(runner(tmp_path / 'file'), jobs, 1, 'tiny', 'cpu', no_progress)
    assert refused.value.reason == 'out_unwritable'


def test_a_part_holds_no_time_of_this_machine(runner, jobs, tmp_path):
    runner(tmp_path).run(jobs[0])
    part, times = (json.loads((tmp_path / name).read_text()) for name in ('a.json', 'a.times.json'))
    assert set(times) == {'encode_ms', 'answer_ms', 'wall_s'}
    assert not any('ms' in name.split('_') or 'wall' in name for name in part)


def test_weights_that_are_not_finite_are_refused(tmp_path):
    made = untrained('tiny', 0)
    next(made.model.parameters()).data.fill_(float('nan'))
    save_checkpoint(tmp_path / 'broken', replace(made, heads={}), card='')
    with pytest.raises(InputError, match='not finite'):
        JobRunner(str(tmp_path / 'broken'), 'cpu', EPISODE, tmp_path)


def test_times_are_summed_over_the_bags_that_have_them(tmp_path):
    timed = JobResult({'seconds': 2.0}, {'encode_ms': [10.0, 20.0], 'answer_ms': [], 'wall_s': 0.5})
    found = write_times(tmp_path, [timed, JobResult({'seconds': 9.0}, {}), timed])
    assert found['encode_ms']['count'] == 4 and found['encode_ms']['mean'] == 15 and found['answer_ms'] is None
    assert (found['recorded_s'], found['worked_s'], found['times_real_time']) == (4.0, 1.0, 4.0)
    assert json.loads((tmp_path / 'times.json').read_text()) == found
    assert times_of([])['times_real_time'] is None


def test_metrics_repeat_the_fields_of_a_bag_but_not_its_answers():
    part = {'bag': 'a', 'files': {}, 'frames': 3, 'answers': [], 'key': 'k', 'failed': 'damaged'}
    assert bag_fields(JobResult(part, {})) == {'files': {}, 'frames': 3, 'failed': 'damaged'}
