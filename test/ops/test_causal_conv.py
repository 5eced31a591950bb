"""The causal convolution of the mixers: its values, its own backward, and what it does without gradients."""

import pytest
import torch
from torch.nn import functional as F

from m3et_ros.ops.causal_conv import causal_conv


def inputs(k=4, dtype=torch.float64):
    rng = torch.Generator().manual_seed(k)
    sizes = {'padded': (2, k - 1 + 6, 5), 'weight': (5, 1, k), 'bias': (5,)}
    return [torch.randn(*size, generator=rng, dtype=dtype) for size in sizes.values()]


@pytest.mark.parametrize('k', [1, 2, 4])
@pytest.mark.parametrize('recorded', [False, True])
def test_values_are_those_of_a_depthwise_convolution(k, recorded):
    padded, weight, bias = inputs(k)
    wanted = F.silu(F.conv1d(padded.transpose(1, 2), weight, bias, groups=5)).transpose(1, 2)
    torch.testing.assert_close(causal_conv(padded, weight.requires_grad_(recorded), bias), wanted)


def test_gradients_are_those_of_differences():
    assert torch.autograd.gradcheck(causal_conv, [t.requires_grad_() for t in inputs()])


def test_in_bfloat16_it_stays_near_float32_and_gradients_of_weights_have_their_dtype():
    found, wanted = [], []
    for dtype, out in ((torch.float32, wanted), (torch.bfloat16, found)):
        padded, weight, bias = (t.float().requires_grad_() for t in inputs())
        y = causal_conv(padded.to(dtype), weight, bias)
        y.float().square().sum().backward()
        assert y.dtype == dtype and weight.grad.dtype == bias.grad.dtype == torch.float32
        out += [y.float(), padded.grad, weight.grad, bias.grad]
    for one, other in zip(found, wanted, strict=True):
        assert (one - other).norm() < 0.01 * other.norm()


def test_a_frozen_convolution_hands_gradients_on_to_its_input():
    padded, weight, bias = inputs()
    causal_conv(padded.requires_grad_(), weight, bias).sum().backward()
    other = padded.detach().clone().requires_grad_()
    F.silu(F.conv1d(other.transpose(1, 2), weight, bias, groups=5)).sum().backward()
    torch.testing.assert_close(padded.grad, other.grad)
