"""Attention-shaped Mamba-2: the identity behind its seeding, its size, steps, shared key heads."""

import pytest
import torch

from m3et_ros.layers.causal import CausalAttention
from m3et_ros.layers.mamba import AttentionMamba2, Mamba2


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def seeded(kv_heads: int) -> tuple[AttentionMamba2, CausalAttention]:
    teacher = CausalAttention(d=32, heads=4, kv_heads=kv_heads)
    mixer = AttentionMamba2(d=32, heads=4, kv_heads=kv_heads, chunk=8)
    return mixer.seed(
        q=teacher.q_proj.weight, k=teacher.k_proj.weight, v=teacher.v_proj.weight, out=teacher.dense.weight
    ), teacher


class Ungated(torch.nn.Module):
    """The norm of the identity: none, and no gate either."""

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
    mixer.norm = Ungated()
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


def test_with_a_key_head_a_head_it_is_mamba2_in_as_many_groups():
    mixer, plain = AttentionMamba2(d=32, heads=4), Mamba2(d=32, expand=1, N=8, P=8, G=4)
    plain.load_state_dict(mixer.state_dict())
    u = torch.randn(2, 9, 32)
    assert torch.equal(mixer(u), plain(u))


@pytest.mark.parametrize('kv_heads', [4, 2])
def test_steps_equal_the_sequence(kv_heads):
    mixer, u = seeded(kv_heads)[0], torch.randn(2, 9, 32)
    state, outputs = mixer.init_state(2), []
    for u_t in u.unbind(1):
        y, state = mixer.step(u_t, state)
        outputs.append(y)
    assert (torch.stack(outputs, 1) - mixer(u)).abs().max() < 1e-5
    assert state.ssm.shape == (2, 4, 8, 8)


def test_sizes_of_the_paper():
    with torch.device('meta'):
        mixer, attention = AttentionMamba2(d=2560, heads=32), CausalAttention(d=2560, heads=32, channels=32)
    assert sum(p.numel() for p in mixer.parameters()) == 32_890_976
    assert sum(p.numel() for p in attention.parameters()) == 26_224_640
    assert mixer.state_shape == (32, 80, 80)


def test_what_attention_does_not_have_stays_as_it_was():
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
