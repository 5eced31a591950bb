"""Mamba mixers: the published layers from the same weights, steps equal sequences, masks, counts, initial values.

The attention-shaped one: the identity behind its seeding, its size, its steps, shared key heads.
"""

import pytest
import torch
from torch.nn import functional as F
from transformers import Mamba2Config, MambaConfig
from transformers.models.mamba.modeling_mamba import MambaMixer
from transformers.models.mamba2.modeling_mamba2 import Mamba2Mixer

from m3et_ros.layers.causal import CausalAttention
from m3et_ros.layers.mamba import AttentionMamba2, GatedRMSNorm, Mamba1, Mamba2

MIXERS = {
    'mamba1': lambda **options: Mamba1(d=16, N=4, **options),
    'mamba2': lambda **options: Mamba2(d=16, N=8, P=8, chunk=16, **options),
    'mamba2 in two groups': lambda **options: Mamba2(d=16, N=8, P=8, G=2, chunk=16, **options),
}
mixers = pytest.mark.parametrize('build', MIXERS.values(), ids=MIXERS.keys())


def parameters(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.mark.parametrize('L', [1, 3, 50])
def test_mamba1_reproduces_the_published_layer_from_its_weights(L):
    config = MambaConfig(hidden_size=24, state_size=16, conv_kernel=4, expand=2, time_step_rank=2)
    theirs = MambaMixer(config, layer_idx=0).eval()
    torch.nn.init.normal_(theirs.D)
    ours = Mamba1(d=24, N=16, dt_rank=2)
    ours.load_state_dict(theirs.state_dict())  # same names: in_proj, conv1d, x_proj, dt_proj, A_log, D, out_proj
    u = torch.randn(2, L, 24)
    assert (ours(u) - theirs(u)).abs().max() < 1e-4


@pytest.mark.parametrize('L', [1, 3, 50])
@pytest.mark.parametrize('G', [1, 2])
def test_mamba2_reproduces_the_published_layer_from_its_weights(L, G):
    config = Mamba2Config(hidden_size=32, num_heads=8, head_dim=8, state_size=16, expand=2, n_groups=G, chunk_size=16)
    theirs = Mamba2Mixer(config, layer_idx=0).eval()
    for values in (theirs.D, theirs.norm.weight):
        torch.nn.init.normal_(values)
    ours = Mamba2(d=32, N=16, P=8, G=G, chunk=16)
    ours.load_state_dict(theirs.state_dict())  # same names, in_proj = [z | x | B | C | dt], norm.weight
    u = torch.randn(2, L, 32)
    assert (ours(u) - theirs(u)).abs().max() < 1e-4


def test_parameter_counts_of_the_papers():
    assert parameters(Mamba1(d=768)) == 3_770_880
    assert parameters(Mamba1(d=1024)) == 6_666_240
    assert parameters(Mamba2(d=768, N=64, P=64)) == 3_665_608
    assert parameters(Mamba2(d=2560)) == 40_214_000


def test_initial_values():
    one, two = Mamba1(d=256, N=16), Mamba2(d=256, P=2, N=8)
    for bias in (one.dt_proj.bias, two.dt_bias):
        dt = F.softplus(bias)
        assert dt.min() + 1e-6 >= 0.001 and dt.max() <= 0.1 + 1e-6
        # Log-uniform: half of the values lie below the geometric mean.
        assert 0.4 < (dt < 0.01).float().mean() < 0.6
    assert torch.allclose(one.A_log.exp(), torch.arange(1.0, 17.0).expand(512, 16))
    A = two.A_log.exp()
    assert 1 <= A.min() < 2 and 15 < A.max() <= 16
    assert one.dt_proj.weight.abs().max() <= 16**-0.5
    for mixer in (one, two):
        assert torch.equal(mixer.D, torch.ones_like(mixer.D))
        assert mixer.A_log._no_weight_decay and mixer.D._no_weight_decay


@mixers
def test_steps_equal_the_sequence_and_keep_the_state_small(build):
    mixer, u = build(), torch.randn(3, 40, 16)
    wanted, last = mixer(u, return_state=True)
    state, outputs = mixer.init_state(3), []
    shapes = [part.shape for part in state]
    for u_t in u.unbind(1):
        y, state = mixer.step(u_t, state)
        outputs.append(y)
        assert [part.shape for part in state] == shapes
        assert all(part.untyped_storage().nbytes() == part.nbytes for part in state)
    assert torch.allclose(torch.stack(outputs, 1), wanted, atol=1e-5)
    for found, expected in zip(state, last, strict=True):
        assert torch.allclose(found, expected, atol=1e-5)


@mixers
@pytest.mark.parametrize('cut', [1, 2, 25])
def test_two_halves_with_the_state_between_are_the_whole(build, cut):
    mixer, u = build(), torch.randn(2, 40, 16)
    first, state = mixer(u[:, :cut], return_state=True)
    second = mixer(u[:, cut:], state=state)
    assert torch.allclose(torch.cat([first, second], 1), mixer(u), atol=1e-5)


@mixers
def test_padding_changes_nothing_whatever_it_holds(build):
    mixer, u = build(), torch.randn(2, 20, 16)
    wanted, state = mixer(u, return_state=True)
    padded = torch.cat([u, torch.full((2, 7, 16), torch.nan)], 1)
    mask = torch.arange(27).expand(2, -1) < 20
    found, padded_state = mixer(padded, mask=mask, return_state=True)
    assert torch.allclose(found[:, :20], wanted, atol=1e-6)
    assert torch.equal(found[:, 20:], torch.zeros(2, 7, 16))
    assert torch.allclose(padded_state.ssm, state.ssm, atol=1e-6)


@mixers
def test_leading_padding_changes_nothing_either(build):
    mixer, u = build(), torch.randn(2, 20, 16)
    padded = torch.cat([torch.randn(2, 7, 16), u], 1)
    mask = (torch.arange(27) >= 7).expand(2, -1)
    # The convolution's bias lets a padded token have a value, but its step of 0 keeps it out of the state.
    assert torch.allclose(mixer(padded, mask=mask)[:, 7:], mixer(u), atol=1e-6)


@mixers
def test_a_is_owned_or_injected_never_both_never_neither(build):
    torch.manual_seed(0)
    owner = build()
    torch.manual_seed(0)
    borrower = build(own_A=False)
    borrower.load_state_dict({name: value for name, value in owner.state_dict().items() if name != 'A_log'})
    u = torch.randn(2, 9, 16)
    assert torch.equal(borrower(u, A_log=owner.A_log), owner(u))
    state = owner.init_state(2)
    assert torch.equal(borrower.step(u[:, 0], state, A_log=owner.A_log)[0], owner.step(u[:, 0], state)[0])
    with pytest.raises(ValueError, match='pass A_log'):
        borrower(u)
    with pytest.raises(ValueError, match='own_A=False'):
        owner(u, A_log=owner.A_log)


def test_sizes_that_do_not_divide_are_refused():
    with pytest.raises(ValueError, match='P = 7 must divide the inner width 32'):
        Mamba2(d=16, P=7)
    with pytest.raises(ValueError, match='G = 3'):
        Mamba2(d=16, P=8, G=3)


@mixers
def test_every_parameter_is_trained(build):
    mixer = build()
    mixer(torch.randn(2, 9, 16)).square().sum().backward()
    for name, parameter in mixer.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


@mixers
def test_bfloat16_stays_near_float32(build):
    mixer, u = build(), torch.randn(2, 40, 16)
    wanted = mixer(u)
    found = mixer.bfloat16()(u.bfloat16())
    assert found.dtype == torch.bfloat16
    assert (found.float() - wanted).abs().max() < 0.05 * wanted.abs().max()


def test_gated_norm_has_unit_mean_square_in_each_group():
    norm = GatedRMSNorm(d=12, groups=3)
    scale = torch.tensor([1.0, 10.0, 100.0]).repeat_interleave(4)
    y = norm(torch.randn(5, 12) * scale, torch.full((5, 12), 3.0))
    assert torch.allclose(y.unflatten(-1, (3, 4)).square().mean(-1), torch.ones(5, 3), atol=1e-3)


@pytest.mark.parametrize(('dt_rank', 'rank'), [(None, 2), (5, 5)])
def test_the_rank_of_the_step_size_is_given_or_a_sixteenth_of_the_width(dt_rank, rank):
    mixer = Mamba1(d=24, N=4, dt_rank=dt_rank)
    assert mixer.dt_proj.in_features == rank and mixer.x_proj.out_features == rank + 2 * 4
    assert mixer(torch.randn(1, 3, 24)).shape == (1, 3, 24)


@mixers
def test_sizes_of_a_mixer_follow_its_options(build):
    mixer = build(d_conv=3, expand=3)
    state = mixer.init_state(2)
    assert mixer.d_in == 48 and state.conv.shape == (2, 2, mixer.conv1d.in_channels)
    assert state.ssm.shape == (2, *mixer.state_shape)


@mixers
def test_an_empty_state_is_made_in_the_dtype_that_is_asked_for(build):
    state = build().init_state(2, dtype=torch.bfloat16)
    assert state.conv.dtype == torch.bfloat16 and state.ssm.dtype == torch.float32


def seeded(kv_heads: int) -> tuple[AttentionMamba2, CausalAttention]:
    teacher = CausalAttention(d=32, heads=4, kv_heads=kv_heads)
    mixer = AttentionMamba2(d=32, heads=4, kv_heads=kv_heads, chunk=8)
    return mixer.seed(
        q=teacher.q_proj.weight, k=teacher.k_proj.weight, v=teacher.v_proj.weight, out=teacher.dense.weight
    ), teacher


class NoNorm(torch.nn.Module):
    """Passes its input on, without norm and gate."""

    def forward(self, y, z):
        return y


@pytest.mark.parametrize('kv_heads', [4, 2, 1])
def test_a_seeded_mixer_without_decay_is_causal_linear_attention(kv_heads, monkeypatch):
    mixer, teacher = seeded(kv_heads)
    # Decay 1, dt 1, no skip, no gate, no norm, no convolution.
    with torch.no_grad():
        mixer.in_proj.weight[-4:] = 0
        mixer.dt_bias.fill_(torch.tensor(1.0).expm1().log())
        mixer.A_log.fill_(-torch.inf)
        mixer.D.zero_()
    mixer.norm = NoNorm()
    monkeypatch.setattr(mixer, '_convolve', lambda x, state: (x, x[:, -3:]))
    u = torch.randn(2, 21, 32)
    q, k, v = (
        torch.nn.functional.linear(u, part.weight).unflatten(-1, (-1, 8)).transpose(1, 2)
        for part in (teacher.q_proj, teacher.k_proj, teacher.v_proj)
    )
    k, v = (t.repeat_interleave(4 // kv_heads, 1) for t in (k, v))
    wanted = ((q @ k.transpose(-1, -2)).tril() @ v).transpose(1, 2).flatten(2) @ teacher.dense.weight.T
    assert wanted.abs().max() > 1
    assert (mixer(u) - wanted).abs().max() < 1e-5


def test_with_one_key_head_per_head_it_is_mamba2_in_as_many_groups():
    mixer, plain = AttentionMamba2(d=32, heads=4), Mamba2(d=32, expand=1, N=8, P=8, G=4)
    plain.load_state_dict(mixer.state_dict())
    u = torch.randn(2, 9, 32)
    assert torch.equal(mixer(u), plain(u))


@pytest.mark.parametrize('kv_heads', [4, 2])
def test_steps_of_the_attention_shaped_mixer_equal_the_sequence(kv_heads):
    mixer, u = seeded(kv_heads)[0], torch.randn(2, 9, 32)
    state, outputs = mixer.init_state(2), []
    for u_t in u.unbind(1):
        y, state = mixer.step(u_t, state)
        outputs.append(y)
    assert (torch.stack(outputs, 1) - mixer(u)).abs().max() < 1e-5
    assert state.ssm.shape == (2, 4, 8, 8)


def test_the_attention_shaped_mixer_has_the_size_of_the_paper():
    with torch.device('meta'):
        mixer, attention = AttentionMamba2(d=2560, heads=32), CausalAttention(d=2560, heads=32, channels=32)
    assert sum(p.numel() for p in mixer.parameters()) == 32_890_976
    assert sum(p.numel() for p in attention.parameters()) == 26_224_640
    assert mixer.state_shape == (32, 80, 80)


def test_seeding_changes_only_what_attention_has():
    fresh = AttentionMamba2(d=32, heads=4)
    before = {name: value.clone() for name, value in fresh.state_dict().items()}
    fresh.seed(q=torch.zeros(32, 32), k=torch.zeros(32, 32), v=torch.zeros(32, 32), out=torch.zeros(32, 32))
    after = fresh.state_dict()
    assert {name for name in after if not torch.equal(after[name], before[name])} == {
        'in_proj.weight',
        'out_proj.weight',
    }
    changed = (after['in_proj.weight'] != before['in_proj.weight']).any(1)
    assert changed.tolist() == [False] * 32 + [True] * 96 + [False] * 4


def test_a_matrix_of_another_shape_is_named():
    with pytest.raises(ValueError, match=r'k is \(32, 32\); give \(16, 32\)'):
        square = torch.zeros(32, 32)
        AttentionMamba2(d=32, heads=4, kv_heads=2).seed(q=square, k=square, v=square, out=square)


def test_heads_that_do_not_divide_are_refused():
    with pytest.raises(ValueError, match='give heads that divide d = 32'):
        AttentionMamba2(d=32, heads=5)
    with pytest.raises(ValueError, match='kv_heads 3'):
        AttentionMamba2(d=32, heads=4, kv_heads=3)
