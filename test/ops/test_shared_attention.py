"""Attention to shared and own keys: one softmax over both, its gradients, and hidden keys."""

import pytest
import torch

from m3et_ros.layers.attention import AttentionState, SelfAttention
from m3et_ros.ops.shared_attention import shared_attention


def inputs(dtype=torch.float64):
    rng = torch.Generator().manual_seed(0)
    sizes = ((2, 3, 5, 4), (2, 3, 7, 4), (2, 3, 7, 4), (2, 3, 5, 2))
    return [torch.randn(*size, generator=rng, dtype=dtype) for size in sizes]


def joined(q, k, v, own):
    weights = torch.cat([q @ k.transpose(-1, -2), own], -1).softmax(-1)
    to_shared, to_own = weights.split([k.shape[2], own.shape[-1]], -1)
    return to_shared @ v, to_own


@pytest.mark.parametrize('scale', [1.0, 300.0])
def test_it_is_the_softmax_over_both_parts(scale):
    q, k, v, own = inputs()
    own = scale * own
    own[0, 0, 0, 0] = -torch.inf
    own[1, 1] = -torch.inf
    for found, wanted in zip(shared_attention(q, k, v, own), joined(q, k, v, own), strict=True):
        torch.testing.assert_close(found, wanted)


def test_gradients_are_those_of_differences():
    assert torch.autograd.gradcheck(shared_attention, [t.requires_grad_() for t in inputs()])


def test_in_bfloat16_it_stays_near_float32():
    results = []
    for dtype in (torch.float32, torch.bfloat16):
        given = [t.to(dtype).requires_grad_() for t in inputs(torch.float32)]
        y, weights = shared_attention(*given)
        (y.square().sum() + weights.square().sum()).backward()
        assert y.dtype == weights.dtype == dtype
        results.append([y, weights, *(t.grad for t in given)])
    for wanted, found in zip(*results, strict=True):
        assert (found.float() - wanted).norm() < 0.03 * wanted.norm()


@pytest.mark.parametrize('masked', [False, True])
def test_training_attends_as_a_trained_model_does(masked):
    torch.manual_seed(0)
    attention, x = SelfAttention(d=8, heads=2), torch.randn(6, 5, 8)
    k, v = torch.randn(2, 2, 2, 7, 4)
    mask = torch.ones(6, 5, dtype=torch.bool)
    mask[1, :3] = not masked
    trained, _ = attention(x, mask=mask if masked else None, state=AttentionState(k, v, None))
    with torch.no_grad():
        wanted, _ = attention(x, mask=mask if masked else None, state=AttentionState(k, v, None))
    torch.testing.assert_close(trained, wanted, atol=1e-5, rtol=1e-4)
