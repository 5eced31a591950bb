"""Render streams of test kitchens with ground truth, from a camera that a person wears or that stands still.

Faults that a camera keeps (gain, blur, blobs without depth) are drawn once for a stream. Its grain and the flicker of
its depth are drawn for each frame, so an unmoving scene never looks exactly the same twice.

Symbols: S side of the stored images in pixels, s side of label maps.
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

CONSTANT_NOISE = Noise(disparity=0.0, quantum=0.0, specks=0.0, grain=0.0, jpeg=0.0)
"""Noise that stays the same from frame to frame."""

FRAME_NOISE = Noise(
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
"""Noise that is drawn for each frame."""

CAMERAS = ('still', 'carried')
START_S, CLIP_S = 6.0, 10.0
"""A still camera stands at the person's eyes at the start of a clip; a new clip starts after CLIP_S seconds."""


@dataclass(frozen=True)
class SceneFrame:
    """One frame of a stream with its ground truth."""

    frame: Frame
    # True depth in metres, (S, S) float32, NaN out of range.
    depth: np.ndarray
    # Class ids (s, s) uint8, 255 unlabelled.
    labels: np.ndarray
    # Questions about this frame; most frames have none.
    questions: tuple[Question, ...]
    # True if the camera has just been moved to another place.
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
) -> Iterator[SceneFrame]:
    """Render a stream.

    Args:
        seed: of a kitchen of the test split, 20000 and up.
        camera: one of CAMERAS.
        seconds: length.
        hz: frames a second.
        size: S; s is a quarter of it.
        each_s: seconds from one frame with questions to the next.
        asked: questions of such a frame.
        backend: renderer, as of Camera.
    """
    episode = Episode(seed, fps=hz, version=1, **view_of(seed, size, version=1))
    free, first, every = episode.world.camera_pose, round(START_S * hz), max(1, round(each_s * hz))
    for _ in episode.run(first):
        pass
    with Camera(episode, backend=backend, shadows=False) as view:
        for number in range(round(seconds * hz)):
            cut = number % round(CLIP_S * hz) == 0 if camera == 'still' else number == 0
            if camera == 'still' and cut:
                pose = free()
                episode.world.camera_pose = lambda pose=pose: pose
            (state,) = episode.run(1)
            observation = view.observe(state)
            rng = np.random.default_rng((seed, 5, number))
            questions = tuple(sample_questions(episode, observation, rng, asked)) if number % every == every - 1 else ()
            yield _scene_frame(observation, questions, cut, seed, number, size)


def _scene_frame(
    observation: Observation, questions: tuple[Question, ...], cut: bool, seed: int, number: int, size: int
) -> SceneFrame:
    rgb, depth = squeeze_rgb(observation.rgb, size), squeeze_depth(observation.depth, size).astype(np.float32)
    constant, fresh = np.random.default_rng((seed, 3)), np.random.default_rng((seed, 6, number))
    rgb = noisy_rgb(noisy_rgb(rgb, CONSTANT_NOISE, constant), FRAME_NOISE, fresh)
    shown = noisy_depth(noisy_depth(depth, CONSTANT_NOISE, constant), FRAME_NOISE, fresh)
    frame = Frame(rgb, shown, stamp_ns=round(observation.stamp_s * 1e9))
    return SceneFrame(frame, depth, squeeze_labels(observation.semantic, size // 4), questions, cut)
