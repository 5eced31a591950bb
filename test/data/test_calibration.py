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
    whole = Calibration(1.5, 0.2, {'rgb': RISING}, {'red bowl': 2.5})
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
        {'untaught': {'red bowl': float('nan')}},
        {'untaught': {'red bowl': 'much'}},
        {'untaught': ['red bowl']},
        {'colour': 1},
        [1],
    ),
)
def test_other_values_are_refused(values):
    with pytest.raises(InputError, match='calibration') as caught:
        calibration_from(values)
    assert caught.value.reason == 'model_config'


def test_an_untaught_pair_has_its_bonus_and_so_has_its_first_word_where_the_question_names_the_other():
    answers = ['yes', 'red', 'red bowl', 'bowl', 'cut carrot']
    calibration = Calibration(untaught={'red bowl': 2.0, 'cut carrot': 3.0, 'blue plate': 4.0})
    asked = ['What is nearest?', 'What colour is the bowl?', 'WHICH COLOUR HAS THE BOWL', 'How many bowls are there?']
    found = calibration.bonuses(answers, asked)
    assert found[:, answers.index('red bowl')].tolist() == [2.0] * 4
    assert found[:, answers.index('cut carrot')].tolist() == [3.0] * 4
    assert found[:, answers.index('red')].tolist() == [0.0, 2.0, 2.0, 0.0]
    assert not found[:, answers.index('yes')].any() and not found[:, answers.index('bowl')].any()
    assert Calibration().bonuses(answers, asked).tolist() == [[0.0] * 5] * 4
