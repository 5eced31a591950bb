"""One model for several engines of a process."""

import gc

import numpy as np
import pytest
import torch

from m3et_ros.data.frame import Frame
from m3et_ros.runtime.engine import Engine
from m3et_ros.runtime.shared_model import Models, SharedModels


def opened(models, **options):
    checkpoint, shared = models.open('tiny')
    return Engine(checkpoint, shared=shared, **options)


def test_engines_of_the_same_weights_share_the_model_and_nothing_else():
    models = SharedModels()
    one, other = opened(models), opened(models)
    assert one.checkpoint.model is other.checkpoint.model
    assert one.checkpoint.heads['mambavl'] is not other.checkpoint.heads['mambavl']
    fresh = opened(Models())
    assert fresh.checkpoint.model is not one.checkpoint.model
    view = one.encode(Frame(np.full((8, 8, 3), 99, np.uint8), None, 1))
    alone = fresh.encode(Frame(np.full((8, 8, 3), 99, np.uint8), None, 1))
    torch.testing.assert_close(view.encoded.context, alone.encoded.context)


def test_the_model_stays_on_the_accelerator_while_an_engine_needs_it_there():
    # The meta device stands for an accelerator: weights that are there are not on the CPU.
    _, shared = SharedModels().open('tiny')
    one, other = (type('User', (), {})() for _ in range(2))
    cpu, away = torch.device('cpu'), torch.device('meta')
    weight = next(shared.model.parameters())
    assert shared.move(one, cpu, torch.float32) == cpu and weight.device == cpu
    assert shared.move(other, away, torch.float32) == away
    assert shared.move(one, cpu, torch.float32) == away
    assert next(shared.model.parameters()).device == away


def test_bfloat16_stays_while_an_engine_asks_for_it():
    _, shared = SharedModels().open('tiny')
    one, other = (type('User', (), {})() for _ in range(2))
    shared.move(one, torch.device('cpu'), torch.bfloat16)
    shared.move(other, torch.device('cpu'), torch.float32)
    assert next(shared.model.parameters()).dtype == torch.bfloat16


def test_unused_models_are_dropped_and_deleted_engines_do_not_count():
    models = SharedModels(window_s=0.01)
    one, other = opened(models), opened(models)
    shared = one._shared
    assert shared.batcher.clients == 2
    del other
    gc.collect()
    one.to('cpu')
    assert shared.batcher.clients == 1
    del one, shared
    gc.collect()
    assert not models._known


@pytest.mark.parametrize(('window_s', 'batches'), [(0.0, False), (1e-6, True)])
def test_a_window_turns_batches_on(window_s, batches):
    _, shared = SharedModels(window_s=window_s).open('tiny')
    assert (shared.batcher is not None) == batches


def test_the_size_of_batches_is_passed_on():
    with pytest.raises(ValueError, match=r'window_s is 0\.5 and most 1; give'):
        SharedModels(window_s=0.5, most=1).open('tiny')
    SharedModels(window_s=0.5, most=2).open('tiny')


def test_the_seed_of_random_weights_is_passed_on():
    for models in (Models(), SharedModels()):
        assert models.open('tiny', seed=7)[0].model_id == 'tiny-random-7'


def test_a_shared_model_runs_by_torch_where_graphs_are_for_one_thread_and_says_so():
    engine, lines = opened(SharedModels()), []
    assert engine.prepare('compile', report=lines.append).name == 'torch'
    assert 'run it by torch, not by compile' in lines[0]


def test_what_engines_share_is_built_once_for_a_setting():
    _, shared = SharedModels().open('tiny')
    built = [shared.graphs(setting, object) for setting in ('one', 'other', 'one')]
    assert built[0] is built[2] and built[0] is not built[1]
    with pytest.raises(ZeroDivisionError):
        shared.graphs('third', lambda: 1 / 0)
    assert shared.graphs('third', lambda: 3) == 3
