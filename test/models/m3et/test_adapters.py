"""Patches, adapters and refused inputs."""

import pytest
import torch

from m3et_ros.models.m3et.adapters import ImageAdapter, SemsegAdapter, check_inputs, patchify, unpatchify
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
