"""Graphs in the place of the model: the same results, torch where they do not reach, and no trust without a check."""

import logging
from dataclasses import replace

import pytest
import torch

from m3et_ros.models.m3et.sizes import build
from m3et_ros.runtime import backends
from m3et_ros.runtime.backends import check, prepared
from m3et_ros.runtime.backends.graphs import graphs
from m3et_ros.runtime.backends.prepared import Prepared, prepare

PLAN = (('rgb', 'depth'),)


class Plain:
    """A backend that runs each graph in torch as it is, off by a factor where asked for."""

    name, lowers, device = 'openvino', True, 'cpu'

    def __init__(self, setting=None, factor=1.0):
        self.built, self._factor = [], factor

    def build(self, name, module, inputs):
        self.built.append(name)
        return lambda *given: [t * self._factor for t in module(*given)]


@pytest.fixture
def plain(small):
    backend = Plain()
    return Prepared(
        small,
        {
            graph.key: backend.build(graph.name, graph.module, graph.inputs)
            for graph in graphs(small, torch.float32, PLAN, 'cpu')
        },
        'plain',
    )


def images(small, batch=1):
    rng, S = torch.Generator().manual_seed(0), small.config.image_size
    return {'rgb': torch.randn(batch, 3, S, S, generator=rng), 'depth': torch.randn(batch, 1, S, S, generator=rng)}


def test_the_cut_changes_nothing(small, plain):
    assert check.largest(plain, small, PLAN) < 1e-5


def test_every_graph_is_used(small, plain):
    called = []
    plain._runners = {
        key: (lambda *given, key=key, run=run: called.append(key) or run(*given)) for key, run in plain._runners.items()
    }
    check.largest(plain, small, PLAN)
    assert (
        set(called)
        == set(plain._runners)
        == {('see', PLAN[0], False), ('listen', PLAN[0], True), ('depth', PLAN[0], False), ('depth', PLAN[0], True)}
    )


def test_what_no_graph_covers_runs_in_torch(small, plain):
    ids = torch.tensor([[1, 2, 3]])
    with torch.inference_mode():
        for given in ({'rgb': images(small)['rgb']}, images(small, 2)):
            sight, wanted = plain.encode_images(given), small.encode_images(given)
            assert all(torch.equal(a, b) for a, b in zip(sight.stages, wanted.stages))
            encoded = plain.add_text(sight, ids.expand(len(sight.source), -1))
            torch.testing.assert_close(
                plain.decode(encoded, 'depth'),
                small.decode(small.add_text(wanted, ids.expand(len(wanted.source), -1)), 'depth'),
            )


def test_a_question_about_what_a_graph_has_seen_may_be_heard_in_torch(small, plain):
    ids = torch.tensor([[1, 2], [3, 4]])
    with torch.inference_mode():
        found, wanted = (small.encode_text(which.encode_images(images(small)), ids) for which in (plain, small))
    torch.testing.assert_close(found.context, wanted.context)


def test_one_that_disagrees_does_not_serve_and_says_so(small, monkeypatch, caplog):
    monkeypatch.setattr(backends, 'missing', lambda name: '')
    monkeypatch.setattr(backends, 'make', lambda name, setting: Plain(setting, 1.01))
    with caplog.at_level(logging.WARNING):
        found, serving = prepare(small, 'openvino', plan=PLAN, keep=False)
    assert found is None and serving.name == 'torch' and 'off by 1.' in serving.reason
    assert 'openvino cannot serve' in caplog.text


def test_one_that_breaks_does_not_serve_and_says_so(small, monkeypatch):
    monkeypatch.setattr(backends, 'missing', lambda name: '')
    monkeypatch.setattr(backends, 'make', lambda name, setting: 1 / 0)
    found, serving = prepare(small, 'openvino', plan=PLAN, keep=False)
    assert found is None and serving.reason == 'openvino cannot serve (division by zero)'


@pytest.mark.skipif(torch.cuda.is_available(), reason='speaks of machines without CUDA')
def test_cuda_without_a_device_falls_back(small):
    assert prepare(small, 'cuda', plan=PLAN)[1].reason.startswith('cuda cannot serve (there is no CUDA device')


def test_progress_is_told_and_auto_follows_what_is_installed(small, monkeypatch):
    monkeypatch.setattr(backends, 'missing', lambda name: '')
    monkeypatch.setattr(backends, 'make', lambda name, setting: Plain(setting))
    told = []
    found, serving = prepare(small, 'auto', plan=PLAN, keep=False, tell=told.append)
    assert found.name == serving.name == 'openvino' and 'agrees with eager float32' in serving.reason
    assert len(told) == 5 and 'graph 1 of 4' in told[0] and '4 graphs are ready' in told[-1]
    monkeypatch.setattr(backends, 'missing', lambda name: f'{name} is not here')
    assert prepare(small, 'auto', plan=PLAN)[1].name == 'torch' and backends.automatic('cuda') == 'cuda'


def test_artefacts_of_other_weights_settings_or_sources_have_another_folder(small, monkeypatch, tmp_path):
    first = prepared._folder(small, 'openvino', 'float32')
    assert prepared._folder(small, 'openvino', 'float32') == first
    assert prepared._folder(small, 'openvino', 'bfloat16') != first
    with torch.no_grad():
        small.global_embedding.add_(1)
        changed = prepared._folder(small, 'openvino', 'float32')
        small.global_embedding.sub_(1)
    assert changed != first
    monkeypatch.setattr(prepared, 'ROOMS', ('ops',))
    assert prepared._folder(small, 'openvino', 'float32') != first


def test_values_that_are_not_finite_are_as_wrong_as_can_be():
    assert check.difference(torch.tensor([float('nan')]), torch.ones(1)) == float('inf')


@pytest.mark.parametrize('runtime, fallback', [('auto', False), ('openvino', True)])
def test_mamba_1_is_not_given_to_openvino(small, monkeypatch, runtime, fallback):
    monkeypatch.setattr(backends, 'missing', lambda name: '')
    monkeypatch.delenv('M3ET_RUNTIME', raising=False)
    monkeypatch.setattr(backends, 'make', None)  # nothing is built before it is known
    older = build(replace(small.config, mixer='mamba1', mixer_options={'N': 4})).eval()
    found, serving = prepare(older, runtime, plan=PLAN)
    assert found is None and (serving.name, serving.fallback) == ('torch', fallback)
    assert 'Mamba-1' in serving.reason
