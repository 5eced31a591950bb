"""The figures of the benchmark of a vision-language model beside perception."""

import json
from pathlib import Path

RESULTS = Path(__file__).parents[2] / 'benchmarks/results/vlm_beside.json'


def test_the_medians_of_the_pairs_are_reported_with_their_extremes(script):
    assert script('vlm_beside').summary([(10.0, 5.0), (4.0, 4.0), (8.0, 6.0)]) == {
        'alone_hz': 8.0,
        'asked_hz': 5.0,
        'rate_left': 0.75,
        'rate_left_lowest': 0.5,
        'rate_left_highest': 1.0,
    }


def test_the_stored_result_has_both_cases():
    found = json.loads(RESULTS.read_text())
    assert set(found['cases_hz']) == {'camera', 'saturated'} and found['answers'] > 0
