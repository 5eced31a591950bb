"""The tone that a camera gives to its picture: white balance, exposure and contrast.

From a seed to a question: after sim/textures.py, before sim/parts.py.
"""

from dataclasses import dataclass

import numpy as np

WHITE_BALANCE = 1.35
"""Largest ratio between the gains of two channels."""

EXPOSURE = (0.8, 1.3)
"""Range of the mean gain."""

GAMMA = (0.8, 1.2)
"""Range of the exponent of levels."""


@dataclass(frozen=True)
class Tone:
    """The colour rendering of a camera: a level of 0..1 becomes (level * gain) ** gamma."""

    # Gains of red, green and blue.
    gains: tuple[float, float, float]
    gamma: float

    def table(self) -> np.ndarray:
        """Return the lookup table (1, 256, 3) uint8 from a level of each channel to the level shown."""
        levels = np.arange(256)[None, :, None] / 255 * np.array(self.gains)
        return np.round(255 * np.clip(levels, 0, 1) ** self.gamma).astype(np.uint8)


def draw_tone(rng: np.random.Generator) -> Tone:
    """Draw white balance, exposure and contrast."""
    half = np.log(WHITE_BALANCE) / 2
    warmth, tint = rng.uniform(-half, half), rng.uniform(-half, half) / 3
    gains = np.exp(np.array([warmth, tint, -warmth]) + np.log(rng.uniform(*EXPOSURE)))
    return Tone((float(gains[0]), float(gains[1]), float(gains[2])), float(rng.uniform(*GAMMA)))
