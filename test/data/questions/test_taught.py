import json
from dataclasses import asdict

import pytest

from m3et_ros.data.errors import InputError
from m3et_ros.data.kitchen.questions.taught import kitchen_taught
from m3et_ros.data.questions.taught import Taught, TaughtField, TaughtKind, taught_from

CUPS = Taught(
    {'count': TaughtKind(('How many {plural}?',), {'plural': TaughtField('noun', ('cup', 'milk'), 'many')})},
    forms={'cup': ('a cup', 'cups'), 'milk': ('a milk carton', 'milk cartons')},
)


def test_a_wording_takes_a_word_in_the_form_of_its_field():
    assert CUPS.worded(CUPS.frame['count'], {'plural': 'milk'}) == 'How many milk cartons?'
    assert CUPS.formed('milk', 'one') == 'a milk carton'
    assert CUPS.formed('spoon', 'many') == 'spoon'  # without a form it stays


def test_words_and_sorts_are_those_of_all_fields():
    assert CUPS.sorts == ('noun',)
    assert CUPS.words('noun') == ('cup', 'milk')
    assert CUPS.words('colour') == ()


@pytest.mark.parametrize('version', (1, 2))
def test_it_survives_json(version):
    taught = kitchen_taught(version=version)
    assert taught_from(json.loads(json.dumps(asdict(taught)))) == taught


@pytest.mark.parametrize(
    'values',
    (
        {},
        [],
        {'frame': {'count': {}}},
        {'frame': {'count': {'wordings': ['a'], 'fields': {'a': {'sort': 'noun', 'words': []}}}}},
        {'frame': {'count': {'wordings': ['a'], 'fields': {'a': {'sort': 'noun', 'words': ['b'], 'form': 'odd'}}}}},
        {'frame': {}, 'forms': {'cup': ['a cup']}},
    ),
)
def test_another_shape_is_refused(values):
    with pytest.raises(InputError, match=r'labels\.json') as caught:
        taught_from(values)
    assert caught.value.reason == 'model_config'
