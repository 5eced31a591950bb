"""Calibration error against sums by hand."""

import numpy as np
import pytest

from m3et_ros.evaluation.metrics.calibration import BINS, calibration_error, calibration_rows


def error(confidences, scores):
    return float(calibration_error(calibration_rows(confidences, scores).sum(0)))


def test_the_error_is_the_weighted_mean_of_the_gaps_of_the_bins():
    assert error([0.9, 0.9, 0.9, 0.9], [1, 1, 1, 0]) == pytest.approx(0.15)
    # One bin is 0.1 too sure and has three of four samples, the other is 0.3 too unsure.
    assert error([0.6, 0.6, 0.6, 0.2], [1, 0.5, 0, 0.5]) == pytest.approx((3 * 0.1 + 0.3) / 4)
    assert error([1.0, 0.0], [1, 0]) == 0


def test_gaps_cancel_within_a_bin_and_not_between_bins():
    assert error([0.55, 0.55], [1, 0.1]) == pytest.approx(0)
    assert error([0.45, 0.55], [0, 1]) == pytest.approx(0.45)


@pytest.mark.parametrize(('confidence', 'place'), [(0.0, 0), (1 / 15 - 1e-9, 0), (1 / 15 + 1e-9, 1), (1.0, BINS - 1)])
def test_bins_have_equal_width(confidence, place):
    (row,) = calibration_rows([confidence], [0.5])
    assert row[place] == pytest.approx(confidence - 0.5) and row[BINS] == 1 and np.count_nonzero(row) == 2


def test_no_sample_has_no_error():
    assert np.isnan(calibration_error(np.zeros(BINS + 1)))


@pytest.mark.parametrize(
    ('confidences', 'scores', 'words'),
    [([0.5], [1, 0], 'length'), ([1.1], [1], 'confidences reach'), ([0.5], [-0.1], 'scores reach')],
)
def test_wrong_numbers_are_refused(confidences, scores, words):
    with pytest.raises(ValueError, match=words):
        calibration_rows(confidences, scores)
