"""A cache that grows by a token: within its buffer, and never at the cost of a state that others hold."""

import pytest
import torch

from m3et_ros.layers.kv_cache import SPARE_TOKENS, AttentionState


def token():
    return torch.randn(2, 3, 1, 4), torch.randn(2, 3, 1, 4)


def grown(state, tokens):
    for k, v in tokens:
        state = state.extended(k, v, None)
    return state


@pytest.fixture
def start():
    return AttentionState(torch.randn(2, 3, 5, 4), torch.randn(2, 3, 5, 4), None)


@torch.inference_mode()
def test_it_holds_every_token_added(start):
    tokens = [token() for _ in range(SPARE_TOKENS + 3)]
    state = grown(start, tokens)
    assert torch.equal(state.k, torch.cat([start.k, *(k for k, _ in tokens)], 2))
    assert torch.equal(state.v, torch.cat([start.v, *(v for _, v in tokens)], 2))


@torch.inference_mode()
def test_no_memory_moves_while_the_buffer_has_space(start):
    state = grown(start, [token()])
    later = grown(state, [token() for _ in range(SPARE_TOKENS - 1)])
    assert later.k.data_ptr() == state.k.data_ptr()
    assert grown(later, [token()]).k.data_ptr() != state.k.data_ptr()


@torch.inference_mode()
def test_two_continuations_of_one_state_do_not_meet(start):
    shared = grown(start, [token()])
    before = shared.k.clone()
    one, other = token(), token()
    left, right = grown(shared, [one, token()]), grown(shared, [other, token()])
    assert torch.equal(left.k[:, :, 6], one[0][:, :, 0]) and torch.equal(right.k[:, :, 6], other[0][:, :, 0])
    assert torch.equal(shared.k, before) and torch.equal(left.k[:, :, :6], right.k[:, :, :6])


def test_a_state_of_inference_mode_can_be_extended_outside_of_it(start):
    with torch.inference_mode():
        state = grown(start, [token()])
    with torch.no_grad():
        assert grown(state, [token()]).k.shape[2] == 7


def test_gradients_flow_through(start):
    k, v = (t.requires_grad_() for t in token())
    grown(start, [(k, v), token()]).k.sum().backward()
    assert (k.grad == 1).all()


@torch.inference_mode()
def test_repeated_rows_follow_each_other(start):
    many = grown(start, [token()]).repeated(2)
    assert torch.equal(many.k[0], many.k[1]) and many.k.shape[0] == 4 and many.mask is None
    assert grown(many, [tuple(t.repeat_interleave(2, 0) for t in token())]).k.shape[2] == 7


def test_masks_grow_with_the_tokens(start):
    state = start.extended(*token(), torch.tensor([[True], [False]]))
    assert state.mask.tolist() == [[True] * 6, [True] * 5 + [False]]


@torch.inference_mode()
def test_a_mask_given_later_ends_the_buffer_and_hides_its_token(start):
    state = grown(start, [token()]).extended(*token(), torch.tensor([[True], [False]]))
    assert state.buffer is None and state.mask.tolist() == [[True] * 7, [True] * 6 + [False]]
