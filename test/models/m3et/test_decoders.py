"""Queries of the decoders and the answer head."""

from dataclasses import replace

import pytest
import torch

from m3et_ros.models.m3et.decoders import AnswerHead, build_decoders
from m3et_ros.models.m3et.sizes import SIZES

TINY = SIZES['tiny']


def test_one_decoder_per_task_with_its_own_outputs():
    decoders = build_decoders(TINY)
    assert {task: decoder.output.out_features for task, decoder in decoders.items()} == {
        'rgb': 768,
        'depth': 256,
        'semseg': 5 * 16,
        'text': 32,
    }


def test_queries_are_own_tokens_where_visible_and_the_mask_token_elsewhere():
    decoder = build_decoders(TINY)['rgb']
    tokens, positions = torch.randn(2, 4, 32), torch.randn(4, 32)
    visible = torch.tensor([[True, False, False, True], [False, True, True, False]])
    queries = decoder.queries(tokens, visible, positions)
    assert torch.equal(queries[visible], (tokens + positions)[visible])
    assert torch.equal(queries[~visible], (decoder.mask_token + positions).expand(2, -1, -1)[~visible])


def test_queries_of_an_absent_modality_are_mask_tokens():
    decoder, positions = build_decoders(TINY)['depth'], torch.randn(4, 32)
    assert torch.equal(decoder.queries(None, None, positions), (decoder.mask_token + positions)[None])


def test_the_answer_head_has_the_published_shape():
    head = AnswerHead(d=8, answers=5)
    assert [tuple(p.shape) for p in head.parameters()] == [(16, 8), (16,), (16,), (16,), (5, 16), (5,)]
    assert head(torch.zeros(3, 8)).shape == (3, 5)


@pytest.mark.parametrize(
    ('changes', 'attribute', 'value'),
    [
        ({'semantic_bias': False}, 'beta', None),
        ({'gate': False}, 'gated', False),
        ({'cross_attention': False}, 'cross_attention', False),
        ({'decoder_heads': 4}, 'heads', 4),
    ],
)
def test_switches_of_the_config_reach_the_cross_attention(changes, attribute, value):
    for decoder in build_decoders(replace(TINY, **changes)).values():
        assert getattr(decoder.attention, attribute) == value
    assert getattr(build_decoders(TINY)['rgb'].attention, attribute) is not value


def test_sizes_of_the_config_reach_the_blocks():
    decoder = build_decoders(replace(TINY, d_decoder=24, decoder_heads=3, decoder_blocks=2))['depth']
    assert [block.attention.heads for block in decoder.blocks] == [3, 3]
    assert decoder.output.in_features == 24 and decoder.mask_token.shape == (TINY.d,)


def test_multimaes_decoder_step_by_step():
    """Positions and types at both ends, cross-attention without a residual, an MLP with one, then two blocks."""
    switches = {'context_positions': True, 'cross_mlp': True, 'gate': False, 'semantic_bias': False}
    decoder = build_decoders(replace(TINY, decoder_blocks=2, **switches))['semseg']
    torch.manual_seed(0)
    queries, context, positions = torch.randn(2, 4, 32), torch.randn(2, 3, 32), torch.randn(2, 3, 32)
    source = torch.tensor([[0, 1, 4], [2, 3, 4]])
    found = decoder(queries, context, summary=context[:, 0], gate=None, positions=positions, source=source)
    types, attention = decoder.context_types, decoder.attention
    x = attention.norm_query(queries + types[2])
    c = attention.norm_context(context + positions + torch.stack([torch.stack([types[i] for i in s]) for s in source]))
    y = torch.nn.functional.scaled_dot_product_attention(
        *(t.unflatten(-1, (2, 8)).transpose(1, 2) for t in (attention.w_q(x), attention.w_k(c), attention.w_v(c)))
    )
    y = attention.w_o(y.transpose(1, 2).flatten(2))
    first, activation, second = decoder.cross_mlp.layers
    y = y + second(activation(first(decoder.cross_mlp.norm(y))))
    for block in decoder.blocks:
        y = block(y)
    torch.testing.assert_close(found, decoder.output(decoder.norm(y)))
    with pytest.raises(ValueError, match='give positions and source'):
        decoder(queries, context, summary=context[:, 0], gate=None)


def test_a_decoder_without_cross_attention_has_no_types_of_its_context():
    bare = build_decoders(replace(TINY, context_positions=True, cross_attention=False))['rgb']
    assert bare.context_types is None and build_decoders(TINY)['rgb'].cross_mlp is None
    assert build_decoders(replace(TINY, context_positions=True))['rgb'].context_types.shape == (5, 32)


def decode(decoder, **options):
    torch.manual_seed(0)
    queries, context, summary = torch.randn(2, 4, 32), torch.randn(2, 3, 32), torch.randn(2, 32)
    return decoder(queries, context, summary=summary, gate=None, **options)


def test_masks_reach_the_context_and_the_queries():
    decoder = build_decoders(replace(TINY, gate=False))['rgb']
    plain = decode(decoder)
    hidden = torch.tensor([[True, True, False]] * 2)
    assert not torch.allclose(decode(decoder, context_mask=hidden), plain, atol=1e-5)
    pads = torch.tensor([[True, True, True, False]] * 2)
    assert not torch.allclose(decode(decoder, query_mask=pads)[:, :3], plain[:, :3], atol=1e-5)


def test_a_causal_decoder_does_not_look_ahead():
    decoder = build_decoders(replace(TINY, gate=False))['text']
    found, plain = decode(decoder, causal=True), decode(decoder)
    assert torch.allclose(found[:, -1], plain[:, -1], atol=1e-5)
    assert not torch.allclose(found[:, 0], plain[:, 0], atol=1e-5)
