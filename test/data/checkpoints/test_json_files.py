"""The JSON files of checkpoint folders."""

import json

import pytest

from m3et_ros.data.checkpoints.json_files import MAX_JSON_BYTES, check_fields, read_json, write_json
from m3et_ros.data.errors import InputError

KINDS = {'format': int, 'model': dict, 'trained': bool}
STORED = {'format': 3, 'model': {}, 'trained': False}


def refused(action, said):
    with pytest.raises(InputError, match=said) as error:
        action()
    assert error.value.reason == 'model_config'


def test_a_document_is_read_as_it_was_written_and_people_can_read_it(tmp_path):
    path = tmp_path / 'labels.json'
    write_json(path, {'answers': ['café', 2]})
    assert read_json(path) == {'answers': ['café', 2]}
    assert 'café' in path.read_text(encoding='utf-8') and path.read_text(encoding='utf-8').endswith('}\n')


def test_a_document_that_cannot_be_written_leaves_the_old_one(tmp_path):
    path = tmp_path / 'config.json'
    write_json(path, {'a': 1})
    with pytest.raises(TypeError):
        write_json(path, {'a': {1, 2}})
    assert read_json(path) == {'a': 1} and list(tmp_path.iterdir()) == [path]


def test_a_file_of_the_largest_size_is_read_and_a_byte_more_is_not(tmp_path):
    path = tmp_path / 'config.json'
    path.write_text('{}'.ljust(100))
    assert read_json(path, most=100) == {}
    refused(lambda: read_json(path, most=99), 'config.json is larger than 99 bytes')
    path.write_text('{}'.ljust(MAX_JSON_BYTES))
    assert read_json(path) == {}
    path.write_text('{}'.ljust(MAX_JSON_BYTES + 1))
    refused(lambda: read_json(path), 'larger')


@pytest.mark.parametrize(
    ('text', 'said'),
    [('', 'is not JSON'), ('{"a": ', 'is not JSON'), ('[' * 100_000, 'is not JSON'), ('[1]', 'no JSON object')],
)
def test_other_content_is_refused(tmp_path, text, said):
    (tmp_path / 'config.json').write_text(text)
    refused(lambda: read_json(tmp_path / 'config.json'), f'config.json {said}|config.json holds {said}')


def test_every_field_is_needed_in_its_type():
    check_fields(json.loads(json.dumps(STORED)), KINDS, 3)
    for name, kind in KINDS.items():
        said = f'no {name} of type {kind.__name__}'
        refused(lambda name=name: check_fields({k: v for k, v in STORED.items() if k != name}, KINDS, 3), said)
        refused(lambda name=name: check_fields(STORED | {name: 'text'}, KINDS, 3), said)


@pytest.mark.parametrize('version', [2, 4])
def test_an_older_and_a_newer_format_are_refused(version):
    refused(lambda: check_fields(STORED, KINDS, version), f'format 3 and this version reads {version}')
