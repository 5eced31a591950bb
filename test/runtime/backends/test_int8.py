"""int8 on a model of two layers: quantised by NNCF on a kitchen, recorded, loaded again, and refused where unbuilt."""

import signal
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from m3et_ros.data.checkpoints.m3et import random_checkpoint
from m3et_ros.data.errors import InputError
from m3et_ros.data.kitchen.cache.generate import generate
from m3et_ros.data.kitchen.labels import corpus, kitchen_labels
from m3et_ros.data.tokenizer import Tokenizer
from m3et_ros.models.m3et.sizes import build
from m3et_ros.runtime.backends import check, int8
from m3et_ros.runtime.backends.graphs import graphs
from m3et_ros.runtime.backends.int8 import CalibrationCache, Quantiser, open_calibration
from m3et_ros.runtime.backends.openvino import core
from m3et_ros.runtime.backends.prepared import artefact_folder, prepare
from m3et_ros.runtime.engine import Engine
from m3et_ros.runtime.machine import cache

SETS = (('rgb', 'depth'),)
VIEWS = 3

pytestmark = pytest.mark.timeout(900)  # quantising takes seconds, on a machine at work minutes


@pytest.fixture(autouse=True)
def _vnni(monkeypatch):
    """Let this CPU do what one with VNNI does, if less exactly."""
    monkeypatch.setattr(int8, 'lacks_vnni', lambda: False)


def kitchens(folder, *seeds):
    drawn = {'size': 32, 'frames': 3, 'stride': 20, 'backend': 'raycast', 'version': 1}
    return generate(folder, seeds=range(*seeds), workers=0, progress=False, **drawn)


@pytest.fixture(scope='module')
def tokenizer(small):
    return Tokenizer.train(corpus(), vocabulary=small.config.vocabulary)


@pytest.fixture(scope='module')
def checkpoint(small, tokenizer):
    """The model without depth: two graphs, each of which NNCF needs ten seconds for."""
    answering = build(replace(small.config, tasks=('text',)))
    return replace(random_checkpoint(small.config, tokenizer, kitchen_labels()), model=answering)


@pytest.fixture(scope='module')
def kitchen(tmp_path_factory):
    return kitchens(tmp_path_factory.mktemp('kitchens'), 7, 10)


@pytest.fixture
def calibration(kitchen, tokenizer, monkeypatch, tmp_path):
    monkeypatch.setenv('M3ET_CACHE', str(tmp_path / 'cache'))
    monkeypatch.setattr(int8, 'VIEWS', VIEWS)
    return open_calibration(kitchen, tokenizer)


def test_it_is_built_by_a_calibration_and_serves_without_one(checkpoint, calibration, monkeypatch):
    answering = checkpoint.model.eval()
    core()
    openvino = sys.modules['openvino']  # imported here it would bring its telemetry
    before = openvino.Core
    monkeypatch.setitem(check.TOLERANCES, 'int8', 10.0)  # random weights, and sums that saturate without VNNI
    found, serving = prepare(answering, 'openvino', precision='int8', modality_sets=SETS, calibration=calibration)
    assert serving.name == 'openvino' and serving.reason.startswith('int8, agrees'), serving.reason
    # NNCF took the one Core of this process: after a second one a signal would end it.
    assert openvino.Core is before and core() is core()
    signal.signal(signal.SIGUSR1, lambda *_: None)
    signal.raise_signal(signal.SIGUSR1)
    # It is not the graph of float32, which agrees to its rounding.
    assert check.largest_difference(found, answering, SETS) > check.TOLERANCES['float32']
    blobs = sorted(cache().rglob('*.blob'))
    assert len(blobs) == 2 and {blob.parent.name for blob in blobs} == {calibration.digest}
    monkeypatch.setattr(Quantiser, '__call__', None)  # nothing is quantised a second time
    again, serving = prepare(answering, 'openvino', precision='int8', modality_sets=SETS)
    assert serving.name == 'openvino' and again.runners.keys() == found.runners.keys()
    engine = Engine(checkpoint)
    assert engine.prepare('openvino', precision='int8', modality_sets=SETS).name == 'openvino'
    assert engine.dtype == torch.float32
    blobs[0].unlink()
    found, serving = prepare(answering, 'openvino', precision='int8', modality_sets=SETS)
    assert found is None and 'is missing or damaged; run m3et build openvino again' in serving.reason


def test_another_cache_is_another_calibration(calibration, tokenizer, tmp_path, monkeypatch):
    other = CalibrationCache(kitchens(tmp_path, 11, 12), tokenizer)
    assert other.digest != calibration.digest == CalibrationCache(calibration.cache, tokenizer).digest
    before = calibration.digest
    monkeypatch.setattr(int8, 'VIEWS', VIEWS + 1)
    assert calibration.digest != before


def test_every_graph_is_calibrated_on_inputs_of_its_shapes(small, calibration):
    sets = (*SETS, ('rgb',))
    guides = (2, 3)
    quantiser = Quantiser(calibration, small, sets, guides)
    for graph in graphs(small, torch.float32, sets, 'cpu', guides):
        found = quantiser.inputs(graph)
        assert len(found) == VIEWS
        for inputs in found:
            assert [(t.shape, t.dtype) for t in inputs] == [(t.shape, t.dtype) for t in graph.inputs], graph.name
        assert not all(torch.equal(a, b) for a, b in zip(found[0], found[1])), graph.name


def test_a_cache_of_test_kitchens_is_refused(tokenizer, tmp_path):
    with pytest.raises(InputError, match='holds test kitchens, on which nothing may be fitted') as refused:
        open_calibration(kitchens(tmp_path, 20_003, 20_004), tokenizer)
    assert refused.value.reason == 'test_cache'
    with pytest.raises(InputError, match='is not a cache'):
        open_calibration(Path('nowhere'), tokenizer)


@pytest.mark.parametrize(
    ('runtime', 'reason', 'words'),
    [
        ('auto', 'parameter', 'precision is int8 and runtime is auto; set runtime to openvino'),
        ('torch', 'parameter', 'set runtime to openvino'),
        ('openvino', 'graphs_missing', '--precision int8 --threads 1 --calibrate CACHE'),
    ],
)
def test_a_robot_is_refused_int8_that_was_not_built(small, tokenizer, monkeypatch, tmp_path, runtime, reason, words):
    monkeypatch.setenv('M3ET_CACHE', str(tmp_path))
    engine = Engine(random_checkpoint(small.config, tokenizer, kitchen_labels()))
    with pytest.raises(InputError, match=words) as refused:
        engine.prepare(runtime, precision='int8', modality_sets=SETS)
    assert refused.value.reason == reason


def test_a_record_of_another_user_is_not_followed(small, monkeypatch, tmp_path):
    monkeypatch.setenv('M3ET_CACHE', str(tmp_path))
    folder = artefact_folder(small, 'openvino', 'int8')
    folder.mkdir(parents=True)
    (folder / int8.RECORD).write_text('abc')
    int8.check_built(folder, 'openvino', 1)
    (folder / int8.RECORD).chmod(0o666)
    with pytest.raises(InputError, match='no int8 graphs'):
        int8.check_built(folder, 'openvino', 1)


def test_a_cpu_without_vnni_and_adaptive_tokens_have_no_int8(small, tokenizer, monkeypatch):
    checkpoint = random_checkpoint(small.config, tokenizer, kitchen_labels())
    with pytest.raises(InputError, match='set tokens to full'):
        Engine(checkpoint, tokens='adaptive').prepare('openvino', precision='int8', modality_sets=SETS)
    monkeypatch.setattr(int8, 'lacks_vnni', lambda: True)
    with pytest.raises(InputError, match='this CPU has no VNNI'):
        Engine(checkpoint).prepare('openvino', precision='int8', modality_sets=SETS)
