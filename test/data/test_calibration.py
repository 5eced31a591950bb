import json
from dataclasses import asdict

import pytest

from m3et_ros.data.calibration import BEYOND, STEPS, Calibration, calibration_from
from m3et_ros.data.errors import InputError

RISING = tuple(n / STEPS for n in range(STEPS + 1))


def test_the_limit_is_the_quantile_of_nearly_all_frames_of_the_same_modalities():
    calibration = Calibration(domain={'rgb+depth': RISING})
    assert calibration.limit(['rgb', 'depth']) == BEYOND
    assert calibration.quantiles({'rgb': 1, 'depth': 2}) == RISING
    assert calibration.limit(['rgb']) == Calibration().limit(['rgb']) == float('inf')


def test_it_survives_json():
    whole = Calibration(1.5, 0.2, {'rgb': RISING})
    assert calibration_from(json.loads(json.dumps(asdict(whole)))) == whole
    assert calibration_from({}) == Calibration()


@pytest.mark.parametrize(
    'values',
    (
        {'temperature': 0},
        {'temperature': 'hot'},
        {'min_confidence': 1.1},
        {'domain': {'rgb': [1]}},
        {'domain': {'rgb': RISING[::-1]}},
        {'domain': [1]},
        {'colour': 1},
        [1],
    ),
)
def test_other_values_are_refused(values):
    with pytest.raises(InputError, match='calibration') as caught:
        calibration_from(values)
    assert caught.value.reason == 'model_config'
