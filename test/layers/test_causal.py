"""Causal attention, its blocks and their stacks: Phi's block from its weights, caches, pads, shared key heads."""

from dataclasses import replace

import pytest
import torch
from transformers import PhiConfig
from transformers.models.phi.modeling_phi import PhiDecoderLayer, PhiRotaryEmbedding

from m3et_ros.layers.causal import (
    CausalAttention,
    LanguageStack,
    MixerBlock,
    ParallelBlock,
    StackSizes,
    language_layer,
    repeated,
    rotary,
    rotate,
)
from m3et_ros.layers.mamba import AttentionMamba2, Mamba1, Mamba2, MambaState

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


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def phi(kv_heads: int) -> tuple[PhiDecoderLayer, PhiRotaryEmbedding]:
    config = PhiConfig(
        hidden_size=32,
        intermediate_size=48,
        num_attention_heads=4,
        num_key_value_heads=kv_heads,
        partial_rotary_factor=0.5,
        attn_implementation='eager',
    )
    layer = PhiDecoderLayer(config, 0).eval()
    for values in layer.parameters():
        torch.nn.init.normal_(values, std=0.3)
    return layer, PhiRotaryEmbedding(config)


@pytest.mark.parametrize('kv_heads', [4, 2, 1])
def test_a_parallel_block_reproduces_phi_from_its_weights(kv_heads):
    theirs, positions = phi(kv_heads)
    ours = ParallelBlock(CausalAttention(d=32, heads=4, kv_heads=kv_heads, channels=4), d=32, hidden=48)
    names = {'self_attn': 'mixer', 'input_layernorm': 'norm', 'mlp.': ''}
    weights = theirs.state_dict()
    for found, wanted in names.items():
        weights = {name.replace(found, wanted): value for name, value in weights.items()}
    ours.load_state_dict(weights)
    x = torch.randn(2, 9, 32)
    hidden = torch.full((9, 9), -torch.inf).triu(1)[None, None]
    wanted = theirs(x, attention_mask=hidden, position_embeddings=positions(x, torch.arange(9)[None]))
    assert (ours(x) - wanted).abs().max() < 1e-4


def block(kind: str, **options) -> torch.nn.Module:
    if kind == 'mamba':
        return MixerBlock(Mamba2(d=32, N=8, P=8, G=2, chunk=8), d=32)
    return ParallelBlock(CausalAttention(d=32, heads=4, kv_heads=2, channels=4), d=32, hidden=48, **options)


blocks = pytest.mark.parametrize('kind', ['mamba', 'attention'])


@blocks
def test_parts_and_single_steps_equal_the_whole(kind):
    layer, x = block(kind), torch.randn(2, 11, 32)
    whole = layer(x)
    first, state = layer(x[:, :4], return_state=True)
    second, state = layer(x[:, 4:8], state=state, return_state=True)
    outputs = [first, second]
    for t in range(8, 11):
        y, state = layer(x[:, t : t + 1], state=state, return_state=True)
        outputs.append(y)
    assert (torch.cat(outputs, 1) - whole).abs().max() < 1e-5
    # What a Mamba layer keeps does not grow; what attention keeps has a key for every token.
    kept = state.ssm.shape if isinstance(state, MambaState) else state.k.shape
    assert kept == ((2, 8, 8, 8) if kind == 'mamba' else (2, 2, 11, 8))


@blocks
def test_later_tokens_change_nothing_before_them(kind):
    layer, x = block(kind), torch.randn(1, 9, 32)
    changed = torch.cat([x[:, :5], torch.randn(1, 4, 32)], 1)
    assert torch.allclose(layer(x)[:, :5], layer(changed)[:, :5], atol=1e-6)
    assert not torch.allclose(layer(x)[:, 5:], layer(changed)[:, 5:], atol=1e-2)


@blocks
def test_pads_in_front_change_nothing(kind):
    layer, x = block(kind), torch.randn(1, 6, 32)
    padded = torch.cat([torch.randn(1, 3, 32), x], 1)
    mask = torch.tensor([[False] * 3 + [True] * 6])
    y, state = layer(padded, mask=mask, return_state=True)
    assert (y[:, 3:] - layer(x)).abs().max() < 1e-5
    more = torch.randn(1, 1, 32)
    after, _ = layer(more, state=state, return_state=True)
    assert (after - layer(torch.cat([x, more], 1))[:, -1:]).abs().max() < 1e-5


def test_rotary_positions_tell_distances_only():
    q, k = torch.randn(1, 1, 1, 8), torch.randn(1, 1, 1, 8)
    products = []
    for place in (0, 5, 200):
        at_q, at_k = (rotary(place + ahead, 1, channels=6, base=10000.0, like=q) for ahead in (3, 0))
        products.append((rotate(q, *at_q) * rotate(k, *at_k)).sum())
    assert torch.allclose(torch.stack(products), products[0], atol=1e-4)
    turned = rotate(q, *rotary(7, 1, channels=6, base=10000.0, like=q))
    assert torch.equal(turned[..., 6:], q[..., 6:])
    assert torch.allclose(turned.norm(), q.norm())


def test_dropout_works_in_training_only():
    layer, x = block('attention', dropout=0.5), torch.randn(1, 5, 32)
    assert not torch.equal(layer(x), layer(x))
    layer.eval()
    assert torch.equal(layer(x), layer(x))


def test_heads_that_do_not_divide_are_refused():
    with pytest.raises(ValueError, match='heads is 5 and kv_heads 5; give heads that divide d = 32'):
        CausalAttention(d=32, heads=5)
    with pytest.raises(ValueError, match='kv_heads 3'):
        CausalAttention(d=32, heads=4, kv_heads=3)
    with pytest.raises(ValueError, match='channels is 3; give an even number up to the 8 channels'):
        CausalAttention(d=32, heads=4, channels=3)


@pytest.mark.parametrize('schedule', ['MTS', 'SSSS', 'TM', 'OMO'])
def test_parts_of_any_schedule_equal_the_whole(schedule):
    stack, x = LanguageStack(schedule, SIZES), torch.randn(2, 9, 32)
    kinds = {'M': Mamba2, 'O': Mamba1, 'T': CausalAttention, 'S': AttentionMamba2}
    assert [type(layer.mixer) for layer in stack] == [kinds[letter] for letter in schedule]
    whole, states, kept = stack(x)
    assert states is None and not kept
    first, states, _ = stack(x[:, :6], return_states=True)
    second, states, _ = stack(x[:, 6:], states=states, return_states=True)
    assert len(states) == len(schedule)
    assert (torch.cat([first, second], 1) - whole).abs().max() < 1e-5


def test_the_outputs_that_are_kept_are_those_of_the_layers():
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
    with pytest.raises(ValueError, match="schedule holds 'X'; give letters out of M, T, S, O"):
        language_layer('X', SIZES)


def test_every_size_reaches_the_mamba_layer():
    block = language_layer('M', replace(SIZES, expand=3, N=6, P=16, G=3, d_conv=5, chunk=7, eps=0.1))
    mixer = block.mixer
    assert (mixer.d_in, mixer.N, mixer.P, mixer.G, mixer.chunk) == (96, 6, 16, 3, 7)
    assert mixer.conv1d.kernel_size == (5,) and block.norm.eps == 0.1


def test_every_size_reaches_the_attention_layer():
    block = language_layer('T', replace(SIZES, heads=8, kv_heads=4, channels=2, base=500.0, hidden=40, eps=0.1))
    mixer = block.mixer
    assert (mixer.heads, mixer.kv_heads, mixer.channels, mixer.base) == (8, 4, 2, 500.0)
    assert block.fc1.out_features == 40 and block.norm.eps == 0.1


def test_every_size_reaches_the_attention_shaped_layer():
    block = language_layer('S', replace(SIZES, heads=8, kv_heads=4, hidden=40, d_conv=5, chunk=7, eps=0.1))
    mixer = block.mixer
    assert (mixer.H, mixer.kv_heads, mixer.chunk) == (8, 4, 7)
    assert mixer.conv1d.kernel_size == (5,) and block.fc1.out_features == 40 and block.norm.eps == 0.1


@pytest.mark.parametrize(('letter', 'dropout'), [('T', 0.25), ('S', 0.25)])
def test_the_dropout_of_a_stack_is_that_of_its_blocks(letter, dropout):
    assert language_layer(letter, replace(SIZES, dropout=dropout)).dropout == dropout


def test_the_base_of_the_wavelengths_changes_what_positions_mean():
    x = torch.randn(1, 6, 32)
    layer = CausalAttention(d=32, heads=4, channels=8, base=10000.0)
    before = layer(x)
    layer.base = 10.0
    assert not torch.allclose(layer(x), before, atol=1e-4)


@blocks
@torch.inference_mode()
def test_a_repeated_state_serves_several_continuations(kind):
    layer, x, later = block(kind), torch.randn(2, 5, 32), torch.randn(6, 3, 32)
    _, state = layer(x, return_state=True)
    assert repeated(state, 1) is state
    found = layer(later, state=repeated(state, 3))
    for row in range(6):
        whole = layer(torch.cat([x[row // 3], later[row]])[None])
        assert torch.allclose(found[row], whole[0, 5:], atol=1e-5)
