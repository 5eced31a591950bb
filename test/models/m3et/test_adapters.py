"""Patches, adapters, sine-cosine positions and refused inputs."""

import math
from dataclasses import replace

import pytest
import torch

from m3et_ros.models.m3et.adapters import (
    ConvStem,
    DeepImageAdapter,
    ImageAdapter,
    SemsegAdapter,
    build_adapters,
    check_inputs,
    check_pads_last,
    measured_patches,
    patchify,
    shown_pixels,
    sincos_2d,
    unpatchify,
)
from m3et_ros.models.m3et.sizes import SIZES

TINY = SIZES['tiny']


def test_patches_come_in_raster_order_and_go_back():
    images = torch.arange(2 * 3 * 8 * 8.0).reshape(2, 3, 8, 8)
    patches = patchify(images, 4)
    torch.testing.assert_close(patches[1, 2], images[1, :, 4:8, 0:4].flatten())
    assert torch.equal(unpatchify(patches, 4), images)


def test_the_image_adapter_is_a_strided_convolution():
    torch.manual_seed(0)
    adapter, images = ImageAdapter(channels=3, patch=4, d=8), torch.randn(2, 3, 8, 8)
    kernel = adapter.project.weight.reshape(8, 3, 4, 4)
    expected = torch.nn.functional.conv2d(images, kernel, adapter.project.bias, stride=4).flatten(2).transpose(1, 2)
    torch.testing.assert_close(adapter(images), expected)


def test_unlabelled_pixels_add_nothing():
    adapter = SemsegAdapter(classes=5, class_width=4, patch=2, d=8)
    unlabelled = adapter(torch.full((1, 4, 4), 255))
    torch.testing.assert_close(unlabelled, adapter.pixels.project.bias.expand(1, 4, 8))


def test_classes_differ():
    adapter = SemsegAdapter(classes=5, class_width=4, patch=2, d=8)
    assert not torch.allclose(adapter(torch.full((1, 4, 4), 1)), adapter(torch.full((1, 4, 4), 2)))


@pytest.mark.parametrize(
    'inputs, word',
    [
        ({}, 'no modality'),
        ({'sound': torch.zeros(1)}, 'sound'),
        ({'rgb': torch.zeros(1, 3, 16, 16)}, 'rgb is'),
        ({'rgb': torch.zeros(2, 3, 32, 32), 'depth': torch.zeros(1, 1, 32, 32)}, 'depth is'),
        ({'semseg': torch.zeros(1, 8, 8)}, 'int64'),
        ({'text': torch.zeros(1, 4)}, 'int64'),
        ({'text': torch.zeros(1, 13, dtype=torch.int64)}, '1 to 12'),
        ({'text': torch.zeros(1, 4, dtype=torch.int64), 'text_mask': torch.ones(1, 3, dtype=torch.bool)}, 'text_mask'),
        ({'text': torch.zeros(1, 4, dtype=torch.int64), 'text_mask': torch.ones(1, 4)}, 'text_mask'),
    ],
)
def test_inputs_that_do_not_fit_are_refused(inputs, word):
    with pytest.raises(ValueError, match=word):
        check_inputs(inputs, TINY)


def test_a_token_of_the_deep_adapter_depends_on_its_own_patch_alone():
    torch.manual_seed(0)
    adapter, images = DeepImageAdapter(channels=3, patch=8, d=16, width=4), torch.randn(1, 3, 16, 16)
    other = images.clone()
    other[:, :, :8, 8:] = 0  # patch 1
    moved = (adapter(other) != adapter(images)).any(-1)[0]
    assert moved.tolist() == [False, True, False, False]


def test_the_deep_adapter_maps_cells_and_then_patches():
    torch.manual_seed(0)
    adapter, images = DeepImageAdapter(channels=1, patch=8, d=16, width=4), torch.randn(1, 1, 16, 16)
    cells = torch.nn.functional.gelu(adapter.norm(adapter.cells(images)))[0].view(8, 8, 4)
    torch.testing.assert_close(adapter(images)[0, 3], adapter.project(cells[4:, 4:].flatten()))


@pytest.mark.parametrize('patch', [2, 8, 16])
def test_a_token_of_the_stem_depends_on_its_patch_and_on_half_a_patch_around_it(patch):
    torch.manual_seed(0)
    images = torch.randn(1, 2, 4 * patch, 4 * patch, requires_grad=True)
    tokens = ConvStem(channels=2, patch=patch, d=8, width=4)(images)
    assert tokens.shape == (1, 16, 8)
    tokens[0, 5].square().sum().backward()  # second row, second column
    first, last = patch - (patch // 2 - 1), 2 * patch - 1 + patch // 2
    depends = torch.zeros(4 * patch, 4 * patch, dtype=torch.bool)
    depends[first : last + 1, first : last + 1] = True
    assert torch.equal(images.grad[0].ne(0).all(0), depends) and torch.equal(images.grad[0].ne(0).any(0), depends)


def test_the_stem_is_convolutions_with_norms_and_a_linear_map():
    torch.manual_seed(0)
    stem, images = ConvStem(channels=3, patch=4, d=8, width=6), torch.randn(2, 3, 8, 8)
    x = torch.nn.functional.pad(images, (1, 0, 1, 0))
    (first, second), (norm,) = stem.convs, stem.norms
    assert (first.weight.shape, second.weight.shape) == ((6, 3, 3, 3), (12, 6, 3, 3))
    x = torch.nn.functional.gelu(torch.nn.functional.conv2d(x, first.weight, first.bias, stride=2))
    x = torch.nn.functional.pad(x, (0, 1, 0, 1))
    x = torch.nn.functional.conv2d(x, second.weight, second.bias, stride=2).flatten(2).transpose(1, 2)
    mean, variance = x.mean(-1, keepdim=True), x.var(-1, unbiased=False, keepdim=True)
    x = torch.nn.functional.gelu((x - mean) / (variance + 1e-6).sqrt() * norm.weight + norm.bias)
    torch.testing.assert_close(stem(images), stem.project(x))


def test_the_config_chooses_the_stem_and_its_widths():
    stems = build_adapters(replace(TINY, stem='conv', adapter_width=4, depth_validity=True))
    widths = {m: [conv.in_channels for conv in stems[m].convs] for m in ('rgb', 'depth')}
    assert widths == {'rgb': [3, 4, 8, 16], 'depth': [2, 2, 4, 8]}
    assert [stems[m].project.in_features for m in ('rgb', 'depth')] == [32, 16]
    assert isinstance(build_adapters(replace(TINY, depth_validity=True))['depth'], ImageAdapter)
    assert build_adapters(replace(TINY, depth_validity=True))['depth'].channels == 2


def test_a_depth_patch_is_measured_where_one_pixel_is():
    depth = torch.ones(2, 2, 8, 8)
    depth[:, 1] = 0
    depth[0, 1, 5, 7] = depth[1, 1, 0, 0] = 1
    assert measured_patches(depth, 4).tolist() == [[False, False, False, True], [True, False, False, False]]


def test_hidden_patches_are_zeros_even_where_they_are_not_finite():
    images = torch.full((1, 2, 8, 8), torch.nan)
    images[..., :4, 4:] = 3
    shown = shown_pixels(images, torch.tensor([[False, True, False, False]]), 4)
    assert (shown[..., :4, 4:] == 3).all() and shown.sum() == 2 * 16 * 3


def test_depth_without_its_validity_is_refused_where_the_model_takes_it():
    with pytest.raises(ValueError, match=r'depth is \(1, 1, 32, 32\); give \(1, 2, 32, 32\)'):
        check_inputs({'depth': torch.zeros(1, 1, 32, 32)}, replace(TINY, depth_validity=True))
    with pytest.raises(ValueError, match=r'depth is \(1, 2, 32, 32\); give \(1, 1, 32, 32\)'):
        check_inputs({'depth': torch.zeros(1, 2, 32, 32)}, TINY)


def test_the_config_chooses_the_adapters_and_their_widths():
    shallow, deep = build_adapters(TINY), build_adapters(replace(TINY, adapter_width=12))
    assert list(shallow) == list(TINY.modalities) and isinstance(shallow['depth'], ImageAdapter)
    assert (deep['rgb'].cells.project.out_features, deep['depth'].cells.project.out_features) == (12, 6)
    assert (deep['rgb'].cells.channels, deep['depth'].cells.channels, deep['rgb'].cells.patch) == (3, 1, 4)
    assert shallow['semseg'].embedding.weight.shape == (TINY.classes, TINY.class_width)
    assert shallow['semseg'].pixels.patch == TINY.semseg_patch
    assert shallow['text'].table.weight.shape == (TINY.vocabulary, TINY.d)
    assert shallow['text'].positions.shape == (TINY.text_length, TINY.d)
    assert list(build_adapters(replace(TINY, modalities=('depth',), tasks=()))) == ['depth']


@pytest.mark.parametrize('length', [1, 12])
def test_text_of_any_length_up_to_the_limit_is_accepted(length):
    check_inputs({'text': torch.zeros(1, length, dtype=torch.int64)}, TINY)


def test_text_without_words_or_of_another_batch_is_refused():
    with pytest.raises(ValueError, match='1 to 12'):
        check_inputs({'text': torch.zeros(1, 0, dtype=torch.int64)}, TINY)
    with pytest.raises(ValueError, match=r'give \(2, 1 to 12\)'):
        check_inputs({'rgb': torch.zeros(2, 3, 32, 32), 'text': torch.zeros(1, 4, dtype=torch.int64)}, TINY)


def test_positions_are_sines_and_cosines_of_column_and_row():
    table = sincos_2d(2, 3, 8)
    slow = 10000**-0.5
    column, row = 2, 1
    expected = [
        math.sin(column),
        math.sin(column * slow),
        math.cos(column),
        math.cos(column * slow),
        math.sin(row),
        math.sin(row * slow),
        math.cos(row),
        math.cos(row * slow),
    ]
    torch.testing.assert_close(table[row * 3 + column], torch.tensor(expected))


def test_every_position_differs():
    table = sincos_2d(14, 14, 64)
    distances = torch.cdist(table, table) + 10 * torch.eye(196)
    assert distances.min() > 0.1


def test_positions_need_a_width_that_is_a_multiple_of_four():
    with pytest.raises(ValueError, match='d is 6'):
        sincos_2d(2, 2, 6)


def test_pads_before_words_are_refused():
    for good in ([1, 1, 0, 0], [1, 1, 1, 1], [0, 0, 0, 0], [1, 0, 0, 0]):
        check_pads_last(torch.tensor([good], dtype=torch.bool))
    for bad in ([0, 1, 1, 1], [1, 0, 1, 0], [0, 0, 0, 1]):
        with pytest.raises(ValueError, match='row 1 of text_mask has pads before words; put the pads behind'):
            check_pads_last(torch.tensor([[1, 1, 0, 0], bad], dtype=torch.bool))
    check_pads_last(torch.ones(1, 2, dtype=torch.bool, device='meta'))
    check_pads_last(None)
