"""The limits of trust in a model: the odds of its answers, and the scores of frames like those of training.

A checkpoint stores it in labels.json under the key `calibration`; the fit is in evaluation/tasks/calibrate.py.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from typing import Any

import numpy as np

from m3et_ros.data.errors import InputError

STEPS = 200
"""Number of equal steps between the quantiles of a score."""

BEYOND = 0.995
"""Share of the frames like those of training whose score may reach the limit."""


@dataclass(frozen=True)
class Calibration:
    """Measured on validation frames, not trained.

    Raises:
        ValueError: temperature is not above 0, min_confidence not in 0..1, quantiles do not rise, or a bonus is not
            finite.
    """

    # Answer logits are divided by it before the softmax.
    temperature: float = 1.0
    # Probability below which an answer counts as unsure.
    min_confidence: float = 0.0
    # Modalities of a frame, such as 'rgb+depth' -> quantiles of the score (runtime/domain.py) of such frames at STEPS
    # equal steps from 0 to 1; empty where none were fitted.
    domain: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    # Answer that no question of training had -> bonus that its logit gets before the temperature: training has only
    # ever counted it as wrong (calibrated stacking, Chao et al. 2016).
    untaught: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self):
        if not self.temperature > 0:
            raise ValueError(f'temperature is {self.temperature}; give a number above 0')
        if not 0 <= self.min_confidence <= 1:
            raise ValueError(f'min_confidence is {self.min_confidence}; give 0 to 1')
        for name, values in self.domain.items():
            if len(values) != STEPS + 1 or list(values) != sorted(values):
                raise ValueError(f'domain has {len(values)} quantiles of {name}; give {STEPS + 1} that rise')
        for answer, bonus in self.untaught.items():
            if not isfinite(bonus):
                raise ValueError(f'the bonus of {answer!r} is {bonus}; give a finite number')

    def bonuses(self, answers: Sequence[str], questions: Sequence[str]) -> np.ndarray:
        """Return what is added to the logits of candidate answers, (Q, answers) float32.

        "red" is as untaught an answer to "What colour is the bowl?" as "red bowl" is to other questions.
        """
        place = {answer: i for i, answer in enumerate(answers)}
        found = np.zeros((len(questions), len(answers)), np.float32)
        for answer, bonus in self.untaught.items():
            first, _, rest = answer.partition(' ')
            if answer in place:
                found[:, place[answer]] = bonus
            if first in place and rest:
                asked = re.compile(rf'\b{re.escape(rest)}\b', re.IGNORECASE)
                found[[bool(asked.search(question)) for question in questions], place[first]] = bonus
        return found

    def quantiles(self, modalities: Iterable[str]) -> tuple[float, ...]:
        """Return the quantiles of frames with these modalities; empty where none were fitted."""
        return self.domain.get('+'.join(modalities), ())

    def limit(self, modalities: Iterable[str]) -> float:
        """Return the score above which a frame is unlike those of training; infinite where none was fitted."""
        quantiles = self.quantiles(modalities)
        return quantiles[round(BEYOND * STEPS)] if quantiles else float('inf')


def calibration_from(values: Mapping[str, Any]) -> Calibration:
    """Rebuild a Calibration from the JSON of a checkpoint.

    Raises:
        InputError: model_config, it is of another shape.
    """
    try:
        known = dict(values)
        domain = {str(name): tuple(map(float, found)) for name, found in dict(known.pop('domain', {})).items()}
        untaught = {str(answer): float(bonus) for answer, bonus in dict(known.pop('untaught', {})).items()}
        numbers = {name: float(value) for name, value in known.items()}
        return Calibration(**numbers, domain=domain, untaught=untaught)
    except (TypeError, ValueError) as error:
        raise InputError(
            'model_config',
            f'The calibration in labels.json is refused ({error}); remove the key calibration, or fetch the '
            'checkpoint again.',
        ) from error
