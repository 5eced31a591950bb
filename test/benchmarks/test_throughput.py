"""The throughput benchmark: each measure does the same without itself, and its figures follow from the CPU times."""

import argparse
import io
import json

import pytest
import torch

from m3et_ros.layers import attention, mamba
from m3et_ros.training import m3et, optim
from m3et_ros.training.loop import KEPT

REPLACED = {
    'convolution': (mamba, 'causal_conv'),
    'shared_states': (mamba, 'ssd_shared'),
    'shared_attention': (attention, 'shared_attention'),
    'groups': (m3et, 'encode_questions'),
    'bias': (attention, 'scaled_attention'),
    'muon': (optim, 'orthogonalised'),
}


@pytest.fixture
def throughput(script, monkeypatch):
    """The script; what it replaces is restored."""
    for module, name in REPLACED.values():
        monkeypatch.setattr(module, name, getattr(module, name))
    yield script('throughput')
    torch.set_flush_denormal(False)


def test_without_any_measure_a_step_has_the_same_losses(throughput, caches, monkeypatch):
    kept = []
    monkeypatch.setattr('m3et_ros.runtime.heap.keep_freed_memory', kept.append)
    named = {name for name, without in throughput.MEASURES.items() if without}
    assert named == set(REPLACED)
    losses = []
    for used in (named | {'heap'}, set()):
        before = {name: getattr(*place) for name, place in REPLACED.items()}
        step, kernel = throughput.step_of(caches[0], 'tiny', 3, 2, used)
        assert kernel in ('chunked', 'native')
        replaced = {name for name, place in REPLACED.items() if getattr(*place) is not before[name]}
        assert replaced == named - used
        losses.append([step() for _ in range(3)])
    assert losses[0] == pytest.approx(losses[1], rel=0.01) and kept == [KEPT]


def test_figures_follow_from_the_times_of_all_steps_but_the_first(throughput, monkeypatch):
    class Fake:
        def __init__(self, given, used):
            self.used, self.seconds, self.losses = used, [], []

        def read(self):
            return {'kernel': 'native' if 'kernels' in self.used else 'chunked'}

        def step(self):
            self.seconds.append(99.0 if not self.seconds else 2.0 if not self.used else 0.5 + len(self.seconds) % 2)
            self.losses.append(3.0)

        def close(self):
            pass

    monkeypatch.setattr(throughput, 'Side', Fake)
    given = argparse.Namespace(rounds=4, views=16, questions=8)
    found = throughput.compared(given, {'without': set(), 'with': {'kernels'}})
    assert [side['cpu_seconds_a_step'] for side in found.values()] == [2.0, 1.0]
    assert [side['times_as_fast'] for side in found.values()] == [1.0, 2.667]  # median of 4 and 1.333
    assert [side['views_an_hour_on_2_cores'] for side in found.values()] == [57_600, 115_200]
    assert [side['questions_a_second_on_2_cores'] for side in found.values()] == [128.0, 256.0]
    assert [side['scans'] for side in found.values()] == ['chunked', 'native']


def test_a_side_gets_its_measures_and_settings(throughput, monkeypatch):
    started = []

    class Process:
        def __init__(self, words, *, env, **_):
            started.append((words, env))
            self.stdin, self.stdout = io.StringIO(), io.StringIO(json.dumps({'seconds': 0.5, 'loss': 2.0}) + '\n')

    monkeypatch.setattr(throughput.subprocess, 'Popen', Process)
    given = argparse.Namespace(data='cache', size='tiny', questions=8, views=2)
    side = throughput.Side(given, {'bias', 'groups'})
    throughput.Side(given, {'kernels'})
    (words, settings), (_, other) = started
    assert words[2:] == [
        *('--side', 'bias+groups', '--data', 'cache', '--size', 'tiny', '--questions', '8', '--views', '2')
    ]
    assert (settings['M3ET_KERNELS'], other['M3ET_KERNELS'], other['OMP_NUM_THREADS']) == ('off', 'on', '1')
    side.step()
    assert (side.seconds, side.losses) == ([0.5], [2.0])
    with pytest.raises(SystemExit, match='ended before its last step'):
        side.step()
