"""The VQA normaliser, step by step."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from m3et_ros.evaluation.metrics.answers import CONTRACTIONS, normalise, normalise_reference


@pytest.mark.parametrize(
    'answer, expected',
    [
        ('Yes.', 'yes'),
        (' a\tmug \n', 'mug'),
        ('The two  Mugs', '2 mugs'),
        ('none', '0'),
        ('ten', '10'),
        ('eleven', 'eleven'),
        ('1,000 plates', '1000 plates'),
        ('2.5 m.', '2.5 m'),
        ('t-shirt', 't shirt'),
        ('fork, knife', 'fork knife'),
        ('red/blue', 'red blue'),
        ('is it? no', 'is it no'),
        ('dont know', "don't know"),
        ("couldntve couldnt've", "couldntve couldn't've"),
        ('an apple on the table', 'apple on table'),
        ('', ''),
    ],
)
def test_a_prediction_takes_every_step(answer, expected):
    assert normalise(answer) == expected


def test_a_human_answer_takes_the_punctuation_step_only():
    assert normalise_reference('The two, mugs.') == 'The two mugs'


def test_contractions_miss_exactly_one_apostrophe():
    assert CONTRACTIONS["hed've"] == CONTRACTIONS["he'dve"] == "he'd've"
    assert CONTRACTIONS['twas'] == "'twas"
    assert CONTRACTIONS["yall'd've"] == "y'all'd've"
    assert 'shell' not in CONTRACTIONS and 'were' not in CONTRACTIONS


@given(words=st.lists(st.sampled_from(['the', 'two', 'Mug', "don't", 'dont', '2.5', 'red', 'a']), max_size=6))
def test_normalising_twice_changes_nothing(words):
    once = normalise(' '.join(words))
    assert normalise(once) == once
