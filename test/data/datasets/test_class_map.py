"""Class ids from one naming to another."""

import json

import numpy as np
import pytest

from m3et_ros.data.datasets.class_map import class_table, read_class_map, read_json
from m3et_ros.data.errors import InputError


def test_names_decide():
    table = class_table(['wall', 'sofa', 'floor'], {'floor': 0, 'wall': 2, 'moon': 7}, first=1)
    labels = np.array([[0, 1, 2, 3, 4, 65535]], np.uint16)
    assert table[labels].tolist() == [[255, 2, 255, 0, 255, 255]] and table.dtype == np.uint8


def test_a_map_takes_names_and_ids(tmp_path):
    (tmp_path / 'map.json').write_text('{"refrigerator": "fridge", "cabinet": 0}')
    assert read_class_map(tmp_path / 'map.json', ['cupboard', 'fridge']) == {'refrigerator': 1, 'cabinet': 0}


@pytest.mark.parametrize(
    ('document', 'words'),
    [
        ({'sofa': 'moon'}, "'sofa' to 'moon'"),
        ({'sofa': 2}, "'sofa' to 2"),
        ({'sofa': -1}, 'to -1'),
        ({'sofa': True}, 'to True'),
        (['sofa'], 'list'),
        ('{"sofa"', 'not JSON'),
        (None, 'that exists'),
    ],
)
def test_wrong_maps_are_one_sentence(tmp_path, document, words):
    path = tmp_path / 'map.json'
    if document is not None:
        path.write_text(document if isinstance(document, str) else json.dumps(document))
    with pytest.raises(InputError, match=words) as refused:
        read_class_map(path, ['wall', 'floor'])
    assert 'map.json' in str(refused.value)


def test_json_reads(tmp_path):
    (tmp_path / 'a.json').write_text('[1, "zwei"]')
    assert read_json(tmp_path / 'a.json') == [1, 'zwei']


def test_a_document_with_half_a_surrogate_pair_is_refused(tmp_path):
    (tmp_path / 'words.json').write_text(r'{"a": "\ud800"}')
    with pytest.raises(InputError, match=r'is not JSON or was cut off \(\\ud800 is no character\)') as refused:
        read_json(tmp_path / 'words.json')
    assert refused.value.reason == 'data_format'
