"""RandAugment of pictures (Cubuk et al., 2020), as MambaVL's training has it: m7-n4-mstd0.5-inc1 (docs/papers.md 3).

Four of fifteen changes are drawn, each is made with probability 0.5, and its strength is drawn around 7 of 10. All
pictures of a clip are changed alike.
"""

from collections.abc import Callable

import numpy as np

COUNT, MAGNITUDE, DEVIATION, PROBABILITY = 4, 7.0, 0.5, 0.5
MOST = 10.0
"""Strongest magnitude; strengths below are shares of it."""
FILL = (124, 116, 104)
"""Colour of what a shift uncovers, the mean of ImageNet."""
ENHANCED = {'colour': 'Color', 'contrast': 'Contrast', 'brightness': 'Brightness', 'sharpness': 'Sharpness'}
MOVED = ('rotate', 'shear_x', 'shear_y', 'translate_x', 'translate_y')
CHANGES = ('autocontrast', 'equalise', 'invert', 'posterise', 'solarise', 'solarise_add', *ENHANCED, *MOVED)


def randaugment(clip: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Change all pictures of a clip alike.

    Args:
        clip: pictures (n, H, W, 3) uint8, R G B.
        rng: of all draws.

    Returns:
        An array of the same shape and type.
    """
    changes = [
        (name, sign * strength)
        for name in rng.choice(CHANGES, COUNT)
        for made, strength, sign in [(rng.random() < PROBABILITY, _strength(rng), rng.choice((-1, 1)))]
        if made
    ]
    for name, strength in changes:
        clip = change(clip, str(name), float(strength))
    return clip


def _strength(rng: np.random.Generator) -> float:
    return float(np.clip(rng.normal(MAGNITUDE, DEVIATION), 0, MOST)) / MOST


def change(clip: np.ndarray, name: str, strength: float) -> np.ndarray:
    """Make one change in all pictures of a clip.

    Args:
        clip: pictures (n, H, W, 3) uint8, R G B.
        name: one of CHANGES.
        strength: -1 to 1; its sign is the direction of enhancements and movements, and of no meaning elsewhere.
    """
    from PIL import Image

    how = _how(name, strength, clip.shape[2], clip.shape[1])
    return np.stack([np.asarray(how(Image.fromarray(picture))) for picture in clip])


def _how(name: str, strength: float, width: int, height: int) -> Callable:
    """Return the function that makes a change in a Pillow image."""
    from PIL import Image, ImageEnhance, ImageOps

    size = abs(strength)
    plain: dict[str, Callable] = {
        'autocontrast': ImageOps.autocontrast,
        'equalise': ImageOps.equalize,
        'invert': ImageOps.invert,
        'posterise': lambda image: ImageOps.posterize(image, max(1, 4 - int(4 * size))),
        'solarise': lambda image: ImageOps.solarize(image, 256 - int(256 * size)),
        'solarise_add': lambda image: image.point(
            [min(255, v + int(110 * size)) if v < 128 else v for v in range(256)] * 3
        ),
    }
    if name in plain:
        return plain[name]
    if name in ENHANCED:
        return lambda image: getattr(ImageEnhance, ENHANCED[name])(image).enhance(max(0.1, 1 + 0.9 * strength))
    if name == 'rotate':
        return lambda image: image.rotate(30 * strength, Image.Resampling.BICUBIC, fillcolor=FILL)
    matrix = {
        'shear_x': (1, 0.3 * strength, 0, 0, 1, 0),
        'shear_y': (1, 0, 0, 0.3 * strength, 1, 0),
        'translate_x': (1, 0, 0.45 * strength * width, 0, 1, 0),
        'translate_y': (1, 0, 0, 0, 1, 0.45 * strength * height),
    }[name]
    return lambda image: image.transform(
        image.size, Image.Transform.AFFINE, matrix, Image.Resampling.BICUBIC, fillcolor=FILL
    )
