"""The facts that a folder states are those of its checkpoint, and damage is refused."""

import json

import pytest

from m3et_ros.data.checkpoints import SHIPPED
from m3et_ros.data.checkpoints.labels import read_facts
from m3et_ros.data.checkpoints.m3et import load_checkpoint, save_checkpoint
from m3et_ros.data.errors import InputError
from m3et_ros.runtime.open_model import untrained


@pytest.fixture
def folder(tmp_path):
    save_checkpoint(tmp_path, untrained('tiny', 3), card='')
    return tmp_path


def test_the_facts_are_those_of_the_checkpoint(folder):
    for place in (folder, SHIPPED / 'm3et_kitchen'):
        facts, made = read_facts(place), load_checkpoint(place)
        assert (facts.labels, facts.model_id, facts.trained) == (made.labels, made.model_id, made.trained)
        assert facts.heads == set(made.heads) and facts.heads


@pytest.mark.parametrize(
    ('name', 'change', 'words'),
    [
        ('config.json', {'model': {'d': 'wide'}}, 'config.json is refused'),
        ('config.json', {'model_type': 'bert'}, "'bert' and not 'm3et'"),
        ('labels.json', {'sounds': []}, "no field 'sounds'"),
    ],
    ids=['config', 'kind', 'labels'],
)
def test_what_does_not_fit_is_refused(folder, name, change, words):
    stored = json.loads((folder / name).read_text())
    (folder / name).write_text(json.dumps(stored | change))
    with pytest.raises(InputError, match=words) as refused:
        read_facts(folder)
    assert refused.value.reason == 'model_config'
