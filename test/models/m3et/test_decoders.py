"""Queries of the decoders and the answer head."""

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
