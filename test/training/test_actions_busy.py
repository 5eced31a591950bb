"""A head learns last whether anything is being done, and nothing else of it changes."""

import numpy as np
import pytest
import torch
from action_world import LABELS, WIDTH, build, world

from m3et_ros.data.kitchen.labels import corpus
from m3et_ros.data.tokenizer import Tokenizer
from m3et_ros.evaluation.tasks.actions import Examiner, examine_busy
from m3et_ros.models.actions.mambavl import MambaVL
from m3et_ros.training.actions import frames_seen, teach_busy


@pytest.fixture(scope='module')
def tokenizer():
    return Tokenizer.train(corpus(), vocabulary=200)


def test_it_is_told_from_frames_never_seen(tokenizer):
    head = build(tokenizer, busy=24, fade=2)
    before = {name: value.clone() for name, value in head.state_dict().items() if not name.startswith('busy_head')}
    loss = teach_busy(head, *world(60, 1))
    assert all(torch.equal(value, head.state_dict()[name]) for name, value in before.items())
    found = examine_busy(Examiner(head, *world(10, 2), tokenizer, LABELS, 20))
    assert loss < 0.5 and found['accuracy']['value'] > 0.8 and found['auroc'] > 0.85
    assert found['frames'] == 1000 and found['within'] == np.mean([e.now() >= 0 for e in world(10, 2)[1]])


def test_the_same_seed_teaches_the_same(tokenizer):
    heads = [build(tokenizer, busy=8) for _ in range(2)]
    assert teach_busy(heads[0], *world(4, 1)) == teach_busy(heads[1], *world(4, 1))
    assert all(torch.equal(a, b) for a, b in zip(heads[0].parameters(), heads[1].parameters()))


def test_frames_are_seen_as_a_stream_sees_them(tokenizer):
    head, (tokens, episodes) = build(tokenizer, busy=8), world(2, 1)
    seen, under_way = frames_seen(head, tokens, episodes)
    state = head.init_stream(1)
    for place in range(3):
        state = head.update(state, torch.from_numpy(tokens[100 + place]).float().view(1, 1, WIDTH))
    torch.testing.assert_close(head.seen(state)[0], seen[102], atol=1e-5, rtol=0)
    assert under_way.tolist() == [n >= 0 for e in episodes for n in e.now()]


def test_a_head_without_the_layer_says_so(tokenizer):
    head: MambaVL = build(tokenizer)
    with pytest.raises(ValueError, match='build it with busy > 0'):
        head.busy(torch.zeros(1, 24))
