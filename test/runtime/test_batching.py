"""Steps of several threads in one batch: the same results, fair order, faults where they belong."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn

from m3et_ros.models.m3et.model import M3ET
from m3et_ros.models.m3et.sizes import SIZES
from m3et_ros.runtime.batching import Batcher
from m3et_ros.runtime.engine import decode_step, encode_step
from m3et_ros.runtime.tensor_trees import leaves


@pytest.fixture(scope='module')
def model():
    torch.manual_seed(0)
    return M3ET(SIZES['tiny']).eval()


def images(model, seed, *, depth=True):
    size, source = model.config.image_size, torch.Generator().manual_seed(seed)
    found = {'rgb': torch.randn(1, 3, size, size, generator=source)}
    return found | ({'depth': torch.randn(1, 1, size, size, generator=source)} if depth else {})


def doubled(_, x):
    return {'twice': 2 * x, 'count': [x.sum(1)]}


def at_once(jobs):
    """Run jobs in threads that begin together; their results."""
    gate = threading.Barrier(len(jobs))

    def run(job):
        gate.wait(10)
        with torch.inference_mode():
            return job()

    with ThreadPoolExecutor(len(jobs)) as pool:
        return list(pool.map(run, jobs))


def test_a_batch_gives_each_robot_the_results_of_running_alone(model):
    batcher = Batcher(model, window_s=10)
    batcher.clients = 3
    text = torch.tensor([[2, 5, 6, 0]]), torch.tensor([[True, True, True, False]])
    inputs = [images(model, seed) for seed in range(3)]
    found = at_once([lambda own=own: batcher.run(encode_step, own, text) for own in inputs])
    dense = at_once([lambda own=own: batcher.run(decode_step, own[1], ('depth', 'semseg')) for own in found])
    assert (batcher.batches, batcher.steps) == (2, 6)
    with torch.inference_mode():
        for own, (image_encoding, encoded), (depth, semseg) in zip(inputs, found, dense):
            alone = encode_step(model, own, text)
            for one, other in zip(leaves((image_encoding, encoded)), leaves(alone), strict=True):
                torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)
            torch.testing.assert_close(
                (depth, semseg), decode_step(model, alone[1], ('depth', 'semseg')), rtol=1e-4, atol=1e-4
            )


def test_steps_of_other_shapes_run_apart(model):
    batcher = Batcher(model, window_s=0.05)
    batcher.clients = 2
    both, colour = at_once(
        [
            lambda: batcher.run(encode_step, images(model, 0), ()),
            lambda: batcher.run(encode_step, images(model, 1, depth=False), ()),
        ]
    )
    assert list(both[0].tokens) == ['rgb', 'depth'] and list(colour[0].tokens) == ['rgb']
    assert (batcher.batches, batcher.steps) == (2, 2)


def test_no_step_waits_beyond_its_window_or_once_all_clients_wait(model):
    batcher = Batcher(nn.Identity(), window_s=0.2)
    batcher.clients = 5
    start = time.monotonic()
    assert batcher.run(doubled, torch.ones(1, 2))['twice'].tolist() == [[2, 2]]
    assert time.monotonic() - start >= 0.2
    patient = Batcher(nn.Identity(), window_s=600)
    patient.clients = 2
    counts = at_once(
        [lambda n=n: patient.run(doubled, torch.full((1, n + 1), 1.0))['count'][0].item() for n in range(2)]
    )
    assert counts == [1, 2] and patient.batches == 2


def test_the_oldest_goes_first_and_no_batch_is_larger_than_allowed():
    order, batcher = [], Batcher(nn.Identity(), window_s=0.001, most=2)
    busy, go = threading.Event(), threading.Event()

    def slow(_, x):
        busy.set()
        go.wait(10)
        return x

    def noted(_, x):
        order.append(x[:, 0].tolist())
        return x

    with ThreadPoolExecutor(6) as pool:
        first = pool.submit(batcher.run, slow, torch.zeros(1, 1))
        busy.wait(10)
        waiting = []
        for number in range(5):
            waiting.append(pool.submit(batcher.run, noted, torch.full((1, 1), float(number))))
            end = time.monotonic() + 10
            while batcher.waiting <= number and time.monotonic() < end:
                time.sleep(0.001)
        go.set()
        assert [job.result(10).item() for job in waiting] == [0, 1, 2, 3, 4]
        first.result(10)
    assert order == [[0, 1], [2, 3], [4]]


def test_a_fault_reaches_only_its_own_caller():
    def picky(_, x):
        if (x < 0).any():
            raise ValueError('negative')
        return x

    batcher = Batcher(nn.Identity(), window_s=600)
    batcher.clients = 3

    def outcome(value):
        try:
            return batcher.run(picky, torch.full((1, 1), value)).item()
        except ValueError as error:
            return str(error)

    assert at_once([lambda v=v: outcome(v) for v in (1.0, -1.0, 2.0)]) == [1, 'negative', 2]


@pytest.mark.parametrize('options', [{'window_s': 0}, {'window_s': 0.1, 'most': 1}])
def test_windows_and_sizes_that_make_no_sense_are_refused(options):
    with pytest.raises(ValueError, match='give more than 0 and at least 2'):
        Batcher(nn.Identity(), **options)


@pytest.mark.parametrize(
    ('one', 'other'),
    [
        ((torch.ones(1, 2),), (torch.ones(1, 2, dtype=torch.float64),)),
        ((torch.ones(1, 2), 'a'), (torch.ones(1, 2), 'b')),
        (({'x': torch.ones(1, 2)},), ({'y': torch.ones(1, 2)},)),
        (([torch.ones(1, 2)],), ((torch.ones(1, 2),),)),
    ],
    ids=['dtype', 'value', 'names', 'structure'],
)
def test_steps_with_other_arguments_run_apart(one, other):
    batcher = Batcher(nn.Identity(), window_s=10)
    batcher.clients = 2
    at_once([lambda args=args: batcher.run(first, *args) for args in (one, other)])
    assert (batcher.batches, batcher.steps) == (2, 2)
    batcher.batches = batcher.steps = 0
    at_once([lambda: batcher.run(first, *one) for _ in range(2)])
    assert (batcher.batches, batcher.steps) == (1, 2)


def first(_, *given):
    return given[0]
