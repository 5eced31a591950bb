"""The token of a frame for the heads: made once a frame, by the runtime that serves."""

from dataclasses import replace

import pytest
import torch

from m3et_ros.models.actions.frame_token import frame_token, frame_width
from m3et_ros.models.actions.mambavl import MambaVL
from m3et_ros.runtime import backends
from m3et_ros.runtime.backends.graphs import text_kind
from m3et_ros.runtime.backends.probe import probe_frame
from m3et_ros.runtime.engine import Engine
from m3et_ros.runtime.frame_tokens import FrameTokens, encoded_guides, guides_shape
from m3et_ros.runtime.open_model import untrained
from m3et_ros.runtime.session import Session


@pytest.fixture
def checkpoint():
    return untrained('tiny', 0)


def encoding(checkpoint, seed):
    random = torch.Generator().manual_seed(seed)
    return checkpoint.model.eval().encode_images({'rgb': torch.randn(1, 3, 32, 32, generator=random)})


@torch.inference_mode()
def test_a_frame_is_read_once_and_the_next_one_anew(checkpoint):
    asked = []
    tokens = FrameTokens(checkpoint, lambda: asked.append(1) or checkpoint.model)
    first, second = encoding(checkpoint, 1), encoding(checkpoint, 2)
    found = tokens.read(first)
    assert found.shape == (1, 1, frame_width(checkpoint.model.config))
    assert torch.equal(found, frame_token(checkpoint.model, first, *encoded_guides(checkpoint)))
    assert tokens.read(first) is found and len(asked) == 1
    assert not torch.equal(tokens.read(second), found) and len(asked) == 2
    tokens.to(torch.device('cpu'))
    tokens.read(second)
    assert len(asked) == 3


def test_guides_are_cut_to_the_longest(checkpoint):
    ids, mask = encoded_guides(checkpoint)
    assert mask.any(0).all() and guides_shape(checkpoint) == tuple(ids.shape) == tuple(mask.shape)


def test_only_heads_that_read_guides_need_a_graph_of_them(checkpoint, episode_checkpoint):
    head = checkpoint.heads['mambavl']
    wide = MambaVL(replace(head.config, patches=4, d_in=32))
    assert guides_shape(replace(checkpoint, heads={})) is None
    assert guides_shape(replace(checkpoint, heads={'mambavl': wide})) is None
    assert guides_shape(replace(checkpoint, heads={'mambavl': head})) is not None
    assert guides_shape(replace(checkpoint, heads={'episode': episode_checkpoint.heads['episode']})) is not None


class Recorded:
    """A backend that runs each graph in torch, and notes which."""

    name, lowers, device = 'openvino', True, 'cpu'

    def __init__(self):
        self.ran = []

    def build(self, name, module, inputs):
        return lambda *given: self.ran.append(name) or list(module(*given))


def test_action_head_and_memory_read_the_graphs_once_they_serve(episode_checkpoint, checkpoint, monkeypatch):
    backend = Recorded()
    monkeypatch.setattr(backends, 'missing', lambda name: '')
    monkeypatch.setattr(backends, 'make', lambda name, setting: backend)
    both = replace(episode_checkpoint, heads=episode_checkpoint.heads | {'mambavl': checkpoint.heads['mambavl']})
    engine, frame = Engine(both), replace(probe_frame(), stamp_ns=10**9)
    in_torch = engine.anticipate(engine.encode(frame), horizon_s=1.0, top_k=3)
    engine.reset_actions()
    assert engine.prepare('openvino', modality_sets=(('rgb', 'depth'),)).name == 'openvino'
    backend.ran.clear()
    session = Session(engine)
    found = session.anticipate(session.observe(frame), horizon_s=1.0, top_k=3)
    guides = f'{text_kind(encoded_guides(both)[0])}-rgb-depth-text'
    assert backend.ran == ['encode_images-rgb-depth', guides] and engine.episode_memory.frames == 1
    for one, other in zip(found.next.actions, in_torch.next.actions, strict=True):
        assert (one.label, one.score) == (other.label, pytest.approx(other.score, rel=1e-3))
