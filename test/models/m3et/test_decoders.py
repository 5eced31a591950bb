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
