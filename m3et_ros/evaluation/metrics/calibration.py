"""Expected calibration error of confidences: Guo et al., On Calibration of Modern Neural Networks, 2017, section 2.

calibration_error(calibration_rows(confidences, scores).sum(0)): the error has no interval, because the absolute values
of the bins make it too large, the more so the fewer the samples.
"""

import numpy as np
from numpy.typing import ArrayLike

from m3et_ros.evaluation.metrics.arrays import finite, same_length

BINS = 15
"""Bins of equal width over 0..1."""


def calibration_rows(confidences: ArrayLike, scores: ArrayLike) -> np.ndarray:
    """Return the rows (n, BINS + 1) of samples: confidence minus score in the bin of the confidence, and 1 at the end.

    Args:
        confidences: probability of each answer, (n,) in 0..1; 1 is in the last bin.
        scores: score of each answer, (n,) in 0..1.

    Raises:
        ValueError: lengths differ, or a number is not finite or outside 0..1.
    """
    confidences, scores = finite('confidences', confidences), finite('scores', scores)
    same_length(confidences=confidences, scores=scores)
    for name, values in (('confidences', confidences), ('scores', scores)):
        if len(values) and not 0 <= values.min() <= values.max() <= 1:
            raise ValueError(f'{name} reach from {values.min()} to {values.max()}; give 0 to 1')
    rows = np.zeros((len(scores), BINS + 1))
    rows[np.arange(len(scores)), np.minimum((confidences * BINS).astype(int), BINS - 1)] = confidences - scores
    rows[:, BINS] = 1
    return rows


def calibration_error(sums: np.ndarray) -> np.ndarray:
    """Return the expected calibration error, 0..1, of summed rows: (..., BINS + 1) to (...); NaN for no sample."""
    return np.abs(sums[..., :BINS]).sum(-1) / np.where(sums[..., BINS] == 0, np.nan, sums[..., BINS])
