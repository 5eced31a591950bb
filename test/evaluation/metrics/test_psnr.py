"""PSNR over hidden patches and over the pasted picture."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from m3et_ros.evaluation.metrics.psnr import CEILING, patch_mask, psnr, psnr_hidden, psnr_pasted, unstandardise


def pictures(seed, size=8):
    return np.random.default_rng(seed).random((2, 3, size, size), dtype=np.float32)


def test_a_constant_error_by_hand():
    target = np.full((1, 3, 4, 4), 0.5)
    assert psnr(target + 0.1, target) == pytest.approx([20])
    # The paper's 18.3 dB is an MSE of 0.0148 (docs/papers.md 2.6).
    assert psnr(target + np.sqrt(0.0148), target) == pytest.approx([18.3], abs=0.01)


def test_hidden_and_pasted_differ_by_the_share_of_hidden_pixels():
    target = np.full((1, 3, 4, 4), 0.5)
    hidden = patch_mask([[True, False, False, False]], (4, 4), 2)
    prediction = np.where(hidden[:, None], 0.6, np.zeros_like(target))
    assert psnr_hidden(prediction, target, hidden) == pytest.approx([20])
    assert psnr_pasted(prediction, target, hidden) == pytest.approx([20 + 10 * np.log10(4)])


def test_nothing_hidden_has_no_first_figure():
    target = pictures(0)
    hidden = np.zeros((2, 8, 8), bool)
    hidden[0, 0] = True
    first = psnr_hidden(target, target, hidden)
    assert first[0] == CEILING and np.isnan(first[1])


def test_patch_masks_are_in_raster_order():
    mask = patch_mask([[True, False, False, False, False, True]], (4, 6), 2)
    assert mask[0, :2, :2].all() and mask[0, 2:, 4:].all() and mask.sum() == 8
    with pytest.raises(ValueError, match='one entry for each patch'):
        patch_mask([[True, False]], (4, 6), 2)


def test_tensors_are_read_and_colours_clamped():
    images = torch.tensor([[[[10.0]], [[0.0]], [[-10.0]]]], dtype=torch.bfloat16)
    assert unstandardise(images, (0.5, 0.5, 0.5), (0.2, 0.2, 0.2)).ravel() == pytest.approx([1, 0.5, 0])


def test_shapes_must_agree():
    with pytest.raises(ValueError, match='differ'):
        psnr(pictures(0), pictures(0, size=4))


@given(seed=st.integers(0, 99), scale=st.floats(0.05, 0.9))
def test_less_error_is_better_and_no_error_best(seed, scale):
    target, noise = pictures(seed), pictures(seed + 100)
    far, near = psnr(noise, target), psnr(target + scale * (noise - target), target)
    assert (near > far).all() and (psnr(target, target) == CEILING).all()
    assert psnr(noise[::-1], target[::-1]) == pytest.approx(far[::-1])
    assert psnr(noise, target, np.ones((2, 8, 8))) == pytest.approx(far)


def test_against_torchmetrics():
    image = pytest.importorskip('torchmetrics').image
    prediction, target = torch.from_numpy(pictures(1)), torch.from_numpy(pictures(2))
    metric = image.PeakSignalNoiseRatio(data_range=(0.0, 1.0), dim=(1, 2, 3))
    assert psnr(prediction, target).mean() == pytest.approx(float(metric(prediction, target)), rel=1e-5)
