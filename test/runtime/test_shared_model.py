"""One model for several engines of a process."""

import gc

import numpy as np
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


def test_the_model_stands_where_the_last_one_who_works_wants_it():
    # The meta device stands for an accelerator: weights that are there are not on the CPU.
    _, shared = SharedModels().open('tiny')
    one, other = (type('User', (), {})() for _ in range(2))
    cpu, away = torch.device('cpu'), torch.device('meta')
    weight = next(shared.model.parameters())
    assert shared.place(one, cpu, torch.float32) == cpu and weight.device == cpu
    assert shared.place(other, away, torch.float32) == away
    assert shared.place(one, cpu, torch.float32) == away
    assert next(shared.model.parameters()).device == away


def test_bfloat16_stays_while_somebody_wants_it():
    _, shared = SharedModels().open('tiny')
    one, other = (type('User', (), {})() for _ in range(2))
    shared.place(one, torch.device('cpu'), torch.bfloat16)
    shared.place(other, torch.device('cpu'), torch.float32)
    assert next(shared.model.parameters()).dtype == torch.bfloat16


def test_what_nobody_uses_is_forgotten_and_engines_that_are_gone_do_not_count():
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


def test_a_shared_model_runs_by_torch_and_says_so():
    engine, told = opened(SharedModels()), []
    assert engine.prepare('openvino', tell=told.append).name == 'torch'
    assert 'run it by torch, not by openvino' in told[0]
