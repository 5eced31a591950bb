"""Results are plain values that JSON can hold, under the names that the command line prints."""

import dataclasses
import json

import pytest

from m3et_ros.runtime.results import Actions, Anticipation, Place, Ranked, Reply


def test_a_reply_becomes_json_under_its_field_names():
    reply = Reply(
        'what?',
        'cup',
        0.5,
        (Ranked(3, 'cup', 0.5),),
        'frame',
        1,
        7,
        7,
        0.25,
        places=(Place('cup', 0.5, (1, 2), (0, 0, 3, 4)),),
    )
    assert json.loads(json.dumps(dataclasses.asdict(reply))) == {
        'question': 'what?',
        'text': 'cup',
        'confidence': 0.5,
        'alternatives': [{'id': 3, 'label': 'cup', 'score': 0.5}],
        'scope': 'frame',
        'frames_used': 1,
        'first_ns': 7,
        'last_ns': 7,
        'latency_s': 0.25,
        'answerable': True,
        'reason': '',
        'explanation': '',
        'suggestions': [],
        'read_as': '',
        'places': [
            {
                'label': 'cup',
                'confidence': 0.5,
                'pixel': [1, 2],
                'box': [0, 0, 3, 4],
                'position_m': None,
                'size_m': None,
                'distance_m': None,
                'measured': None,
            }
        ],
    }


def test_results_are_values_that_nobody_can_change():
    actions = Actions((Ranked(0, 'take', 1.0),), (), ())
    anticipation = Anticipation(actions, actions, 1.0, 0.1)
    assert anticipation.broken == '' and anticipation == dataclasses.replace(anticipation)
    with pytest.raises(dataclasses.FrozenInstanceError):
        anticipation.horizon_s = 2.0
