"""Two workers of a local Ray cluster give the same parts as one process."""

import sys

import numpy as np
import pytest

from m3et_ros.data.bags.writer import BagWriter
from m3et_ros.data.datasets.openeqa import EqaQuestion
from m3et_ros.data.errors import InputError
from m3et_ros.data.frame import Frame
from m3et_ros.data.progress import no_progress
from m3et_ros.evaluation.jobs import JobRunner, match_bags, run_jobs
from m3et_ros.evaluation.jobs_ray import LOCAL, run_on_ray
from m3et_ros.evaluation.tasks.eqa import EqaTask


@pytest.fixture
def work(tmp_path):
    """The runner of this process and three jobs, one of them on a damaged bag."""
    for seed, name in enumerate('abc'):
        rng = np.random.default_rng(seed)
        with BagWriter(tmp_path / name) as bag:
            for at in range(3):
                bag.write_frame(Frame(rng.integers(0, 255, (24, 32, 3), dtype=np.uint8), None, 10**18 + at * 10**8))
    (tmp_path / 'b' / 'b.mcap').write_bytes(b'no bag')
    asked = [EqaQuestion('Is the tap on?', 'yes', 'state', f'{name}-0', f'kitchens/{name}') for name in 'abc']
    return JobRunner('tiny', 'cpu', EqaTask(), tmp_path / 'one'), match_bags(
        [tmp_path / name for name in 'abc'], asked
    )[0]


def test_two_workers_of_a_cluster_give_the_same_parts(work, tmp_path):
    pytest.importorskip('ray', reason="Ray is not installed; pip install 'm3et_ros[ray]'")
    runner, jobs = work
    alone = run_jobs(runner, jobs, 1, 'tiny', 'cpu', no_progress)
    runner.folder = tmp_path / 'ray'
    found = run_on_ray(runner, jobs, 2, LOCAL, 'tiny', 'cpu', no_progress)
    assert [result.part for result in found] == [result.part for result in alone]
    assert 'damaged' in found[1].part['failed'] and (tmp_path / 'ray' / 'c.json').exists()
    assert all(result.cached for result in run_on_ray(runner, jobs[::2], 2, LOCAL, 'tiny', 'cpu', no_progress))


def test_without_ray_a_sentence_says_what_to_install(work, monkeypatch):
    runner, jobs = work
    monkeypatch.setitem(sys.modules, 'ray', None)
    with pytest.raises(InputError, match=r'pip install .m3et_ros\[ray\]'):
        run_on_ray(runner, jobs, 2, LOCAL, 'tiny', 'cpu', no_progress)
