"""The disturbances of real cameras, added to colours and depth as samples are read; the files stay clean.

Every function takes the sample's own generator, so a sample is the same in every run.
"""

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from m3et_ros.data import sensor_holes
from m3et_ros.data.sample import Sample

NORMAL = np.random.default_rng(0).standard_normal(2**18, np.float32)
"""Normal deviates; noise is a random slice of them, because drawing new ones would cost more than all the rest."""

SIDES = {'left': 'right', 'right': 'left'}
"""Words that a mirror exchanges."""

SIDE = re.compile(r'\b(left|right)\b')

CACHED = 100_000
"""Number of texts whose mirror is cached: with 32 questions a view they took an eighth of the time of a sample."""


@dataclass(frozen=True)
class Noise:
    """Strength of each disturbance; zeros leave a picture as it is.

    Raises:
        ValueError: a field is out of its range.
    """

    # Depth below this many metres is unknown (a stereo or structured-light camera is blind there).
    min_range: float = 0.5
    # Depth beyond a limit drawn from this range of metres is unknown.
    max_range: tuple[float, float] = (4.0, 10.0)
    # Standard deviation of a disparity, in 1/metres: the error of depth grows with the square of depth.
    disparity: float = 0.003
    # Step of the disparity, in 1/metres: the steps of depth grow with the square of depth.
    quantum: float = 0.004
    # Widest shadow that a near edge throws on the background, as a share of the image width.
    edge: float = 0.02
    # Largest number of round holes, and their largest radius as a share of the width.
    blobs: tuple[int, float] = (5, 0.08)
    # Largest share of single pixels without depth.
    specks: float = 0.02
    # Largest factor, or its inverse, by which all colours are multiplied.
    gain: float = 1.3
    # Largest exponent, or its inverse, of the brightness curve.
    gamma: float = 1.25
    # Largest factor, or its inverse, by which one channel drifts from the others.
    balance: float = 1.12
    # Largest standard deviation of the sensor's noise in grey levels.
    grain: float = 6.0
    # Largest standard deviation of a blur in pixels.
    blur: float = 0.8
    # Lowest JPEG quality, 1..100.
    quality: int = 40
    # Probability that colours go through JPEG.
    jpeg: float = 0.4
    # Probability that a sample is mirrored.
    mirror: float = 0.5
    # Largest share of the pixels without depth in large blobs, and their half axes as shares of the width.
    cover: float = 0.0
    cover_sizes: tuple[float, float] = (0.01, 0.2)
    # Probability that highlights, dark things and thin things have no depth (data.sensor_holes), each by itself.
    reasons: float = 0.0
    # Classes of glass, steel and water, parts of which have no depth.
    glossy: tuple[int, ...] = ()
    # Largest shift of depth against the colours in pixels: real depth is only nearly aligned.
    shift: float = 0.0
    # Probability of low light: colours of four to eight tenths of their brightness, with twice the grain.
    dim: float = 0.0

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
            ('cover', 0, 0.8),
            ('reasons', 0, 1),
            ('shift', 0, 20),
            ('dim', 0, 1),
        ):
            if not low <= getattr(self, name) <= high:
                raise ValueError(f'{name} is {getattr(self, name)}; give {low} to {high}')
        if not 0 < self.max_range[0] <= self.max_range[1]:
            raise ValueError(f'max_range is {self.max_range}; give two rising distances above 0')
        if not 0 <= self.blobs[0] <= 1000 or not 0 <= self.blobs[1] <= 1:
            raise ValueError(f'blobs is {self.blobs}; give a number from 0 to 1000 and a share from 0 to 1')
        if not 0 < self.cover_sizes[0] <= self.cover_sizes[1] <= 1:
            raise ValueError(f'cover_sizes is {self.cover_sizes}; give two rising shares above 0 and up to 1')
        if not all(0 <= number <= 255 for number in self.glossy):
            raise ValueError(f'glossy is {self.glossy}; give class ids from 0 to 255')


WIDE = Noise(
    min_range=0.35,
    max_range=(3.5, 10.0),
    disparity=0.006,
    edge=0.03,
    specks=0.03,
    gain=1.6,
    gamma=1.5,
    balance=1.35,
    grain=10.0,
    blur=1.5,
    quality=25,
    jpeg=0.5,
    cover=0.4,
    reasons=0.3,
    shift=2.0,
    dim=0.1,
)
"""Disturbances of many cameras, for training: holes of any size up to 40 % of the picture, and harsher colours."""

GLOSSY = ('window', 'sink', 'tap', 'water', 'glass', 'bottle', 'jar', 'can', 'pan', 'pot', 'kettle', 'spoon', 'knife')
"""Names of the kitchen's classes of glass, steel and water."""

NOISES = ('camera', 'wide')


def noise_of(name: str, classes: Sequence[str] = ()) -> Noise:
    """Return the disturbances of that name: 'camera' is Noise(), 'wide' is WIDE.

    Args:
        name: one of NOISES.
        classes: names of the segmentation classes in the order of their ids; those in GLOSSY lose depth in 'wide'.

    Raises:
        ValueError: `name` is neither.
    """
    if name not in NOISES:
        raise ValueError(f'noise is {name!r}; give {" or ".join(NOISES)}')
    glossy = tuple(i for i, word in enumerate(classes) if word in GLOSSY)
    return Noise() if name == 'camera' else replace(WIDE, glossy=glossy)


def noisy_depth(depth: np.ndarray, noise: Noise, rng: np.random.Generator, view: Sample | None = None) -> np.ndarray:
    """Return depth as a camera would measure it: (H, W) float32 metres, NaN unknown; unknown pixels stay unknown.

    Args:
        depth: (H, W) metres.
        noise: strength of the disturbances.
        rng: generator of the sample.
        view: the clean colours and labels of the same view, which decide where reasons and glossy classes leave holes;
            None leaves these holes out.
    """
    known = np.isfinite(depth) & (depth >= max(noise.min_range, 1e-3)) & (depth <= rng.uniform(*noise.max_range))
    known &= ~_edges(depth, noise, rng) & ~_blobs(depth.shape, noise, rng)
    specks = rng.integers(depth.size, size=int(rng.uniform(0, noise.specks) * depth.size))
    known.reshape(-1)[specks] = False
    known &= ~_lost(depth, noise, rng, view)
    inverse = 1 / np.where(known, depth, np.float32(1)) + np.float32(noise.disparity) * _normal(depth.shape, rng)
    if noise.quantum:
        quantum = np.float32(noise.quantum)
        inverse = np.maximum((inverse / quantum).round(), 1) * quantum
    measured = np.where(known, 1 / np.maximum(inverse, np.float32(1e-3)), np.float32(np.nan))
    return sensor_holes.shifted(measured, noise.shift, rng) if noise.shift else measured


def _lost(depth: np.ndarray, noise: Noise, rng: np.random.Generator, view: Sample | None) -> np.ndarray:
    """Return the pixels lost in large blobs and for a reason, (H, W) bool; fields of 0 draw nothing from `rng`."""
    lost = np.zeros(depth.shape, bool)
    if noise.cover:
        lost |= sensor_holes.large_blobs(depth.shape, noise.cover, noise.cover_sizes, rng)
    if noise.reasons and view is not None:
        for lose, image in ((sensor_holes.glare, view.rgb), (sensor_holes.dark, view.rgb), (sensor_holes.thin, depth)):
            if rng.random() < noise.reasons:
                lost |= lose(image, rng)
    if noise.glossy and view is not None and view.semseg is not None:
        lost |= sensor_holes.glossy(view.semseg, noise.glossy, depth.shape, rng)
    return lost


def _normal(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Return normal deviates float32 of a shape."""
    return np.resize(NORMAL[rng.integers(len(NORMAL) // 2) :], shape)


def _edges(depth: np.ndarray, noise: Noise, rng: np.random.Generator) -> np.ndarray:
    """Return the pixels hidden from the second camera, left of near edges, (H, W) bool."""
    reach = round(rng.uniform(0, noise.edge) * depth.shape[1])
    near = np.nan_to_num(depth, nan=np.inf)
    hidden = np.zeros(depth.shape, bool)
    for shift in range(1, reach + 1):
        hidden[:, :-shift] |= near[:, :-shift] > near[:, shift:] * 1.1 + 0.03
    return hidden


def _blobs(shape: tuple[int, int], noise: Noise, rng: np.random.Generator) -> np.ndarray:
    """Return the pixels on shining or light-absorbing surfaces, (H, W) bool."""
    holes = np.zeros(shape, np.uint8)
    for _ in range(rng.integers(noise.blobs[0] + 1)):
        centre = rng.random(2) * shape[::-1]
        axes = rng.uniform(0.2, 1, 2) * noise.blobs[1] * shape[1]
        cv2.ellipse(holes, tuple(map(int, centre)), tuple(map(round, axes)), rng.uniform(0, 180), 0, 360, 1, -1)
    return holes > 0


def noisy_rgb(rgb: np.ndarray, noise: Noise, rng: np.random.Generator) -> np.ndarray:
    """Return colours as a camera would deliver them, (H, W, 3) uint8."""

    def factor(most, size=None):
        return most ** rng.uniform(-1, 1, size)

    levels = (np.arange(256) / 255) ** factor(noise.gamma) * 255
    curves = levels[:, None] * (factor(noise.gain) * factor(noise.balance, 3))
    dim = bool(noise.dim) and rng.random() < noise.dim
    if dim:
        curves = curves * rng.uniform(0.4, 0.8)
    image: np.ndarray = cv2.LUT(rgb, curves.round().clip(0, 255).astype(np.uint8)[:, None])
    sigma = rng.uniform(0, noise.blur)
    if sigma > 0.2:  # less does not blur this grid
        image = cv2.GaussianBlur(image, (0, 0), sigma)
    grain = rng.uniform(0, noise.grain) * (2 if dim else 1)
    if grain > 0.3:  # less vanishes in the rounding
        image = (image + np.float32(grain) * _normal(image.shape, rng)).round().clip(0, 255).astype(np.uint8)
    if rng.random() < noise.jpeg:
        _, packed = cv2.imencode(
            '.jpg', image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(noise.quality, 101))]
        )
        return np.asarray(cv2.imdecode(packed, cv2.IMREAD_COLOR_RGB))
    return image


def _mirrored(image: np.ndarray) -> np.ndarray:
    """Return the image (H, W, ...) with left and right exchanged."""
    return np.ascontiguousarray(image[:, ::-1])


@functools.lru_cache(maxsize=CACHED)
def mirrored_words(text: str) -> str:
    """Return a question or answer for the mirrored picture: left becomes right and the other way round."""
    return SIDE.sub(lambda found: SIDES[found[0]], text)


def mentions_sides(sample: Sample) -> bool:
    """Return whether a question or answer of a sample mentions left or right, which mirroring would make wrong."""
    return any(SIDE.search(text.lower()) for one in sample.asked for text in (one.question, *one.answers))


def disturb(sample: Sample, noise: Noise, rng: np.random.Generator, *, swap_sides: bool = False) -> Sample:
    """Return the sample as a real camera would have delivered it, perhaps mirrored; the target depth stays clean.

    Args:
        sample: with clean or real depth.
        noise: strength of the disturbances.
        rng: generator of this sample.
        swap_sides: exchange 'left' and 'right' in the words of a mirrored sample. Only for words that always mean
            sides, as in the kitchen's questions; without it samples that use these words are not mirrored ("What is
            left to eat?").
    """
    if rng.random() < noise.mirror and (swap_sides or not mentions_sides(sample)):
        own, *further = (
            replace(
                one,
                question=mirrored_words(one.question),
                answers={mirrored_words(answer): score for answer, score in one.answers.items()},
            )
            for one in sample.asked
        )
        sample = replace(
            sample,
            rgb=_mirrored(sample.rgb),
            depth=None if sample.depth is None else _mirrored(sample.depth),
            semseg=None if sample.semseg is None else _mirrored(sample.semseg),
            clean_depth=None if sample.clean_depth is None else _mirrored(sample.clean_depth),
            question=own.question,
            answers=own.answers,
            further=tuple(further),
        )
    depth = None if sample.depth is None else noisy_depth(sample.depth, noise, rng, sample)
    return replace(sample, rgb=noisy_rgb(sample.rgb, noise, rng), depth=depth, clean_depth=sample.target_depth)


STEADY = Noise(mirror=0.0)
"""Disturbances of one camera throughout an episode; no mirror, which would turn a single frame of it."""


def steady(sample: Sample) -> Sample:
    """Return a kitchen's sample as a camera delivers it whose faults stay the same throughout an episode.

    Raises:
        ValueError: the sample has no seed, so it is of no kitchen.
    """
    if sample.seed is None:
        raise ValueError(f'the sample {sample.key!r} has no seed; give one of the simulated kitchen')
    return disturb(sample, STEADY, np.random.default_rng((sample.seed, 3)))
