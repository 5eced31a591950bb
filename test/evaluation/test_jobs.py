"""Many bags: one or two processes give the same parts, what is finished is kept, one bad bag costs no other."""

import json
from dataclasses import replace

import numpy as np
import pytest

from m3et_ros.data.bags.writer import BagWriter
from m3et_ros.data.checkpoints.m3et import save_checkpoint
from m3et_ros.data.datasets.openeqa import EqaQuestion
from m3et_ros.data.errors import InputError
from m3et_ros.data.frame import Frame
from m3et_ros.data.progress import no_progress
from m3et_ros.evaluation.jobs import Job, JobRunner, match_bags, run_jobs, stored
from m3et_ros.evaluation.tasks.eqa import EqaTask
from m3et_ros.runtime.open_model import untrained


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
def work():
    """The worker of this process, told where and how."""
    made = JobRunner('tiny', 'cpu', EqaTask(), None)

    def tell(folder, task=EqaTask()):
        made.folder, made.task = folder, task
        return made

    return tell


def test_bags_are_known_by_their_names(bags):
    jobs, without = match_bags(bags, [question('c'), question('a'), question('x')])
    assert [(job.name, len(job.questions)) for job in jobs] == [('a', 1), ('c', 1)] and without == ['b']
    for given, words in (([*bags, bags[0].with_name('other') / 'a'], 'two bags are called a'), (bags[1:2], 'a, x')):
        with pytest.raises(InputError, match=words):
            match_bags(given, [question('x'), question('a')])


def test_one_or_two_processes_and_a_bad_bag(work, jobs, tmp_path):
    one = run_jobs(work(tmp_path / 'one'), jobs, 1, 'tiny', 'cpu', no_progress)
    two = run_jobs(work(tmp_path / 'two'), jobs, 2, 'tiny', 'cpu', no_progress)
    assert [done.part for done in one] == [done.part for done in two]
    assert [done.part['bag'] for done in one] == ['a', 'b', 'c'] and not any(done.cached for done in one + two)
    assert 'damaged' in one[1].part['failed'] and one[1].part['answers'] == []
    assert [len(done.part['answers']) for done in one] == [2, 0, 2]
    for name in ('a.json', 'b.json', 'c.json', 'a.jpg', 'c.jpg'):
        assert (tmp_path / 'one' / name).read_bytes() == (tmp_path / 'two' / name).read_bytes()
    assert [done.part for done in stored(tmp_path / 'one')] == [done.part for done in one]


def test_what_is_finished_is_kept_and_what_changed_is_not(work, jobs, tmp_path):
    def kept(task=EqaTask(), todo=jobs):
        return [done.cached for done in run_jobs(work(tmp_path, task), todo, 1, 'tiny', 'cpu', no_progress)]

    assert kept(todo=jobs[:1]) == [False]
    assert kept() == [True, False, False]
    assert kept() == [True, True, True]
    assert kept(EqaTask(every=2)) == [False, False, False]
    (tmp_path / 'a.json').write_text('{"key": ')
    other = [Job(job.bag, job.questions[:1]) if job.name == 'c' else job for job in jobs]
    assert kept(EqaTask(every=2), other) == [False, True, False]


def test_a_surprise_in_one_bag_is_told_and_not_kept(work, jobs, tmp_path, monkeypatch):
    def fail(engine, task, bag, questions):
        raise RuntimeError('out of luck')

    monkeypatch.setattr(jobs_module, 'examine', fail)
    done = work(tmp_path).run(jobs[0])
    assert 'RuntimeError: out of luck' in done.part['failed'] and not (tmp_path / 'a.json').exists()


def test_no_room_for_a_part_is_a_sentence(work, jobs, tmp_path):
    (tmp_path / 'file').write_text('')
    with pytest.raises(InputError, match='file.*cannot be written') as refused:
        run_jobs(work(tmp_path / 'file'), jobs, 1, 'tiny', 'cpu', no_progress)
    assert refused.value.reason == 'out_unwritable'


def test_a_part_holds_no_time_of_this_machine(work, jobs, tmp_path):
    work(tmp_path).run(jobs[0])
    part, times = (json.loads((tmp_path / name).read_text()) for name in ('a.json', 'a.times.json'))
    assert set(times) == {'encode_ms', 'answer_ms', 'wall_s'}
    assert not any('ms' in name.split('_') or 'wall' in name for name in part)


def test_weights_that_are_no_numbers_are_refused(tmp_path):
    made = untrained('tiny', 0)
    next(made.model.parameters()).data.fill_(float('nan'))
    save_checkpoint(tmp_path / 'broken', replace(made, heads={}), card='')
    with pytest.raises(InputError, match='not finite'):
        JobRunner(str(tmp_path / 'broken'), 'cpu', EqaTask(), tmp_path)
