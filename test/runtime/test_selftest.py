"""The self-test refuses a model of which any kind of output is not finite."""

import pytest
import torch

from m3et_ros.data.errors import InputError
from m3et_ros.runtime.backends.probe import probe_frame
from m3et_ros.runtime.engine import Engine
from m3et_ros.runtime.open_model import untrained
from m3et_ros.runtime.selftest import self_test


def test_a_sound_model_passes_and_its_kernels_are_reported():
    assert {choice.op for choice in self_test(Engine(untrained('tiny', 0)))} == {'selective_scan', 'ssd'}


def test_a_sound_memory_passes_and_begins_anew(episode_checkpoint):
    engine = Engine(episode_checkpoint)
    self_test(engine)
    assert engine.episode_memory.frames == 0


def test_the_action_stream_begins_anew():
    engine, fresh = (Engine(untrained('tiny', 0)) for _ in range(2))
    self_test(engine)
    found, wanted = (one.anticipate(one.encode(probe_frame(20, 20)), horizon_s=1.0, top_k=3) for one in (engine, fresh))
    assert found.next == wanted.next


@pytest.mark.parametrize(
    ('part', 'output'),
    [('encoder', 'encoder'), ('decoders.depth', 'depth'), ('decoders.semseg', 'semseg'), ('answer_head', 'answers')],
)
def test_an_output_that_is_not_finite_is_refused_by_name(part, output):
    engine = Engine(untrained('tiny', 0))
    spoil(engine.checkpoint.model.get_submodule(part))
    with pytest.raises(InputError, match=rf'not finite on the self-test picture \({output}\); its weights') as refused:
        self_test(engine)
    assert refused.value.reason == 'model_not_finite'


@pytest.mark.parametrize(
    ('head', 'part', 'output'), [('mambavl', 'noun_head', 'actions'), ('episode', 'eye', 'memory')]
)
def test_a_head_that_is_not_finite_is_refused_by_name(episode_checkpoint, head, part, output):
    engine = Engine(episode_checkpoint)
    module = episode_checkpoint.heads[head].get_submodule(part)
    weights = {name: value.clone() for name, value in module.state_dict().items()}
    spoil(module)
    try:
        with pytest.raises(InputError, match=rf'\({output}\)'):
            self_test(engine)
    finally:
        module.load_state_dict(weights)


def spoil(module):
    with torch.no_grad():
        for values in module.parameters():
            values.fill_(torch.nan)
