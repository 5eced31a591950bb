"""Streams of kitchens that nobody trained on, as a camera sees them: carried on a head, or standing still.

Glossary: S side of the stored images in pixels, s that of label maps.
Faults that a camera keeps (gain, blur, blobs without depth) are drawn once a stream, its grain and the flicker of its
depth anew for each frame, so that what stands still never looks quite the same twice.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from m3et_ros.data.frame import Frame
from m3et_ros.data.kitchen.cache.generate import view_of
from m3et_ros.data.kitchen.questions.frame import Question, sample_questions
from m3et_ros.data.kitchen.sim.camera import Camera, Observation
from m3et_ros.data.kitchen.sim.episode import Episode
from m3et_ros.data.noise import Noise, noisy_depth, noisy_rgb
from m3et_ros.data.preprocess import squeeze_depth, squeeze_labels, squeeze_rgb

KEPT = Noise(disparity=0.0, quantum=0.0, specks=0.0, grain=0.0, jpeg=0.0)
"""What stays the same from frame to frame."""

FRESH = Noise(
    min_range=0.0,
    max_range=(99.0, 99.0),
    edge=0.0,
    blobs=(0, 0.0),
    gain=1.0,
    gamma=1.0,
    balance=1.0,
    blur=0.0,
    jpeg=0.0,
)
"""What does not."""

CAMERAS = ('still', 'carried')
START_S, CLIP_S = 6.0, 10.0
"""A still camera stands where the person's eyes are at the start, and is put there again after so many seconds."""


@dataclass(frozen=True)
class Look:
    """One frame of a stream and the truth about it."""

    frame: Frame
    # Metres, (S, S) float32, NaN where nothing is within range.
    depth: np.ndarray
    # Class ids (s, s) uint8, 255 unlabelled.
    labels: np.ndarray
    # Questions about this very moment; most frames have none.
    questions: tuple[Question, ...]
    # Whether the camera has just been put somewhere else.
    cut: bool


def stream(
    seed: int,
    camera: str,
    *,
    seconds: float,
    hz: float,
    size: int = 112,
    each_s: float = 1.0,
    asked: int = 12,
    backend: str = 'auto',
) -> Iterator[Look]:
    """Render a stream.

    Args:
        seed: of a kitchen of the test split, 20000 and up.
        camera: one of CAMERAS.
        seconds: length.
        hz: frames a second.
        size: S; s is a quarter of it.
        each_s: seconds from one moment with questions to the next.
        asked: questions of such a moment.
        backend: renderer, as Camera takes it.
    """
    episode = Episode(seed, fps=hz, **view_of(seed, size))
    free, first, every = episode.world.camera_pose, round(START_S * hz), max(1, round(each_s * hz))
    for _ in episode.run(first):
        pass
    with Camera(episode, backend=backend, shadows=False) as eye:
        for number in range(round(seconds * hz)):
            cut = number % round(CLIP_S * hz) == 0 if camera == 'still' else number == 0
            if camera == 'still' and cut:
                pose = free()
                episode.world.camera_pose = lambda pose=pose: pose
            (state,) = episode.run(1)
            seen = eye.observe(state)
            rng = np.random.default_rng((seed, 5, number))
            questions = tuple(sample_questions(episode, seen, rng, asked)) if number % every == every - 1 else ()
            yield _look(seen, questions, cut, seed, number, size)


def _look(seen: Observation, questions: tuple[Question, ...], cut: bool, seed: int, number: int, size: int) -> Look:
    rgb, depth = squeeze_rgb(seen.rgb, size), squeeze_depth(seen.depth, size).astype(np.float32)
    kept, fresh = np.random.default_rng((seed, 3)), np.random.default_rng((seed, 6, number))
    rgb = noisy_rgb(noisy_rgb(rgb, KEPT, kept), FRESH, fresh)
    shown = noisy_depth(noisy_depth(depth, KEPT, kept), FRESH, fresh)
    frame = Frame(rgb, shown, stamp_ns=round(seen.stamp_s * 1e9))
    return Look(frame, depth, squeeze_labels(seen.semantic, size // 4), questions, cut)
