"""Hybrid stack: schedule, stages, directions, masks, and the encoder part of the parameter ledger."""

import pytest
import torch

from m3et_ros.layers import mamba
from m3et_ros.layers.attention import TransformerBlock
from m3et_ros.layers.hybrid import HybridStack, MambaBlock, MambaLayer
from m3et_ros.layers.mamba import Mamba1

OPTIONS = {'mamba1': {'N': 4}, 'mamba2': {'N': 8, 'P': 8}}


def stack(schedule: str = 'TMTMTM', mixer: str = 'mamba1', **options) -> HybridStack:
    torch.manual_seed(0)
    return HybridStack(d=16, heads=2, schedule=schedule, mixer=mixer, mixer_options=OPTIONS[mixer], **options)


def test_encoder_ledger():
    encoder = HybridStack(d=768, heads=12)
    assert sum(p.numel() for p in encoder.parameters()) == 32_580_864 + 1_536


@pytest.mark.parametrize('mixer', ['mamba1', 'mamba2'])
@pytest.mark.parametrize('schedule', ['TMTMTM', 'MMTT', 'TTT', 'MMM'])
def test_stages_of_any_schedule(schedule, mixer):
    encoder = stack(schedule, mixer)
    assert [isinstance(layer, TransformerBlock) for layer in encoder.layers] == [letter == 'T' for letter in schedule]
    x = torch.randn(2, 11, 16)
    stages = encoder(x)
    assert [stage.shape for stage in stages] == [(2, 11, 16)] * 3
    for layer in encoder.layers[: encoder.ends[0]]:
        x = layer(x)
    assert torch.equal(stages[0], x)
    # Only the last output is normalised.
    assert torch.allclose(stages[-1].mean(-1), torch.zeros(2, 11), atol=1e-5)
    assert not torch.allclose(stages[0].mean(-1), torch.zeros(2, 11), atol=1e-3)


def test_every_second_mamba_layer_runs_backwards():
    layers = stack('MTMMT').layers
    assert [layer.backward for layer in layers if isinstance(layer, MambaLayer)] == [False, True, False]
    layers = stack('MTMMT', directions='forward').layers
    assert not any(layer.backward for layer in layers if isinstance(layer, MambaLayer))


def test_backward_layer_is_the_forward_one_on_the_flipped_sequence():
    torch.manual_seed(0)
    forward = MambaLayer(Mamba1(d=16, N=4), d=16)
    backward = MambaLayer(forward.mixer, d=16, backward=True)
    x, mask = torch.randn(2, 9, 16), torch.rand(2, 9) < 0.7
    wanted = forward(x.flip(1), mask=mask.flip(1)).flip(1)
    assert torch.allclose(backward(x, mask=mask), wanted, atol=1e-6)
    assert torch.allclose(backward(x), forward(x.flip(1)).flip(1), atol=1e-6)


@pytest.mark.parametrize('mixer', ['mamba1', 'mamba2'])
def test_later_tokens_continue_from_the_states(mixer):
    encoder, x, later = stack('MTMT', mixer, stages=2), torch.randn(2, 9, 16), torch.randn(2, 6, 16)
    mask = torch.tensor([[0, 0, 1, 1, 1, 1], [1] * 6], dtype=torch.bool)
    before, states = encoder(x, return_states=True)
    after, _ = encoder(later, mask=mask, states=states, return_states=True)
    # Pads in front change nothing, and the earlier tokens do not change either.
    assert torch.allclose(
        after[-1][:1, 2:],
        encoder(
            later[:1, 2:],
            states=[
                type(s)(*(None if t is None else t[:1] for t in s)) if isinstance(s, tuple) else s[:1] for s in states
            ],
        )[-1],
        atol=1e-5,
    )
    assert torch.allclose(before[-1], encoder(x)[-1], atol=1e-6)
    # All earlier tokens have an effect, even the first: through attention or through a scan that ended there.
    other = x.clone()
    other[:, 0] = torch.randn(2, 16)
    assert not torch.allclose(
        encoder(later, mask=mask, states=encoder(other, return_states=True)[1])[-1], after[-1], atol=1e-4
    )


@pytest.mark.parametrize('mixer', ['mamba1', 'mamba2'])
def test_rows_that_share_states_equal_rows_with_states_of_their_own(mixer, monkeypatch):
    encoder, x, later = stack('MTMT', mixer, stages=2), torch.randn(2, 9, 16), torch.randn(6, 5, 16)
    shares, scan = [], mamba.ssd_shared
    monkeypatch.setattr(
        mamba, 'ssd_shared', lambda *a, state, **o: shares.append(len(state)) or scan(*a, state=state, **o)
    )
    found = encoder(later, states=encoder(x, return_states=True)[1])
    repeated = encoder(x.repeat_interleave(3, 0), return_states=True)[1]
    wanted = encoder(later, states=repeated)
    assert shares == ([2, 2, 6, 6] if mixer == 'mamba2' else [])
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-4)
    weight = encoder.layers[0].mixer.out_proj.weight
    gradients = [torch.autograd.grad(outputs[-1].square().sum(), weight)[0] for outputs in (found, wanted)]
    torch.testing.assert_close(*gradients, atol=1e-4, rtol=1e-3)
    asked = len(shares)
    with torch.no_grad():  # as every trained model was measured
        again = encoder(later, states=encoder(x, return_states=True)[1])
        torch.testing.assert_close(again, wanted, atol=1e-5, rtol=1e-4)
    # A state after the rows is one state each.
    _, states = encoder(later, states=encoder(x, return_states=True)[1], return_states=True)
    _, expected = encoder(later, states=repeated, return_states=True)
    torch.testing.assert_close(states[0], expected[0], atol=1e-5, rtol=1e-4)
    assert len(shares) == asked


def test_the_direction_decides_which_tokens_affect_which():
    x = torch.randn(1, 9, 16)
    changed = x.clone()
    changed[:, 4] = torch.randn(16)
    causal, mixed = stack('MM', directions='forward', stages=2), stack('MM', stages=2)
    moved = [(a - b).abs().amax((0, 2)) > 1e-6 for a, b in zip(causal(changed), causal(x), strict=True)]
    assert not moved[-1][:4].any() and moved[-1][4:].all()
    assert ((mixed(changed)[-1] - mixed(x)[-1]).abs().amax((0, 2)) > 1e-6).all()


@pytest.mark.parametrize('mixer', ['mamba1', 'mamba2'])
def test_padding_changes_nothing_for_valid_tokens(mixer):
    encoder, x = stack(mixer=mixer), torch.randn(2, 8, 16)
    padded = torch.cat([x, torch.randn(2, 5, 16)], 1)
    mask = (torch.arange(13) < 8).expand(2, -1)
    for found, wanted in zip(encoder(padded, mask=mask), encoder(x), strict=True):
        assert torch.allclose(found[:, :8], wanted, atol=1e-5)


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'schedule': 'TMX'}, 'letters T'),
        ({'schedule': ''}, 'letters T'),
        ({'mixer': 'mamba3'}, 'mamba1, mamba2'),
        ({'directions': 'both'}, 'alternate, forward'),
        ({'schedule': 'TM'}, 'from 1 to the number of layers, 2'),
    ],
)
def test_bad_settings_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        HybridStack(**{'d': 16, 'heads': 2, **changes})


def test_blocks_whose_attention_a_mixer_replaced():
    torch.manual_seed(0)
    encoder = stack('TSMS', 'mamba2', stages=2)
    assert [layer.backward for layer in encoder.layers if isinstance(layer, MambaLayer)] == [False, False, True]
    block, x = encoder.layers[1], torch.randn(2, 9, 16)
    assert isinstance(block, MambaBlock) and not isinstance(encoder.layers[2], MambaBlock)
    mixed = x + block.mixer(block.norm(x))
    assert torch.allclose(block(x), mixed + block.mlp(block.norm2(mixed)), atol=1e-6)
    # Same norms and MLP as the Transformer block that it stands for.
    sizes = [
        sum(p.numel() for name, p in layer.named_parameters() if not name.startswith(mixer))
        for layer, mixer in ((block, 'mixer'), (encoder.layers[0], 'attention'))
    ]
    assert sizes[0] == sizes[1]
    _, states = encoder(x[:, :5], return_states=True)
    after, _ = encoder(x[:, 5:], states=states, return_states=True)
    assert after[-1].shape == (2, 4, 16) and states[1].shape == (2, 2, 8, 8)


@pytest.mark.parametrize('mixer, options', [('mamba1', {'N': 4}), ('mamba2', {'N': 8, 'P': 8, 'chunk': 4})])
@pytest.mark.parametrize('schedule', ['M', 'MM', 'T', 'S', 'SS', 'MTMST'])
def test_renewed_tokens_are_those_of_a_whole_pass_where_their_inputs_are_up_to_date(schedule, mixer, options):
    stack = HybridStack(d=16, schedule=schedule, heads=2, mixer=mixer, mixer_options=options, stages=1).eval()
    old = torch.randn(2, 11, 16)
    first = stack.renew(old)
    outputs, states = stack(old, return_states=True)
    torch.testing.assert_close(first.outputs, outputs)
    torch.testing.assert_close(first.states, states)
    indices = torch.tensor([7, 0, 4])
    # The same tokens again change nothing, however deep the stack.
    again = stack.renew(old[:, indices], indices, first)
    torch.testing.assert_close(again.outputs, outputs)
    torch.testing.assert_close(again.states, states)
    # In the first layer the new tokens meet up-to-date inputs only, so they equal those of a whole pass.
    if len(schedule) == 1:
        new = old.index_copy(1, indices, torch.randn(2, 3, 16))
        found, (whole, after) = stack.renew(new[:, indices], indices, first), stack(new, return_states=True)
        torch.testing.assert_close(found.outputs[0][:, indices], whole[0][:, indices])
        torch.testing.assert_close(found.states, after)
        rest = torch.tensor([1, 2, 3, 5, 6, 8, 9, 10])
        assert torch.equal(found.outputs[0][:, rest], first.outputs[0][:, rest])


def test_head_attentions_are_those_of_the_t_layers_to_the_earlier_tokens():
    encoder, x, later = stack('TMTS', stages=2), torch.randn(2, 5, 16), torch.randn(4, 3, 16)
    _, states = encoder(x, return_states=True)
    found = []
    encoder(later, states=states, head_attentions=found)
    assert len(found) == 2
    indices = torch.arange(3).expand(4, -1)
    wanted = encoder.layers[0].head_attention(later, states[0]).weights(indices)
    assert torch.equal(found[0].weights(indices), wanted) and wanted.shape == (2, 6, 5)


@pytest.mark.parametrize('option', ['head_attentions', 'read_out'])
def test_head_attentions_and_a_read_out_need_earlier_tokens(option):
    with pytest.raises(ValueError, match='head_attentions and read_out need states'):
        stack('TM', stages=1)(torch.randn(1, 3, 16), **{option: []})


def test_a_read_out_is_added_after_each_t_layer():
    encoder, x, later = stack('TMTS', stages=4), torch.randn(2, 5, 16), torch.randn(4, 3, 16)
    _, states = encoder(x, return_states=True)
    plain, seen = encoder(later, states=states), []

    def read_out(index, attention):
        seen.append((index, attention))
        return torch.full_like(later, 1.0 + index)

    found = encoder(later, states=states, read_out=read_out)
    assert [index for index, _ in seen] == [0, 2]
    torch.testing.assert_close(found[0], plain[0] + 1)
    torch.testing.assert_close(found[1], encoder.layers[1](found[0], state=states[1]))
    torch.testing.assert_close(found[2], encoder.layers[2](found[1], state=states[2]) + 3)
    wanted = encoder.layers[2].head_attention(found[1], states[2]).weights()
    assert torch.equal(seen[1][1].weights(), wanted)  # of the layer's input


@pytest.mark.parametrize(('stages', 'ends'), [(1, [5]), (2, [2, 5]), (3, [2, 3, 5]), (5, [1, 2, 3, 4, 5])])
def test_layers_are_divided_among_the_stages(stages, ends):
    encoder = stack('MTMTM', stages=stages)
    assert encoder.ends == ends and len(encoder(torch.randn(1, 3, 16))) == stages


@pytest.mark.parametrize('ratio', [4, 2])
def test_the_mlp_of_a_mamba_block_is_as_wide_as_its_ratio_says(ratio):
    assert MambaBlock(Mamba1(d=16, N=4), d=16, mlp_ratio=ratio).mlp[0].out_features == 16 * ratio
