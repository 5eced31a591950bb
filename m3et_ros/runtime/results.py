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
