"""OpenVINO beside torch: real child processes build the graphs of a model of two layers, and an engine takes them."""

import ctypes
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace

import psutil
import pytest
import torch

from m3et_ros.data.checkpoints.m3et import random_checkpoint
from m3et_ros.data.kitchen.labels import corpus, kitchen_labels
from m3et_ros.data.tokenizer import Tokenizer
from m3et_ros.models.actions.mambavl import MambaVL
from m3et_ros.models.m3et.sizes import build
from m3et_ros.ops import native
from m3et_ros.runtime import backends
from m3et_ros.runtime.backends import background, waits_for_openvino
from m3et_ros.runtime.backends.probe import probe_frame
from m3et_ros.runtime.engine import Engine
from m3et_ros.runtime.machine import cache
from m3et_ros.runtime.open_model import action_config
from m3et_ros.runtime.shared_model import SharedModel

SETS = (('rgb',),)

pytestmark = [
    pytest.mark.skipif(bool(backends.missing('openvino')), reason=backends.missing('openvino')),
    pytest.mark.timeout(900),
]  # exporting takes seconds, on a machine at work minutes


@pytest.fixture
def engine_of(small, monkeypatch, tmp_path):
    """Make engines whose graphs are for colour alone; they share a cache and are closed at the end."""
    monkeypatch.setenv('M3ET_CACHE', str(tmp_path / 'cache'))
    monkeypatch.setattr(background, 'NICE', 0)  # a child that gives way would never end on a machine at work
    engines = []

    tokenizer = Tokenizer.train(corpus(), vocabulary=small.config.vocabulary)

    def make(precision='float32', shared=None, tokens='full'):
        heads = {'mambavl': MambaVL(action_config(small.config, kitchen_labels()))}
        checkpoint = random_checkpoint(small.config, tokenizer, kitchen_labels(), heads=heads)
        if shared is not None:
            checkpoint = replace(checkpoint, model=shared.model)
        engine = Engine(checkpoint, shared=shared, tokens=tokens)
        engines.append((engine, []))
        engine.prepare('auto', precision=precision, modality_sets=SETS, report=engines[-1][1].append)
        return engines[-1]

    yield make
    for engine, _ in engines:
        engine.close()


def until(condition):
    end = time.monotonic() + 600
    while not condition():
        assert time.monotonic() < end, 'the condition stayed false'
        time.sleep(0.01)


def children():
    """Return the processes that build, each with its niceness."""
    found = []
    for child in psutil.Process().children():
        with suppress(psutil.Error):  # it has just ended
            if background.BUILDER in child.cmdline():
                found.append((child, child.nice()))
    return found


def ready(engine):
    assert not engine.serving.fallback, engine.serving.reason
    return 'until the next frame' in engine.serving.reason


def picture():
    return replace(probe_frame(), depth=None)


def test_torch_serves_until_the_graphs_are_there(engine_of, monkeypatch, caplog):
    engine, lines = engine_of()
    assert (engine.serving.name, engine.serving.reason) == ('torch', 'while openvino is being built')
    before = engine.encode(picture()).encoded.context
    engine.start_build()
    until(children)
    assert engine.serving.name == 'torch' and engine.serving.reason.startswith('while openvino is being built')
    until(lambda: ready(engine))
    assert children() == [] and engine.serving.name == 'torch'
    after = engine.encode(picture()).encoded.context
    assert engine.serving.name == 'openvino' and 'agrees with eager float32' in engine.serving.reason
    torch.testing.assert_close(after, before, atol=1e-4, rtol=1e-4)
    assert not torch.equal(after, before)
    assert 'by a process of its own' in lines[0] and 'graph 1 of 5' in lines[1]
    assert 'takes over' in lines[-1] and len(lines) == 8
    assert [path.name for path in cache().rglob('encode_text_3x4*.blob')] == ['encode_text_3x4-rgb-text.blob']

    # A second start takes the stored graphs: no child could build them.
    with monkeypatch.context() as patch:
        patch.setattr(background, 'BUILDER', 'm3et_ros.none')
        again, lines = engine_of()
        again.start_build()
        until(lambda: ready(again))
        assert len(lines) == 1 and torch.equal(again.encode(picture()).encoded.context, after)

    # A graph that cannot be read is built again.
    blob = next(cache().rglob('depth-rgb.blob'))
    whole = blob.stat().st_size
    blob.write_bytes(blob.read_bytes()[: whole // 2])
    spoilt, _ = engine_of()
    with caplog.at_level(logging.WARNING):
        spoilt.start_build()
        until(lambda: ready(spoilt))
    assert 'depth-rgb.blob cannot be read' in caplog.text and blob.stat().st_size > 0.9 * whole


@pytest.mark.parametrize('precision', ['float32', 'bfloat16'])
def test_after_a_failed_build_torch_goes_on_as_it_was(engine_of, monkeypatch, caplog, precision):
    monkeypatch.setattr(background, 'BUILDER', 'm3et_ros.none')
    engine, _ = engine_of(precision)
    before = engine.encode(picture()).encoded.context
    with caplog.at_level(logging.WARNING):
        engine.start_build()
        until(lambda: engine.serving.fallback)
    assert engine.serving.name == 'torch' and 'No module named' in engine.serving.reason
    assert caplog.text.count('torch goes on') == 1
    assert torch.equal(engine.encode(picture()).encoded.context, before) and engine.serving.fallback


def test_the_reason_of_a_child_that_fails_is_that_of_the_engine(engine_of, tmp_path):
    engine, _ = engine_of()
    (tmp_path / 'cache').write_text('no folder')
    engine.start_build()
    until(lambda: engine.serving.fallback)
    assert 'cannot be made' in engine.serving.reason and children() == []


def test_closing_ends_the_child_and_says_nothing(engine_of, monkeypatch, caplog):
    monkeypatch.setattr(background, 'NICE', 19)
    engine, _ = engine_of()
    engine.start_build()
    until(lambda: [nice for _, nice in children()] == [19])
    engine.close()
    assert children() == [] and not engine.serving.fallback and caplog.text == ''
    engine.start_build()
    engine.close()
    assert children() == [] and engine.encode(picture()).encoded is not None


def sharing(small, window_s):
    tokenizer = Tokenizer.train(corpus(), vocabulary=small.config.vocabulary)
    return SharedModel(random_checkpoint(small.config, tokenizer, kitchen_labels()), window_s=window_s, most=2)


def test_engines_that_share_a_model_share_its_graphs(engine_of, small):
    shared = sharing(small, 1)
    (one, lines), (other, silent) = (engine_of(shared=shared) for _ in range(2))
    before = one.encode(picture()).encoded.context
    for engine in (one, other):
        engine.start_build()
    other.close()  # a robot that goes takes no graphs from the others
    until(lambda: ready(one))
    assert 'takes over' in lines[-1] and not silent
    late, _ = engine_of(shared=shared)
    batches = shared.batcher.batches
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda engine: [engine.encode(picture()) for _ in range(20)], (one, late)))
    assert one.serving.name == late.serving.name == 'openvino' and one._runner is late._runner
    assert shared.batcher.batches == batches
    for view in (*found[0], *found[1]):
        assert torch.equal(view.encoded.context, found[0][0].encoded.context)
    torch.testing.assert_close(found[0][0].encoded.context, before, atol=1e-4, rtol=1e-4)


def test_the_build_of_engines_that_share_a_model_ends_with_the_last_of_them(engine_of, small):
    engines = [engine_of(shared=shared)[0] for shared in [sharing(small, 0)] * 2]
    engines[0].start_build()
    until(children)
    engines[0].close()
    assert children()
    engines[1].close()
    assert not children()


def test_auto_waits_for_openvino_where_that_serves(small, monkeypatch):
    assert waits_for_openvino(small, 'cpu') and not waits_for_openvino(small, 'cuda')
    older = build(replace(small.config, mixer='mamba1', mixer_options={'N': 4})).eval()
    monkeypatch.setattr(native, '_library', None)
    assert not waits_for_openvino(older, 'cpu')
    monkeypatch.setattr(native, '_library', ctypes.CDLL(None))
    assert waits_for_openvino(older, 'cpu')
    monkeypatch.setenv('M3ET_RUNTIME', 'torch')
    assert not waits_for_openvino(small, 'cpu')
    monkeypatch.delenv('M3ET_RUNTIME')
    monkeypatch.setattr(backends, 'missing', lambda name: 'it is not here')
    assert not waits_for_openvino(small, 'cpu')


def test_a_stream_of_adaptive_tokens_goes_on_when_the_graphs_take_over(engine_of):
    engine, lines = engine_of(tokens='adaptive')
    frames = [replace(picture(), stamp_ns=n * 10**8) for n in range(3)]
    whole, part = (engine.encode(frame, stream=True) for frame in frames[:2])
    assert engine.serving.name == 'torch'
    engine.start_build()
    until(lambda: ready(engine))
    after = engine.encode(frames[2], stream=True)
    assert engine.serving.name == 'openvino' and 'graph 1 of 7' in lines[1]
    assert {path.name for path in cache().rglob('encode_part*')} == {'encode_part_1-rgb.blob', 'encode_part_2-rgb.blob'}
    assert (whole.share, part.share, after.share, engine.tokens) == (1, 1 / 4, 1 / 4, 'adaptive')
    # Nothing moves, so that every encoding is that of the whole frame.
    torch.testing.assert_close(after.encoded.context, whole.encoded.context, atol=1e-4, rtol=1e-4)
    assert not torch.equal(after.encoded.context, part.encoded.context)


def test_the_last_line_of_a_process_is_its_reason(tmp_path):
    with (tmp_path / 'said').open('w+b') as file:
        assert background.last_line(file) == 'it said nothing'
        file.write(b'x' * 5000 + b'\nValueError: because\n\n')
        assert background.last_line(file) == 'ValueError: because'
