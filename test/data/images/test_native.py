"""The native functions of images give the bits that OpenCV gives, and refuse what OpenCV computes differently."""

import cv2
import numpy as np
import pytest
import torch

from m3et_ros.data import depth_fill, preprocess
from m3et_ros.data.images import native
from m3et_ros.runtime import kernels


@pytest.fixture(scope='module', autouse=True)
def library(tmp_path_factory):
    """The library: from the cache where this user has built it, else built for the test."""
    if not kernels.library('frames').exists() and kernels.compiler() is None:
        pytest.skip('there is no C++ compiler')
    with pytest.MonkeyPatch.context() as patch:
        if not kernels.library('frames').exists():
            patch.setenv('M3ET_CACHE', str(tmp_path_factory.mktemp('cache')))
        kernels.build()
        yield str(kernels.library('frames'))
    native.unload()


def both(library, function):
    """Return what a function gives with OpenCV alone and with the library."""
    native.unload()
    wanted = function()
    native.load(library)
    return wanted, function()


SIZES = pytest.mark.parametrize(
    'shape', [(48, 64), (31, 47), (22, 30), (90, 160)], ids=['vga', 'odd', 'flat', 'halved']
)


@SIZES
def test_colours_are_standardised_as_by_opencv(library, shape):
    rgb = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    wanted, found = both(library, lambda: preprocess.rgb_input(rgb, 22))
    torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-6)


@SIZES
def test_depth_is_squeezed_around_its_holes_as_by_opencv(library, shape):
    random = np.random.default_rng(1)
    depth = random.random(shape, np.float32)
    depth[random.random(shape) < 0.2], depth[:9, :11], depth[-1, -1] = np.nan, np.nan, np.inf
    wanted, found = both(library, lambda: preprocess.squeeze_depth(depth, 22))
    assert np.isnan(found).any() and np.isfinite(found).any()
    np.testing.assert_allclose(found, wanted, rtol=1e-6)


def test_depth_is_halved_and_joined_as_by_opencv(library):
    random = np.random.default_rng(3)
    depth = random.uniform(1, 3, (30, 44)).astype(np.float32)
    depth[random.random(depth.shape) < 0.3], depth[:9, :11], depth[-1, -1] = np.nan, np.nan, np.inf
    wanted, found = both(library, lambda: depth_fill.halved_depth(depth))
    assert np.isnan(found).any()
    np.testing.assert_allclose(found, wanted, rtol=1e-6)
    coarse = random.uniform(-0.1, 2, (15, 22)).astype(np.float32)
    coarse[-1, 0] = np.nan
    wanted, found = both(library, lambda: depth_fill.join(depth, coarse))
    assert np.isnan(found).any() and np.array_equal(found[np.isfinite(depth)], depth[np.isfinite(depth)])
    np.testing.assert_allclose(found, wanted, rtol=1e-6)
    assert native.halve_depth(depth[1:]) is None and native.halve_depth(depth[:, ::2]) is None
    assert native.join_depth(depth, coarse.astype(float)) is None


def test_the_likeliest_class_is_that_of_smoothed_scores(library):
    random = np.random.default_rng(2)
    for classes, side, size in ((47, 14, 56), (3, 8, 32), (9, 20, 50)):
        fine = random.standard_normal((1, classes, side, side), np.float32)
        coarse = np.stack([cv2.resize(plane[:4, :4], (side, side)) for plane in fine[0]])[None]
        for scores in (fine, coarse):
            logits = torch.from_numpy(scores)
            wanted, found = both(
                library, lambda logits=logits, size=size: preprocess.mask_output(logits, size, (40, 70))
            )
            assert len(np.unique(found)) > 2 and np.array_equal(found, wanted)


def test_scores_that_are_not_finite_are_left_to_opencv(library):
    scores = np.zeros((2, 4, 4), np.float32)
    native.load(library)
    assert native.best_class(scores, 8) is not None
    scores[1, 3, 3] = np.nan
    assert native.best_class(scores, 8) is None
    scores[1, 3, 3] = np.inf
    assert native.best_class(scores, 8) is None


def test_it_takes_neither_gaps_nor_whole_multiples_nor_small_images(library):
    native.load(library)
    rgb = np.zeros((12, 18, 4), np.uint8)
    assert native.takes(rgb, 5) and not native.takes(rgb[..., :3], 5)
    assert not native.takes(rgb, 6) and native.takes(rgb, 4) and not native.takes(rgb, 13)
    native.unload()
    assert not native.takes(rgb, 5) and native.best_class(np.zeros((2, 4, 4), np.float32), 8) is None


def test_another_library_and_one_that_differs_are_refused(library, monkeypatch):
    with pytest.raises(OSError, match='not a library of these functions'):
        native.load(str(kernels.library()))
    monkeypatch.setattr(native.cv2, 'resize', lambda image, size, **_: np.zeros((*size, *image.shape[2:]), image.dtype))
    with pytest.raises(OSError, match='differ from OpenCV'):
        native.load(library)
    assert not native.loaded()
