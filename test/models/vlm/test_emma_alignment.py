"""EMMA's head: fusion, segments, orders, targets, sizes of the paper, refusals."""

from dataclasses import replace

import pytest
import torch

from m3et_ros.layers.scan_order import blocks
from m3et_ros.models.m3et.adapters import ImageAdapter
from m3et_ros.models.vlm.emma_alignment import AlignmentConfig, AlignmentHead, MultiScaleFusion, SegmentAttention

SMALL = AlignmentConfig(rows=6, cols=9, d=16, heads=2, taps=(1, 3), segment=9, d_target=5, patch=4, N=8, P=8, chunk=16)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def hidden(config: AlignmentConfig = SMALL, batch: int = 2) -> dict[int, torch.Tensor]:
    return {place: torch.randn(batch, config.rows * config.cols, config.d) for place in config.taps}


def test_stream_k_has_every_kth_channel():
    fusion, states = MultiScaleFusion(d=4, streams=3), [torch.randn(1, 2, 4) for _ in range(3)]
    mixed = fusion.mix(torch.cat([norm(h) for norm, h in zip(fusion.norms, states, strict=True)], -1))
    streams = fusion(states)
    assert all(torch.equal(stream, mixed[..., place::3]) for place, stream in enumerate(streams))


def test_no_segment_reads_a_later_one():
    attention, q, context = SegmentAttention(d=16, heads=2), torch.randn(1, 12, 16), torch.randn(1, 12, 16)
    before = attention(q, context, segment=4)
    for token in range(12):
        changed = context.clone()
        changed[:, token] += 1
        moved = (attention(q, changed, segment=4) - before).abs().amax(-1)[0] > 0
        assert moved.tolist() == [place >= token // 4 * 4 for place in range(12)]


@pytest.mark.parametrize('released', [False, True])
def test_queries_read_the_blocks_before_them(released):
    """The place of the first prediction that a visual token reaches: that of its segment in the order of the keys."""
    head, states = AlignmentHead(replace(SMALL, released_order=released)), hidden(batch=1)
    before = head(states)
    for token in (0, 8, 9, 20, 45, 53):
        changed = {place: state.clone() for place, state in states.items()}
        changed[3][:, token] += torch.randn(16)
        moved = (head(changed) - before).abs().amax(-1)[0] > 1e-7
        place = token if released else blocks(6, 9).tolist().index(token)
        assert moved.nonzero()[0] == place // 9 * 9


def test_every_parameter_learns():
    head = AlignmentHead(SMALL)
    (head(hidden()) - torch.randn(2, 54, 5)).square().sum().backward()
    # The softmax does not feel a shift of all logits of a query, so the bias of k gets rounding errors at most.
    assert not [
        name
        for name, values in head.named_parameters()
        if not name.endswith('k.bias') and (values.grad is None or not values.grad.any())
    ]


def test_targets_of_all_three_kinds_are_in_block_order():
    order, images = blocks(6, 9), torch.randn(2, 3, 26, 38)  # pixels beyond 24 x 36 are left out
    pixels = AlignmentHead(replace(SMALL, target='pixels', d_target=48, standardise=False)).targets(images=images)
    # Second token in block order: row 0, column 1.
    assert order[1] == 1 and torch.equal(pixels[:, 1], images[:, :, :4, 4:8].flatten(1))
    # Fourth: row 1, column 0.
    assert order[3] == 9 and torch.equal(pixels[:, 3], images[:, :, 4:8, :4].flatten(1))
    convolution = torch.nn.Conv2d(3, 5, 4, stride=4)
    head = AlignmentHead(replace(SMALL, standardise=False))
    head.set_patch_embedding(convolution.weight, convolution.bias)
    wanted = convolution(images[:, :, :24, :36]).flatten(2).transpose(1, 2)[:, order]
    assert (head.targets(images=images) - wanted).abs().max() < 1e-5
    assert not head.targets(images=images).requires_grad
    features = torch.randn(2, 54, 5)
    deep = AlignmentHead(replace(SMALL, target='deep', standardise=False)).targets(features=features)
    assert torch.equal(deep, features[:, order])


def test_standardised_targets_have_mean_0_and_deviation_1():
    found = AlignmentHead(replace(SMALL, target='deep')).targets(features=3 + 2 * torch.randn(2, 54, 5))
    assert found.mean(-1).abs().max() < 1e-5 and (found.std(-1) - 1).abs().max() < 1e-4


def test_sizes_of_the_paper():
    published = AlignmentConfig(rows=27, cols=27, d=2560, heads=40, d_target=1152, patch=14, N=128, P=64)
    with torch.device('meta'):
        head = AlignmentHead(published)
        count = {name: sum(p.numel() for p in part.parameters()) for name, part in head.named_children()}
        assert count['blocks'] == 4 * (26_224_640 + 40_214_000 + 3 * 5_120 + 2_560) == 265_826_240
        assert count['fusion'] == 10_240 * 10_241 + 4 * 5_120
        assert count['output'] == 2_950_272
        assert sum(p.numel() for p in head.parameters()) == 373_672_512


def test_bad_input_is_refused():
    head = AlignmentHead(SMALL)
    with pytest.raises(ValueError, match='the output of layer 3 is missing; give it at 54 visual tokens'):
        head({1: torch.zeros(1, 54, 16)})
    with pytest.raises(ValueError, match='the output of layer 1 has 53 tokens'):
        head({1: torch.zeros(1, 53, 16), 3: torch.zeros(1, 54, 16)})
    with pytest.raises(ValueError, match='the patch embedding was never set'):
        head.targets(images=torch.zeros(1, 3, 24, 36))
    with pytest.raises(ValueError, match=r'the images are \(3, 24, 32\); the target patch needs \(3, 24, 36\)'):
        head.targets(images=torch.zeros(1, 3, 24, 32))
    with pytest.raises(ValueError, match=r'the features are None; the target deep needs \(54, 5\)'):
        AlignmentHead(replace(SMALL, target='deep')).targets(images=torch.zeros(1, 3, 24, 36))
    with pytest.raises(ValueError, match=r'the patch embedding is \(5, 27\); give \(5, 48\)'):
        head.set_patch_embedding(torch.zeros(5, 3, 3, 3))


@pytest.mark.parametrize(
    ('field', 'value', 'words'),
    [
        ('rows', 7, 'the grid is 7 x 9; give rows and columns that are multiples of 3'),
        ('segment', 12, 'segment is 12; give a multiple of 9 that divides the 54'),
        ('taps', (3, 1), r'taps is \(3, 1\)'),
        ('target', 'depth', "target is 'depth'; give one of pixels"),
        ('target', 'pixels', 'd_target is 5; give 3 patch'),
        ('heads', 3, 'heads is 3; give a divisor of d = 16'),
        ('G', 3, 'G is 3; give a divisor of the heads'),
        ('released_order', 1, 'released_order is 1; give true'),
    ],
)
def test_a_config_out_of_range_is_refused(field, value, words):
    with pytest.raises(ValueError, match=words):
        replace(SMALL, **{field: value})


@pytest.mark.parametrize(
    ('height', 'width', 'fits'),
    [(24, 36, True), (27, 39, True), (28, 36, False), (24, 40, False), (23, 36, False), (24, 35, False)],
)
def test_images_may_exceed_the_grid_by_less_than_a_patch(height, width, fits):
    head = AlignmentHead(replace(SMALL, target='pixels', d_target=48, standardise=False))
    images = torch.randn(1, 3, height, width)
    if fits:
        assert torch.equal(head.targets(images=images), head.targets(images=images[:, :, :24, :36]))
    else:
        with pytest.raises(ValueError, match=rf'the images are \(3, {height}, {width}\)'):
            head.targets(images=images)
    with pytest.raises(ValueError, match='the images are'):
        head.targets(images=images[:, :1])


def test_a_patch_embedding_without_a_bias_has_none():
    head = AlignmentHead(replace(SMALL, standardise=False))
    weight, images = torch.randn(5, 3, 4, 4), torch.randn(1, 3, 24, 36)
    head.set_patch_embedding(weight, torch.ones(5))
    with_bias = head.targets(images=images)
    head.set_patch_embedding(weight)
    torch.testing.assert_close(head.targets(images=images), with_bias - 1, atol=1e-5, rtol=1e-5)
    with pytest.raises(ValueError, match='target is deep; only a head that predicts patch embeddings'):
        AlignmentHead(replace(SMALL, target='deep')).set_patch_embedding(weight)


def test_a_patch_encoder_of_another_shape_or_for_another_target_is_refused():
    with pytest.raises(ValueError, match=r'the patch embedding gives \(54, 6\); give \(54, 5\)'):
        AlignmentHead(SMALL).set_patch_encoder(ImageAdapter(channels=3, patch=4, d=6))
    with pytest.raises(ValueError, match='target is deep; only a head that predicts patch embeddings'):
        AlignmentHead(replace(SMALL, target='deep')).set_patch_encoder(ImageAdapter(channels=3, patch=4, d=5))
