"""Seeded textures."""

import cv2
import numpy as np
import pytest

from m3et_ros.data.kitchen.sim import textures


def test_png_reads_back():
    image = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    decoded = cv2.imdecode(np.frombuffer(textures.png(image), np.uint8), cv2.IMREAD_COLOR)
    assert np.array_equal(decoded[..., ::-1], image)


@pytest.mark.parametrize('pattern', textures.BRIGHTNESS)
def test_textures_vary_about_their_colour(pattern):
    image = textures.texture(np.random.default_rng(1), pattern, (0.8, 0.4, 0.2))
    assert image.std(axis=(0, 1))[0] > 0.5
    assert image[..., 0].mean() > image[..., 1].mean() > image[..., 2].mean()


def test_same_generator_state_gives_the_same_label():
    first, second = (textures.label(np.random.default_rng(3), (1, 0, 0)) for _ in range(2))
    assert np.array_equal(first, second)
