"""Results of the engine, in plain Python and NumPy."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Ranked:
    """One candidate of a ranked list."""

    # Class id in the published label set; -1 where the set has no ids.
    id: int
    label: str
    # Probability in 0..1.
    score: float


@dataclass(frozen=True)
class Reconstruction:
    """Dense predictions at the camera's resolution."""

    # Metres (H, W) float32, NaN where nothing is known; None when not asked for.
    depth: np.ndarray | None
    # Class ids (H, W) uint8, 255 unlabelled; None when not asked for.
    mask: np.ndarray | None


@dataclass(frozen=True)
class Place:
    """The place of a thing in an image, and in space where depth and intrinsics are known; None is unknown."""

    label: str
    # Probability of the thing there, 0..1.
    confidence: float
    # A pixel on the thing, (u, v) from the left and the top of the camera's image.
    pixel: tuple[float, float]
    # Left, top, width and height of the pixels around it.
    box: tuple[int, int, int, int]
    # Middle of the visible part, (x, y, z) in metres in the optical frame of the camera (REP 103).
    position_m: tuple[float, float, float] | None = None
    # Extent of the visible part along x, y and z, in metres.
    size_m: tuple[float, float, float] | None = None
    # Metres from the camera to position_m; without intrinsics the depth along the optical axis.
    distance_m: float | None = None
    # Share of the depth behind it that was measured and not filled, 0..1.
    measured: float | None = None


@dataclass(frozen=True)
class Reply:
    """An answer and the frames it rests on."""

    question: str
    text: str
    # Probability of text in 0..1.
    confidence: float
    # Best first, text included.
    alternatives: tuple[Ranked, ...]
    # 'frame' or 'episode'.
    scope: str
    # Number of frames, and stamps of the oldest and newest in nanoseconds.
    frames_used: int
    first_ns: int
    last_ns: int
    # Seconds of inference.
    latency_s: float
    # False where the model cannot tell: text says so, confidence is 0, and alternatives hold its guesses, if any.
    answerable: bool = True
    # Reason for that, one of runtime.understanding.REASONS; empty for an answer.
    reason: str = ''
    # The reason in one sentence.
    explanation: str = ''
    # Near questions that the model was taught.
    suggestions: tuple[str, ...] = ()
    # The question in the wording that was put to the model; empty where none was.
    read_as: str = ''
    # Places of the things that a question with "where" or "which" asks for, best first.
    places: tuple[Place, ...] = ()


@dataclass(frozen=True)
class Actions:
    """Ranked verbs, nouns and their pairs, best first."""

    verbs: tuple[Ranked, ...]
    nouns: tuple[Ranked, ...]
    actions: tuple[Ranked, ...]


@dataclass(frozen=True)
class Anticipation:
    """Present and next actions."""

    now: Actions
    next: Actions
    # The next actions are those within this many seconds after the frame.
    horizon_s: float
    # Seconds of inference.
    latency_s: float
    # Counter's name of the reason why the stream began anew with this frame; empty where it continued.
    broken: str = ''
