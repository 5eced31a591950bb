"""The likeness of a frame to those that the model learned from: the doubt of its own segmentation.

Of three scores that were tried on the shipped weights (masked reconstruction error, distance of the global token from
those of validation kitchens, and this one) it separates best, and costs one decoded mask: docs/evaluation.md has the
figures.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from m3et_ros.runtime.engine import Engine
from m3et_ros.runtime.view import View

FLAT = 0.05
"""Least deviation of standardised colours: a lens cap has less, and the model takes it for a wall without any doubt."""


@dataclass(frozen=True)
class DomainResult:
    """The comparison of a frame with those of training."""

    # Mean doubt of the segmentation, 0..1; 1 for a picture of one colour. NaN where nothing was compared.
    score: float = float('nan')
    # Largest score of a frame like those of training; infinite where the checkpoint has none.
    limit: float = float('inf')
    # Share of the frames of validation whose score is lower, 0..1.
    above: float = 0.0

    @property
    def unlike(self) -> bool:
        """The frame is unlike those of training."""
        return self.score > self.limit

    @property
    def described(self) -> str:
        """The comparison in words, for the diagnostics."""
        if not np.isfinite(self.score):
            return 'not checked'
        return f'score {self.score:.3f}, limit {self.limit:.3f}, above {self.above:.1%} of the frames of validation'


class DomainCheck:
    """Compares frames with those of training.

    Args:
        engine: its checkpoint holds the quantiles of the score.
    """

    def __init__(self, engine: Engine):
        self._engine = engine
        self._calibration = engine.labels.calibration
        self._since = 0
        self.possible = bool(self._calibration.domain) and 'semseg' in engine.config.tasks

    def due(self, every: int) -> bool:
        """Count a frame of the camera; return whether it is to be compared: the first of every so many, none for 0."""
        due, self._since = self._since == 0, (self._since + 1) % max(every, 1)
        return due and every > 0

    def restart(self) -> None:
        """Compare the next frame."""
        self._since = 0

    def check(self, view: View) -> DomainResult:
        """Compare a view that was just encoded; an empty result where the checkpoint has no quantiles."""
        if not self.possible:
            return DomainResult()
        score = domain_score(view.inputs, self._engine.decode(view, ['semseg'])['semseg'])
        quantiles = self._calibration.quantiles(view.inputs)
        above = np.searchsorted(quantiles, score) / max(len(quantiles), 1)
        return DomainResult(score, self._calibration.limit(view.inputs), float(above))


def domain_score(inputs: Mapping[str, Tensor], segmentation: Tensor) -> float:
    """Return 1 minus the mean probability of the likeliest class of each pixel; 1 for a picture of one colour.

    Args:
        inputs: standardised images of batch 1; rgb (1, 3, S, S) may be absent.
        segmentation: logits (1, classes, s, s).
    """
    if 'rgb' in inputs and float(inputs['rgb'].float().std((-2, -1)).mean()) < FLAT:
        return 1.0
    return 1.0 - float(segmentation[0].float().softmax(0).amax(0).mean())
