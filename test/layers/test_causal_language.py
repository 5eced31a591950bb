"""The causal stack: any schedule, parts equal the whole, hidden states on request."""

from dataclasses import replace

import pytest
import torch

from m3et_ros.layers.causal import CausalAttention, LanguageStack, StackSizes, language_layer
from m3et_ros.layers.mamba import AttentionMamba2, Mamba2

SIZES = StackSizes(
    d=32,
    heads=4,
    kv_heads=2,
    channels=4,
    base=10000.0,
    hidden=48,
    dropout=0.0,
    expand=2,
    N=8,
    P=8,
    G=2,
    d_conv=4,
    chunk=8,
    eps=1e-5,
)


@pytest.mark.parametrize('schedule', ['MTS', 'SSSS', 'TM'])
def test_parts_of_any_schedule_equal_the_whole(schedule):
    torch.manual_seed(0)
    stack, x = LanguageStack(schedule, SIZES), torch.randn(2, 9, 32)
    kinds = {'M': Mamba2, 'T': CausalAttention, 'S': AttentionMamba2}
    assert [type(layer.mixer) for layer in stack] == [kinds[letter] for letter in schedule]
    whole, states, kept = stack(x)
    assert states is None and not kept
    first, states, _ = stack(x[:, :6], return_states=True)
    second, states, _ = stack(x[:, 6:], states=states, return_states=True)
    assert len(states) == len(schedule)
    assert (torch.cat([first, second], 1) - whole).abs().max() < 1e-5


def test_outputs_asked_for_are_those_of_the_layers():
    stack, x = LanguageStack('MTS', SIZES), torch.randn(1, 5, 32)
    last, _, kept = stack(x, keep=(0, 2))
    assert set(kept) == {0, 2} and torch.equal(kept[2], last)
    assert torch.equal(kept[0], stack[0](x))


@pytest.mark.parametrize('G', [1, 2, 4, 8])
def test_mamba_layers_in_any_number_of_groups(G):
    layer = language_layer('M', replace(SIZES, G=G))
    assert layer.mixer.H == 8 and layer.mixer.G == G
    assert layer(torch.randn(1, 5, 32)).shape == (1, 5, 32)


def test_an_unknown_letter_is_refused():
    with pytest.raises(ValueError, match="schedule holds 'X'; give letters out of M, T, S"):
        language_layer('X', SIZES)
