"""Attention: masks, causality, parameter ledger, and the gated cross-attention against its equations."""

import math

import pytest
import torch
from torch.nn import functional as F

from m3et_ros.layers import attention
from m3et_ros.layers.attention import (
    GatedCrossAttention,
    SelfAttention,
    SemanticGate,
    TransformerBlock,
    scaled_attention,
)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def parameters(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.fixture
def cross():
    module = GatedCrossAttention(d_context=12, d=8, heads=2)
    torch.nn.init.normal_(module.beta)
    return module


@pytest.fixture
def gate():
    return SemanticGate(d_context=12, hidden=6, d=8)


def inputs(n: int = 5, L: int = 7) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return torch.randn(2, n, 12), torch.randn(2, L, 12), torch.randn(2, 12)


def test_head_attention_is_the_first_heads_attention_to_earlier_tokens():
    d, K, each = 8, 4, 3
    attention = SelfAttention(d=d, heads=2)
    mask = torch.tensor([[True, True, False, True], [True] * 4])
    _, before = attention(torch.randn(2, K, d), mask=mask)
    x, indices = torch.randn(2 * each, 5, d), torch.tensor([[4, 0]] * 2 * each)
    weights = attention.head_attention(x, before).weights(indices)
    q = attention.qkv(x)[..., : d // 2].unflatten(0, (2, each))
    for b in range(2):
        for row, token in ((0, 4), (5, 0)):
            logits = (before.k[b, 0] @ q[b, row // 2, token] / 2).masked_fill(~mask[b], -torch.inf)
            torch.testing.assert_close(weights[b, row], logits.softmax(0))
    assert weights.shape == (2, 2 * each, K)
    every = attention.head_attention(x, before).weights()
    assert every.shape == (2, 5 * each, K)
    torch.testing.assert_close(every[:, 5:10][:, [4, 0]], weights[:, 2:4])  # of the second row of each sample


def test_ledger():
    assert parameters(TransformerBlock(d=768, heads=12)) == 7_087_872
    assert parameters(TransformerBlock(d=256, heads=8)) == 789_760
    projections, output, norms, beta = 3 * (768 * 256 + 256), 256 * 256 + 256, 2 * 1_536, 8
    assert parameters(GatedCrossAttention(d_context=768, d=256, heads=8)) == projections + output + norms + beta
    assert parameters(SemanticGate(d_context=768, hidden=512, d=256)) == 918_272


def test_self_attention_is_the_textbook_formula():
    module, x = SelfAttention(d=8, heads=2), torch.randn(2, 5, 8)
    q, k, v = (t.view(2, 5, 2, 4).transpose(1, 2) for t in module.qkv(x).split(8, -1))
    weights = (q @ k.transpose(-1, -2) / 2).softmax(-1)
    assert torch.allclose(module(x)[0], module.proj((weights @ v).transpose(1, 2).reshape(2, 5, 8)), atol=1e-6)


@pytest.mark.parametrize('causal', [False, True])
@pytest.mark.parametrize('masked', ['', 'before', 'own', 'before own'])
def test_rows_may_share_earlier_tokens(masked, causal):
    block, before, x = TransformerBlock(d=8, heads=2), torch.randn(2, 5, 8), torch.randn(6, 4, 8)
    early, late = torch.rand(2, 5) < 0.7, torch.rand(6, 4) < 0.7
    early[:, 0], late[:, 0] = True, True
    early, late = early if 'before' in masked else None, late if 'own' in masked else None
    _, state = block(before, mask=early, return_state=True)
    repeated = type(state)(*(None if t is None else t.repeat_interleave(3, 0) for t in state))
    found, wanted = (block(x, mask=late, causal=causal, state=known) for known in (state, repeated))
    assert torch.allclose(found, wanted, atol=1e-6)


@pytest.mark.parametrize(
    'options',
    [{}, {'causal': True}, {'mask': torch.ones(5, 5).tril(2).bool()}, {'mask': torch.linspace(-2, 2, 25).view(5, 5)}],
)
def test_written_out_attention_is_the_kernel(options):
    q, k, v = torch.randn(3, 2, 2, 5, 8).bfloat16()
    options = {n: o.bfloat16() if torch.is_tensor(o) and o.is_floating_point() else o for n, o in options.items()}
    with torch.no_grad():
        wanted = scaled_attention(q, k, v, **options)
    found = scaled_attention(q.requires_grad_(), k, v, **options)
    assert found.dtype == wanted.dtype and (found - wanted).abs().max() < 0.05
    found.sum().backward()
    assert q.grad.isfinite().all()


@pytest.mark.parametrize(
    'mask', [None, torch.arange(9).view(1, 1, 1, 9) % 2 == 0, torch.linspace(-2, 2, 9).view(1, 1, 1, 9)]
)
def test_one_query_in_bfloat16_reads_what_it_reads_in_float32(mask):
    q, buffer = torch.randn(2, 3, 1, 8), torch.randn(2, 2, 3, 12, 8)
    k, v = buffer[:, :, :, :9]  # with gaps, as keys and values in a buffer
    with torch.inference_mode():
        wanted = scaled_attention(q, k, v, mask=mask)
        lower = mask.bfloat16() if mask is not None and mask.is_floating_point() else mask
        found = scaled_attention(q.bfloat16(), k.bfloat16(), v.bfloat16(), mask=lower)
    assert found.dtype == torch.bfloat16 and (found - wanted).abs().max() < 0.05


@pytest.mark.parametrize('causal', [False, True])
def test_masked_keys_are_not_attended_to(causal):
    block, x = TransformerBlock(d=8, heads=2), torch.randn(2, 6, 8)
    mask = torch.ones(2, 6, dtype=torch.bool)
    mask[0, 4:] = False
    changed = x.clone()
    changed[0, 4:] = torch.randn(2, 8)  # a constant would be lost in the LayerNorm
    found, wanted = block(changed, mask=mask, causal=causal), block(x, mask=mask, causal=causal)
    assert torch.allclose(found[0, :4], wanted[0, :4], atol=1e-6)
    assert torch.allclose(wanted[0, :4], block(x[:1, :4], causal=causal)[0], atol=1e-6)


@pytest.mark.parametrize('masked', [False, True])
def test_a_sequence_in_two_parts_is_the_sequence(masked):
    block, x = TransformerBlock(d=8, heads=2), torch.randn(2, 7, 8)
    mask = torch.tensor([[0, 1, 1, 1, 1, 0, 1], [1, 1, 1, 0, 1, 1, 1]], dtype=torch.bool) if masked else None
    whole = block(x, mask=mask, causal=True)
    first, state = block(x[:, :4], mask=mask[:, :4] if masked else None, causal=True, return_state=True)
    second, state = block(x[:, 4:], mask=mask[:, 4:] if masked else None, causal=True, state=state, return_state=True)
    assert torch.allclose(torch.cat([first, second], 1), whole, atol=1e-6)
    assert state.k.shape[2] == 7


@pytest.mark.parametrize('masked', [False, True])
def test_causal_attention_does_not_look_ahead(masked):
    block, x = TransformerBlock(d=8, heads=2), torch.randn(2, 6, 8)
    mask = torch.ones(2, 6, dtype=torch.bool) if masked else None
    changed = x.clone()
    changed[:, 4] = torch.randn(2, 8)
    found, wanted = block(changed, mask=mask, causal=True), block(x, mask=mask, causal=True)
    assert torch.allclose(found[:, :4], wanted[:, :4], atol=1e-6)
    assert not torch.allclose(found[:, 4:], wanted[:, 4:])


def test_rows_without_any_valid_key_are_finite_forward_and_backward(cross, gate):
    block = TransformerBlock(d=12, heads=2)
    x, context, summary = (t.requires_grad_() for t in inputs())
    mask = torch.ones(2, 7, dtype=torch.bool)
    mask[0] = False
    tokens = block(context, mask=mask, causal=True)
    y = cross(x, tokens, summary, gate=gate, mask=mask)
    (y.sum() + tokens.sum()).backward()
    assert y.isfinite().all() and tokens.isfinite().all()
    for parameter in (*block.parameters(), *cross.parameters(), *gate.parameters()):
        assert parameter.grad.isfinite().all()
    # Nothing was read, so only the bias of W_o is left of the attention.
    opened = gate(x, summary)[0]
    query = cross.w_q(cross.norm_query(x))[0]
    assert torch.allclose(y[0], opened * cross.w_o.bias + (1 - opened) * query, atol=1e-6)


def test_the_semantic_bias_leaves_the_logits_in_bfloat16(cross, gate, monkeypatch):
    biases, attend = [], attention.scaled_attention
    monkeypatch.setattr(
        attention, 'scaled_attention', lambda *a, mask: biases.append(mask.dtype) or attend(*a, mask=mask)
    )
    x, context, summary = inputs()
    wanted = cross(x, context, summary, gate=gate)
    with torch.autocast('cpu', torch.bfloat16):
        found = cross(x, context, summary, gate=gate)
    assert biases == [torch.float32, torch.bfloat16]
    assert (found - wanted).norm() < 0.02 * wanted.norm()


def test_gated_cross_attention_is_its_equations(cross, gate):
    x, context, summary = inputs()
    found = cross(x, context, summary, gate=gate)

    def norm(t):  # LayerNorm starts as plain standardisation
        return F.layer_norm(t, (12,), eps=1e-6)

    q, k, v = cross.w_q(norm(x)), cross.w_k(norm(context)), cross.w_v(norm(context))
    s = F.cosine_similarity(k, cross.w_q(norm(summary))[:, None], dim=-1)
    read = torch.zeros(2, 5, 8)
    for h in range(2):
        part = slice(4 * h, 4 * h + 4)
        logits = q[..., part] @ k[..., part].transpose(1, 2) / math.sqrt(4) + cross.beta[h] * s[:, None]
        read[..., part] = logits.softmax(-1) @ v[..., part]
    pair = torch.cat([x, summary[:, None].expand_as(x)], -1)
    opened = torch.sigmoid(gate.w2(F.gelu(gate.w1(pair))))
    assert torch.allclose(found, opened * cross.w_o(read) + (1 - opened) * q, atol=1e-5)


def test_without_bias_and_gate_it_is_plain_cross_attention():
    x, context, summary = inputs()
    ours = GatedCrossAttention(d_context=12, d=8, heads=2, gate=False)
    theirs = torch.nn.MultiheadAttention(8, 2, batch_first=True, bias=True)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.eye(8).repeat(3, 1))  # our W_q, W_k, W_v come before it
        theirs.in_proj_bias.zero_()
        theirs.out_proj.load_state_dict(ours.w_o.state_dict())
    normed = ours.norm_context(context)
    wanted, _ = theirs(ours.w_q(ours.norm_query(x)), ours.w_k(normed), ours.w_v(normed))
    assert torch.equal(ours.beta, torch.zeros(2))
    assert torch.allclose(ours(x, context, summary), wanted, atol=1e-6)
    plain = GatedCrossAttention(d_context=12, d=8, heads=2, gate=False, semantic_bias=False)
    plain.load_state_dict({name: value for name, value in ours.state_dict().items() if name != 'beta'})
    assert torch.allclose(plain(x, context, summary), wanted, atol=1e-6)


def test_masked_context_is_as_if_absent(cross, gate):
    x, context, summary = inputs()
    mask = (torch.arange(7) < 4).expand(2, -1)
    found = cross(x, context, summary, gate=gate, mask=mask)
    assert torch.allclose(found, cross(x, context[:, :4], summary, gate=gate), atol=1e-6)


def test_queries_common_to_the_batch_may_be_given_once(cross, gate):
    x, context, summary = inputs()
    wanted = cross(x[:1].expand(2, -1, -1), context, summary, gate=gate)
    assert torch.allclose(cross(x[:1], context, summary, gate=gate), wanted, atol=1e-6)


def test_text_steers_the_attention_only_through_beta(cross):
    x, context, summary = inputs()
    cross.gated = False
    assert not torch.allclose(cross(x, context, summary), cross(x, context, -summary))
    torch.nn.init.zeros_(cross.beta)
    assert torch.allclose(cross(x, context, summary), cross(x, context, -summary))


def test_gate_starts_mostly_open(gate):
    x, _, summary = inputs()
    assert torch.equal(gate.w2.bias, torch.full((8,), 2.0))
    assert gate(x, summary).mean() > 0.7


def test_without_cross_attention_the_context_is_ignored():
    module = GatedCrossAttention(d_context=12, d=8, heads=2, cross_attention=False)
    x, context, summary = inputs()
    assert torch.equal(module(x, context, summary), module.w_q(module.norm_query(x)))
    module(x, context, summary).sum().backward()
    assert all(parameter.grad is not None for parameter in module.parameters())


def test_misuse_is_refused(cross):
    with pytest.raises(ValueError, match='got no gate'):
        cross(*inputs())
    with pytest.raises(ValueError, match='heads is 3; give a divisor of the width d = 8'):
        SelfAttention(d=8, heads=3)


@pytest.mark.parametrize(('ratio', 'hidden'), [(4, 32), (2.5, 20)])
def test_the_mlp_is_as_wide_as_its_ratio_says(ratio, hidden):
    assert TransformerBlock(d=8, heads=2, mlp_ratio=ratio).mlp[0].out_features == hidden


def test_renewed_tokens_attend_to_all_tokens():
    """Renewing in a cache equals attending with those tokens in their places."""
    attention, old, new = SelfAttention(d=8, heads=2), torch.randn(2, 6, 8), torch.randn(2, 2, 8)
    indices = torch.tensor([4, 1])
    _, cache = attention.renew(old, None, None)
    found, renewed = attention.renew(new, indices, cache)
    whole, state = attention(old.index_copy(1, indices, new))
    torch.testing.assert_close(found, whole[:, indices])
    torch.testing.assert_close((renewed.k, renewed.v), (state.k, state.v))
