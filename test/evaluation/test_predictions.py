"""A prediction and its row."""

import pytest

from m3et_ros.evaluation.predictions import Prediction

FIELDS = {
    'index': 3,
    'key': 'seed 1 tick 2',
    'cluster': 'seed 1',
    'family': 'colour',
    'question': 'What colour is the cup?',
    'answer': 'red',
    'predicted': 'blue',
    'score': 0.0,
}


def test_a_row_has_the_columns_in_order_without_the_cluster():
    row = Prediction(**FIELDS, confidence=0.5, written='a blue cup', written_score=0.0, category='state').row()
    assert list(row.items()) == [
        ('index', 3),
        ('key', 'seed 1 tick 2'),
        ('family', 'colour'),
        ('question', 'What colour is the cup?'),
        ('answer', 'red'),
        ('predicted', 'blue'),
        ('confidence', 0.5),
        ('score', 0.0),
        ('written', 'a blue cup'),
        ('written_score', 0.0),
    ]


def test_optional_fields_are_none():
    one = Prediction(**FIELDS)
    assert one.confidence is one.written is one.written_score is one.category is None


def test_fields_are_given_by_name():
    with pytest.raises(TypeError):
        Prediction(*FIELDS.values())
