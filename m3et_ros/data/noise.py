"""What real cameras do to colours and depth, added as samples are read; the files stay clean.

Every function takes the sample's own generator, so a sample is the same in every run.
"""

import re
from dataclasses import dataclass, replace

import cv2
import numpy as np

from m3et_ros.data.sample import QuestionAnswers, Sample

NORMAL = np.random.default_rng(0).standard_normal(2**18, np.float32)
"""Normal deviates to cut noise out of at random places: drawing them anew would cost more than all the rest."""

SIDES = {'left': 'right', 'right': 'left'}
"""Words that change places in a mirror."""

SIDE = re.compile(r'\b(left|right)\b')


@dataclass(frozen=True)
class Noise:
    """How strong each disturbance is; zeros leave a picture as it is.

    Raises:
        ValueError: a field is out of its range.
    """

    # Depth below this many metres is unknown (a stereo or structured-light camera is blind there).
    min_range: float = 0.5
    # Depth beyond a limit drawn from this range of metres is unknown.
    max_range: tuple[float, float] = (4.0, 10.0)
    # Deviation of a disparity, as 1/metres: the error of depth grows with its square.
    disparity: float = 0.003
    # Steps of the disparity, as 1/metres; depth is told in steps that grow with its square.
    quantum: float = 0.004
    # Most pixels of shadow that a near edge throws on what is behind it, as a share of the width.
    edge: float = 0.02
    # Most round holes, and the largest radius as a share of the width.
    blobs: tuple[int, float] = (5, 0.08)
    # Share of pixels without depth for no reason, at most.
    specks: float = 0.02
    # Colours are multiplied by up to this factor or its inverse, as a whole.
    gain: float = 1.3
    # Exponent of the brightness curve, up to this or its inverse.
    gamma: float = 1.25
    # The channels drift apart by up to this factor or its inverse.
    balance: float = 1.12
    # Deviation of the sensor's noise in grey levels, at most.
    grain: float = 6.0
    # Largest deviation in pixels of a blur.
    blur: float = 0.8
    # Lowest JPEG quality, 1..100.
    quality: int = 40
    # How often colours go through JPEG.
    jpeg: float = 0.4
    # How often a sample is mirrored.
    mirror: float = 0.5

    def __post_init__(self):
        for name, low, high in (
            ('min_range', 0, 10),
            ('disparity', 0, 1),
            ('quantum', 0, 1),
            ('edge', 0, 0.5),
            ('specks', 0, 1),
            ('gain', 1, 10),
            ('gamma', 1, 10),
            ('balance', 1, 10),
            ('grain', 0, 255),
            ('blur', 0, 20),
            ('quality', 1, 100),
            ('jpeg', 0, 1),
            ('mirror', 0, 1),
        ):
            if not low <= getattr(self, name) <= high:
                raise ValueError(f'{name} is {getattr(self, name)}; give {low} to {high}')
        if not 0 < self.max_range[0] <= self.max_range[1]:
            raise ValueError(f'max_range is {self.max_range}; give two rising distances above 0')
        if not 0 <= self.blobs[0] <= 1000 or not 0 <= self.blobs[1] <= 1:
            raise ValueError(f'blobs is {self.blobs}; give a number from 0 to 1000 and a share from 0 to 1')


def noisy_depth(depth: np.ndarray, noise: Noise, rng: np.random.Generator) -> np.ndarray:
    """Depth as a camera would tell it: (H, W) float32 metres, NaN unknown; unknown pixels stay unknown."""
    known = np.isfinite(depth) & (depth >= max(noise.min_range, 1e-3)) & (depth <= rng.uniform(*noise.max_range))
    known &= ~_edges(depth, noise, rng) & ~_blobs(depth.shape, noise, rng)
    specks = rng.integers(depth.size, size=int(rng.uniform(0, noise.specks) * depth.size))
    known.reshape(-1)[specks] = False
    inverse = 1 / np.where(known, depth, np.float32(1)) + np.float32(noise.disparity) * _normal(depth.shape, rng)
    if noise.quantum:
        quantum = np.float32(noise.quantum)
        inverse = np.maximum((inverse / quantum).round(), 1) * quantum
    return np.where(known, 1 / np.maximum(inverse, np.float32(1e-3)), np.float32(np.nan))


def _normal(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Normal deviates float32 of a shape."""
    return np.resize(NORMAL[rng.integers(len(NORMAL) // 2) :], shape)


def _edges(depth: np.ndarray, noise: Noise, rng: np.random.Generator) -> np.ndarray:
    """Where the second eye does not see, behind the left edges of near things, (H, W) bool."""
    reach = round(rng.uniform(0, noise.edge) * depth.shape[1])
    near = np.nan_to_num(depth, nan=np.inf)
    hidden = np.zeros(depth.shape, bool)
    for shift in range(1, reach + 1):
        hidden[:, :-shift] |= near[:, :-shift] > near[:, shift:] * 1.1 + 0.03
    return hidden


def _blobs(shape: tuple[int, int], noise: Noise, rng: np.random.Generator) -> np.ndarray:
    """Where things shine or swallow light, (H, W) bool."""
    holes = np.zeros(shape, np.uint8)
    for _ in range(rng.integers(noise.blobs[0] + 1)):
        centre = rng.random(2) * shape[::-1]
        axes = rng.uniform(0.2, 1, 2) * noise.blobs[1] * shape[1]
        cv2.ellipse(holes, tuple(map(int, centre)), tuple(map(round, axes)), rng.uniform(0, 180), 0, 360, 1, -1)
    return holes > 0


def noisy_rgb(rgb: np.ndarray, noise: Noise, rng: np.random.Generator) -> np.ndarray:
    """Colours as a camera would tell them, (H, W, 3) uint8."""

    def factor(most, size=None):
        return most ** rng.uniform(-1, 1, size)

    levels = (np.arange(256) / 255) ** factor(noise.gamma) * 255
    curves = levels[:, None] * (factor(noise.gain) * factor(noise.balance, 3))
    image = cv2.LUT(rgb, curves.round().clip(0, 255).astype(np.uint8)[:, None])
    sigma = rng.uniform(0, noise.blur)
    if sigma > 0.2:  # less is no blur at this grid
        image = cv2.GaussianBlur(image, (0, 0), sigma)
    grain = rng.uniform(0, noise.grain)
    if grain > 0.3:  # less vanishes in the rounding
        image = (image + np.float32(grain) * _normal(image.shape, rng)).round().clip(0, 255).astype(np.uint8)
    if rng.random() < noise.jpeg:
        _, packed = cv2.imencode(
            '.jpg', image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(noise.quality, 101))]
        )
        image = cv2.imdecode(packed, cv2.IMREAD_COLOR_RGB)
    return image


def mirrored(image: np.ndarray) -> np.ndarray:
    """The image (H, W, ...) with left and right exchanged."""
    return np.ascontiguousarray(image[:, ::-1])


def mirrored_words(text: str) -> str:
    """A question or answer for the mirrored picture: left becomes right and the other way round."""
    return SIDE.sub(lambda found: SIDES[found[0]], text)


def _mirrored_asked(one: QuestionAnswers) -> QuestionAnswers:
    return replace(
        one,
        question=mirrored_words(one.question),
        answers={mirrored_words(answer): score for answer, score in one.answers.items()},
    )


def speaks_of_sides(sample: Sample) -> bool:
    """Whether a mirror would make the question or an answer of a sample wrong."""
    return any(SIDE.search(text.lower()) for one in sample.asked for text in (one.question, *one.answers))


def disturb(sample: Sample, noise: Noise, rng: np.random.Generator, *, swap_sides: bool = False) -> Sample:
    """The sample as a real camera would have seen it, perhaps in a mirror; what depth should be stays clean.

    Args:
        sample: with clean or real depth.
        noise: how strongly.
        rng: of this sample.
        swap_sides: whether 'left' and 'right' may change places in the words. Only where they always are sides, as in
            the kitchen's questions; otherwise samples that speak of them are not mirrored ("What is left to eat?").
    """
    if rng.random() < noise.mirror and (swap_sides or not speaks_of_sides(sample)):
        images = {
            name: mirrored(image)
            for name in ('rgb', 'depth', 'semseg', 'clean_depth')
            if (image := getattr(sample, name)) is not None
        }
        own, *further = map(_mirrored_asked, sample.asked)
        sample = replace(sample, **images, question=own.question, answers=own.answers, further=tuple(further))
    truth = sample.depth if sample.clean_depth is None else sample.clean_depth
    depth = None if sample.depth is None else noisy_depth(sample.depth, noise, rng)
    return replace(sample, rgb=noisy_rgb(sample.rgb, noise, rng), depth=depth, clean_depth=truth)


STEADY = Noise(mirror=0.0)
"""A camera's disturbances; in a mirror only half of an episode would be stranger than none of it."""


def steady(sample: Sample) -> Sample:
    """The sample of a kitchen as a camera sees it whose faults stay the same throughout an episode."""
    return disturb(sample, STEADY, np.random.default_rng((int(sample.key.split()[1]), 3)))
